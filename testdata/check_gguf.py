"""Compares what the command makes of GGUF files with what Python's packages make of them; writes nothing here.

Made with Python 3.11 and exactly these packages (computed on the CPU; any build of torch does):

    pip install torch==2.15.0 transformers==5.23.0 gguf==0.19.0 tokenizers==0.23.3 numpy==2.4.6

Run from this directory, with the command built:

    python check_gguf.py --msrnn ../target/release/msrnn            # the checkpoints and files here, some minutes
    python check_gguf.py --msrnn ../target/release/msrnn --model FILE.gguf   # one of your own

A checkpoint directory is written as a GGUF file in f32, f16, bf16 and q8_0, and a GGUF file as a directory. Then

- ``gguf.GGUFReader`` reads the written file, and every tensor, taken out of its blocks, in Hugging Face's order of rows,
  is the checkpoint's rounded as ``gguf.quants.quantize`` does, to the bit;
- transformers gives the same logits with both, and the same ids for texts, but for checkpoints of which a GGUF file, or
  transformers' reading of one, leaves something out: those are named, and say what.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from transformers import AutoModelForCausalLM, AutoTokenizer

from make_gguf import TEXTS

HERE = Path(__file__).resolve().parent
# What transformers does not read from a GGUF file.
LEFT_OUT = {
    "llama-bias": "biases",
    "llama3-rope": "frequency factors",
    "llama-linear-rope": "rope scaling",
    "llama-f16": "rope scaling",
    "mistral-window": "the sliding window",
    "phi3": "the sliding window",
}
# Whose layers a GGUF file has no words for: the command refuses them.
REFUSED = ["qwen2-window", "qwen3-window", "smollm3-window"]
# Whose rows of q and k are in pairs there.
PAIRS = ["llama", "mistral", "smollm3", "granite"]
PARTS = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_qkv": "self_attn.qkv_proj",
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
}  # fmt: skip
KINDS = {"f32": Type.F32, "f16": Type.F16, "bf16": Type.BF16, "q8_0": Type.Q8_0}


def name_of(name: str, fused: bool) -> str:
    names = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
             "output.weight": "lm_head.weight"}  # fmt: skip
    if name in names:
        return names[name]
    _, layer, part, ending = name.split(".")
    there = "mlp.gate_up_proj" if fused and part == "ffn_up" else PARTS[part]
    return f"model.layers.{layer}.{there}.{ending}"


def in_pairs(weight: np.ndarray, head: int) -> np.ndarray:
    """Rows as llama.cpp has those of q and k."""
    return weight.reshape(-1, 2, head // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def values(tensor: Any) -> np.ndarray:
    """A tensor of a file, taken out of its blocks."""
    return gguf.dequantize(tensor.data, tensor.tensor_type)


def model_of(path: Path) -> Any:
    where: dict[str, Any] = {} if path.is_dir() else {"gguf_file": path.name}
    directory = path if path.is_dir() else path.parent
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, **where).eval()


def logits(model: Any, ids: list[int]) -> np.ndarray:
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0].numpy()


def off(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def convert(args: argparse.Namespace, source: Path, out: Path, dtype: str = "f32") -> str:
    command = [args.msrnn, "convert", "--model", source, "--out", out, "--dtype", dtype]
    return subprocess.run(command, check=True, capture_output=True, text=True).stderr.strip()


def check_written(args: argparse.Namespace, source: Path, scratch: Path) -> None:
    """A directory as a GGUF file."""
    model = model_of(source)
    state = {name: weight.float().numpy() for name, weight in model.state_dict().items()}
    head = getattr(model.config, "head_dim", None) or model.config.hidden_size // model.config.num_attention_heads
    for dtype, kind in KINDS.items():
        directory = scratch / f"{source.name}-{dtype}"
        directory.mkdir()
        out = directory / "model.gguf"
        said = convert(args, source, out, dtype)
        seen = set()
        for tensor in gguf.GGUFReader(out).tensors:
            if tensor.name == "rope_freqs.weight":
                continue
            name = name_of(tensor.name, model.config.model_type == "phi3")
            seen.add(name)
            weight = state[name]
            pairs = model.config.model_type in PAIRS
            if pairs and (".attn_q." in tensor.name or ".attn_k." in tensor.name):
                weight = in_pairs(weight, head)
            if weight.ndim == 1:
                expected, wanted = weight, Type.F32
            else:
                wanted = kind if weight.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0] == 0 else Type.F16
                expected = gguf.quants.quantize(weight, wanted)
                expected = gguf.quants.dequantize(expected, wanted).reshape(weight.shape)
            assert tensor.tensor_type == wanted, (tensor.name, tensor.tensor_type)
            assert np.array_equal(values(tensor), expected), (source.name, dtype, tensor.name)
        assert seen == set(state) - ({"lm_head.weight"} if model.config.tie_word_embeddings else set()), seen
        if dtype == "f32":
            compare(source, out, model, LEFT_OUT.get(source.name), said)


def compare(source: Path, out: Path, model: Any, left_out: str | None, said: str) -> None:
    ids = np.random.default_rng(1).integers(3, model.config.vocab_size, 40).tolist()
    try:
        again = model_of(out)
    except Exception as error:
        # Without a tokenizer transformers does not know how many tokens there are.
        print(f"{source.name}: transformers does not read it as a GGUF file ({error})")
        return
    distance = off(logits(again, ids), logits(model, ids))
    if left_out is None:
        assert distance < 1e-5, (source.name, distance)
    else:
        # With what is left out being what makes the difference.
        assert distance > 1e-5, (source.name, distance)
    print(f"{source.name}: logits off by {distance:.1e}" + (f", transformers leaves out {left_out}" if left_out else ""))
    if (source / "tokenizer.json").exists():
        before = AutoTokenizer.from_pretrained(source)
        after = AutoTokenizer.from_pretrained(out.parent, gguf_file=out.name)
        differ = [text for text in TEXTS if before(text)["input_ids"] != after(text)["input_ids"]]
        print(f"    ids differ in {len(differ)} of {len(TEXTS)} texts {differ[:2]}; the command said: {said or 'nothing'}")


def check_read(args: argparse.Namespace, source: Path, scratch: Path) -> None:
    """A GGUF file as a directory."""
    out = scratch / source.stem
    convert(args, source, out)
    alone = scratch / f"{source.stem}-alone"
    alone.mkdir()
    (alone / source.name).symlink_to(source.resolve())
    theirs, ours = model_of(alone / source.name), model_of(out)
    difference = [
        name for name, weight in theirs.state_dict().items() if not torch.equal(weight, ours.state_dict()[name])
    ]
    assert not difference, difference
    ids = np.random.default_rng(1).integers(3, theirs.config.vocab_size, 40).tolist()
    distance = off(logits(ours, ids), logits(theirs, ids))
    factors = any(tensor.name == "rope_freqs.weight" for tensor in gguf.GGUFReader(source).tensors)
    assert factors or distance < 1e-6, distance
    before = AutoTokenizer.from_pretrained(alone, gguf_file=source.name)
    after = AutoTokenizer.from_pretrained(out)
    for text in TEXTS:
        # Tokens that transformers adds to a file's vocabulary are not in the directory.
        wanted = before(text)["input_ids"]
        assert after(text)["input_ids"] == wanted or max(wanted) >= theirs.config.vocab_size, (source.name, text)
    assert after.chat_template == before.chat_template
    print(f"{source.name}: every weight equal, logits off by {distance:.1e}, ids of {len(TEXTS)} texts equal")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--msrnn", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if args.model is not None:
            (check_written if args.model.is_dir() else check_read)(args, args.model, Path(scratch))
            return
        for name in ["types", "llama", "llama3", "family-qwen2-tied"]:
            check_read(args, HERE / "gguf" / f"{name}.gguf", Path(scratch))
        for source in sorted((HERE / "checkpoints").iterdir()):
            if source.name in REFUSED:
                continue
            check_written(args, source, Path(scratch))


if __name__ == "__main__":
    main()

"""Makes what checkpoints with unusual rotary scaling, and unusual files, must give.

Made with Python 3.11 and exactly these packages (computed on the CPU; any build of torch does):

    pip install torch==2.15.0 transformers==5.23.0 safetensors==0.8.0 numpy==2.4.6

Run from this directory (half a minute on one core):

    OMP_NUM_THREADS=1 python make_checkpoint_cases.py

It writes ``goldens/rope.json`` and ``goldens/files.json``, all from Hugging Face's own code in float64 with its
float32 islands widened (``make_goldens.float64_islands``), on the checkpoints of ``checkpoints/`` with another
config.json, or with tensors changed. ``goldens/configs.json`` is what ``AutoConfig`` makes of configurations.

rope.json, by case: ``base`` (the checkpoint), ``changes`` (keys of config.json), and the first six logits of some
``rows`` of ``ids``: ``forward`` (one forward pass), ``steps`` (one token at a time with a cache), ``block`` (the first
``block_tokens`` in one forward pass, the rest one at a time). files.json, by case: ``base``, ``changes``, and the
``last`` logits of ``ids``; what is done to the tensors is said by the name, here and in the test.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, Iterator

import make_goldens
from make_goldens import CHECKPOINTS, GOLDENS, float64_islands, write_json

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

TOKENS = 48
ROWS = list(range(3, TOKENS, 4))
BLOCK = 32

YARN: dict[str, Any] = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 16}
# A context that the text leaves behind.
SHORT = {"max_position_embeddings": 24}

ROPE: dict[str, tuple[str, dict[str, Any]]] = {
    "yarn": ("llama3-rope", {"rope_scaling": YARN}),
    "yarn, whole": ("llama3-rope", {"rope_scaling": YARN | {"original_max_position_embeddings": 200}}),
    "yarn, untruncated": ("llama3-rope", {"rope_scaling": YARN | {"truncate": False}}),
    "yarn, betas": ("llama3-rope", {"rope_scaling": YARN | {"beta_fast": 4, "beta_slow": 0.25}}),
    "yarn, beta 0": ("llama3-rope", {"rope_scaling": YARN | {"beta_fast": 0, "beta_slow": None}}),
    "yarn, attention_factor": ("llama3-rope", {"rope_scaling": YARN | {"attention_factor": 1.7}}),
    "yarn, mscale": ("llama3-rope", {"rope_scaling": YARN | {"mscale": 1.0, "mscale_all_dim": 0.4}}),
    "yarn, mscale alone": ("llama3-rope", {"rope_scaling": YARN | {"mscale": 2.0}}),
    "yarn, no factor": ("llama3-rope", {"rope_scaling": YARN | {"factor": None}, "max_position_embeddings": 64}),
    "yarn, context outside": (
        "llama3-rope",
        {"rope_scaling": {"type": "yarn", "factor": 4.0}, "original_max_position_embeddings": 32},
    ),
    "yarn, no context": ("llama3-rope", {"rope_scaling": {"rope_type": "yarn", "type": "yarn", "factor": 4.0}}),
    "yarn, mistral": ("mistral-window", {"rope_scaling": YARN}),
    "dynamic": ("llama3-rope", SHORT | {"rope_scaling": {"type": "dynamic", "factor": 4.0}}),
    "dynamic, new spelling": (
        "llama-gqa",
        SHORT | {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 50000.0}},
    ),
    "dynamic within the context": ("llama-gqa", {"rope_scaling": {"type": "dynamic", "factor": 4.0}}),
    "both spellings": ("llama-gqa", {"rope_scaling": {"type": "linear", "rope_type": "linear", "factor": 4.0}}),
    "empty scaling": (
        "llama-gqa",
        {"rope_scaling": {}, "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5e6}},
    ),
    "scaling before parameters": (
        "llama-gqa",
        {
            "rope_scaling": {"type": "linear", "factor": 4.0},
            "rope_parameters": {"rope_type": "default", "rope_theta": 5e6},
        },
    ),
    "theta inside": ("llama-gqa", {"rope_theta": 1e4, "rope_parameters": {"rope_theta": 5e6}}),
    "llama3 context outside": (
        "llama3-rope",
        {
            "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
            "original_max_position_embeddings": 32,
        },
    ),
}


@contextlib.contextmanager
def directory(base: str, changes: dict[str, Any]) -> Iterator[Path]:
    """A copy of a checkpoint with keys of its config.json changed; the value "absent" removes one."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "model"
        shutil.copytree(CHECKPOINTS / base, copy)
        config = json.loads((copy / "config.json").read_text()) | changes
        write_json(copy / "config.json", {key: value for key, value in config.items() if value != "absent"})
        yield copy


def load(path: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float64, attn_implementation="eager", local_files_only=True
    ).eval()


@contextlib.contextmanager
def float64_everywhere() -> Iterator[None]:
    """The islands, and numbers that are made from integers: the growth of a dynamic theta is one of them."""
    torch.set_default_dtype(torch.float64)
    try:
        with float64_islands(), torch.no_grad():
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def cached(path: Path, ids: list[int], block: int) -> np.ndarray:
    """Logits of every token, the first `block` in one pass and the rest one by one."""
    model, cache, logits = load(path), DynamicCache(), []
    pieces = [ids[:block]] + [[id] for id in ids[block:]]
    for piece in filter(None, pieces):
        logits.append(model(torch.tensor([piece]), past_key_values=cache, use_cache=True).logits[0])
    return torch.cat(logits).numpy()


def rows(logits: np.ndarray) -> list[list[float]]:
    return [[float(f"{value:.12g}") for value in logits[row, :6]] for row in ROWS]


def make_rope() -> None:
    cases = []
    rng = np.random.default_rng(make_goldens.seed_of("rope", "ids"))
    ids = [1] + rng.integers(3, 64, TOKENS - 1).tolist()
    for name, (base, changes) in ROPE.items():
        with directory(base, changes) as path, float64_everywhere():
            forward = load(path)(torch.tensor([ids]), use_cache=False).logits[0].numpy()
            steps, block = cached(path, ids, 0), cached(path, ids, BLOCK)
        depends = not np.allclose(forward, steps, rtol=1e-9, atol=1e-9)
        assert depends == (name in ("dynamic", "dynamic, new spelling")), name
        cases.append(
            {
                "name": name,
                "base": base,
                "changes": changes,
                "forward": rows(forward),
                "steps": rows(steps),
                "block": rows(block),
            }
        )
        print(f"{name:30} forward and steps differ by {np.abs(forward - steps).max():.1e}")
    write_lines(GOLDENS / "rope.json", {"ids": ids, "rows": ROWS, "block_tokens": BLOCK}, cases)


def write_lines(path: Path, head: dict[str, Any], cases: list[dict[str, Any]]) -> None:
    """A case per line."""
    lines = ",\n".join(json.dumps(case) for case in cases)
    inside = "".join(f"{json.dumps(key)}: {json.dumps(value)},\n" for key, value in head.items())
    path.write_text("{" + inside + '"cases": [\n' + lines + "\n]}\n")


# --------------------------------------------------------------------------- files


def without(prefix: str) -> Any:
    return lambda tensors: {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def doubled_head(tensors: dict[str, Any]) -> dict[str, Any]:
    return tensors | {"lm_head.weight": 2 * tensors["model.embed_tokens.weight"]}


FILES: dict[str, tuple[str, dict[str, Any], Any]] = {
    "as it is": ("llama-gqa", {}, None),
    "without model.": ("llama-gqa", {}, without("model.")),
    "model. twice": ("llama-gqa", {}, lambda tensors: {f"model.{name}": t for name, t in tensors.items()}),
    "tied, head written": (
        "llama-tied",
        {},
        lambda tensors: tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()},
    ),
    "tied, head alone": (
        "llama-tied",
        {},
        lambda tensors: {name.replace("model.embed_tokens", "lm_head"): t for name, t in tensors.items()},
    ),
    "tied, another head": ("llama-tied", {}, doubled_head),
    "fewer layers": ("llama-gqa", {"num_hidden_layers": 2}, None),
    "model_type alone": ("llama-gqa", {"architectures": None}, None),
    "no architectures": ("mistral-window", {"architectures": "absent"}, None),
    "a model without head": ("llama-tied", {"architectures": ["LlamaModel"]}, without("model.")),
    "several architectures": (
        "llama-gqa",
        {"architectures": ["LlamaForSequenceClassification", "LlamaForCausalLM"]},
        None,
    ),
    "inverse frequencies": (
        "llama-gqa",
        {},
        lambda tensors: tensors | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)},
    ),
    "epsilon by default": ("llama-gqa", {"rms_norm_eps": "absent"}, None),
    "mistral has no biases": ("mistral-window", {"attention_bias": True}, None),
}


def make_files() -> None:
    ids = make_goldens.golden_ids("llama-gqa")
    cases = []
    for name, (base, changes, change) in FILES.items():
        with directory(base, changes) as path:
            file = path / "model.safetensors"
            if change is not None:
                tensors = change(load_file(file))
                file.unlink()
                save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, file, {"format": "pt"})
            with float64_everywhere():
                logits = load(path)(torch.tensor([ids]), use_cache=False).logits[0, -1]
        last = [float(f"{value:.12g}") for value in logits.tolist()]
        cases.append({"name": name, "base": base, "changes": changes, "last": last})
        print(f"{name:30} {last[:3]}")
    write_lines(GOLDENS / "files.json", {"ids": ids}, cases)


# ------------------------------------------------------------------------- configs

# The keys that msrnn reads, as the makers of the models write them, retyped.
CONFIGS: dict[str, dict[str, Any]] = {
    "Yi-6B": {
        "architectures": ["LlamaForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
        "hidden_size": 4096, "intermediate_size": 11008, "max_position_embeddings": 4096, "model_type": "llama",
        "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 4, "pretraining_tp": 1,
        "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 5000000.0, "tie_word_embeddings": False,
        "torch_dtype": "bfloat16", "vocab_size": 64000,
    },
    "TinyLlama-1.1B": {
        "architectures": ["LlamaForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
        "hidden_size": 2048, "intermediate_size": 5632, "max_position_embeddings": 2048, "model_type": "llama",
        "num_attention_heads": 32, "num_hidden_layers": 22, "num_key_value_heads": 4, "rms_norm_eps": 1e-05,
        "rope_scaling": None, "torch_dtype": "float32", "vocab_size": 32000,
    },
    "Llama-3.2-1B": {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "bos_token_id": 128000,
        "eos_token_id": [128001, 128008, 128009], "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048,
        "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": False, "model_type": "llama",
        "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3",
        },
        "rope_theta": 500000.0, "tie_word_embeddings": True, "vocab_size": 128256,
    },
    "Mistral-7B-v0.3": {
        "architectures": ["MistralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2,
        "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 32768,
        "model_type": "mistral", "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "sliding_window": None, "tie_word_embeddings": False,
        "vocab_size": 32768,
    },
    "SmolLM2-135M": {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "bos_token_id": 0, "eos_token_id": 0,
        "hidden_act": "silu", "hidden_size": 576, "intermediate_size": 1536, "is_llama_config": True,
        "max_position_embeddings": 8192, "mlp_bias": False, "model_type": "llama", "num_attention_heads": 9,
        "num_hidden_layers": 30, "num_key_value_heads": 3, "rms_norm_eps": 1e-05, "rope_interleaved": False,
        "rope_scaling": None, "rope_theta": 100000, "tie_word_embeddings": True, "vocab_size": 49152,
    },
    "Qwen2.5-0.5B": {
        "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151643,
        "hidden_act": "silu", "hidden_size": 896, "intermediate_size": 4864, "max_position_embeddings": 32768,
        "max_window_layers": 24, "model_type": "qwen2", "num_attention_heads": 14, "num_hidden_layers": 24,
        "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768,
        "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_mrope": False, "use_sliding_window": False,
        "vocab_size": 151936,
    },
    "Qwen2 with windows": {
        "architectures": ["Qwen2ForCausalLM"], "hidden_size": 896, "max_window_layers": 3, "model_type": "qwen2",
        "num_attention_heads": 14, "num_hidden_layers": 5, "num_key_value_heads": 2, "sliding_window": 128,
        "use_sliding_window": True,
    },
    "Qwen2 with windows beyond its layers": {
        "hidden_size": 896, "max_window_layers": 5, "model_type": "qwen2", "num_attention_heads": 14,
        "num_hidden_layers": 5, "num_key_value_heads": 2, "sliding_window": 128, "use_sliding_window": True,
    },
    "Qwen3-0.6B": {
        "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
        "bos_token_id": 151643, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024,
        "intermediate_size": 3072, "max_position_embeddings": 40960, "max_window_layers": 28, "model_type": "qwen3",
        "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-06,
        "rope_scaling": None, "rope_theta": 1000000, "sliding_window": None, "tie_word_embeddings": True,
        "torch_dtype": "bfloat16", "use_sliding_window": False, "vocab_size": 151936,
    },
    "SmolLM3-3B": {
        "architectures": ["SmolLM3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
        "bos_token_id": None, "eos_token_id": 128012, "hidden_act": "silu", "hidden_size": 2048,
        "intermediate_size": 11008, "max_position_embeddings": 65536, "max_window_layers": 28, "mlp_bias": False,
        "model_type": "smollm3", "no_rope_layer_interval": 4, "no_rope_layers": [1, 1, 1, 0] * 9,
        "num_attention_heads": 16, "num_hidden_layers": 36, "num_key_value_heads": 4, "pad_token_id": 128012,
        "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 5000000.0, "sliding_window": None,
        "torch_dtype": "bfloat16", "use_sliding_window": False, "vocab_size": 128256,
    },
    "SmolLM3 with windows": {
        "model_type": "smollm3", "num_hidden_layers": 5, "no_rope_layer_interval": 2, "sliding_window": 64,
        "use_sliding_window": True,
    },
    "Phi-3-mini-4k": {
        "architectures": ["Phi3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 1,
        "embd_pdrop": 0.0, "eos_token_id": 32000, "hidden_act": "silu", "hidden_size": 3072,
        "intermediate_size": 8192, "max_position_embeddings": 4096, "model_type": "phi3", "num_attention_heads": 32,
        "num_hidden_layers": 32, "num_key_value_heads": 32, "original_max_position_embeddings": 4096,
        "pad_token_id": 32000, "resid_pdrop": 0.0, "rms_norm_eps": 1e-05, "rope_scaling": None,
        "rope_theta": 10000.0, "sliding_window": 2047, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
        "vocab_size": 32064,
    },
    "Granite-3.1-2B": {
        "architectures": ["GraniteForCausalLM"], "attention_bias": False, "attention_multiplier": 0.015625,
        "bos_token_id": 0, "embedding_multiplier": 12.0, "eos_token_id": 0, "hidden_act": "silu", "hidden_size": 2048,
        "intermediate_size": 8192, "logits_scaling": 8.0, "max_position_embeddings": 131072, "mlp_bias": False,
        "model_type": "granite", "num_attention_heads": 32, "num_hidden_layers": 40, "num_key_value_heads": 8,
        "pad_token_id": 0, "residual_multiplier": 0.22, "rms_norm_eps": 1e-05, "rope_scaling": None,
        "rope_theta": 5000000.0, "tie_word_embeddings": True, "torch_dtype": "bfloat16", "vocab_size": 49155,
    },
    "a Qwen2 that says nothing": {"model_type": "qwen2"},
    "a Qwen3 that says nothing": {"model_type": "qwen3"},
    "a SmolLM3 that says nothing": {"model_type": "smollm3"},
    "a Phi-3 that says nothing": {"model_type": "phi3"},
    "a Granite that says nothing": {"model_type": "granite"},
    "a Llama that says nothing": {"model_type": "llama"},
    "a Mistral that says nothing": {"model_type": "mistral"},
    "nulls": {
        "model_type": "llama", "bos_token_id": None, "eos_token_id": None, "num_key_value_heads": None,
        "head_dim": None, "rope_scaling": None,
    },
    "several ends": {"model_type": "llama", "eos_token_id": [5, 7]},
}


def window_of(read: Any) -> int | None:
    """The window that some layer has."""
    window = getattr(read, "sliding_window", None)
    types = getattr(read, "layer_types", None)
    return window if types is None or "sliding_attention" in types else None


def make_configs() -> None:
    cases = []
    for name, config in CONFIGS.items():
        with tempfile.TemporaryDirectory() as scratch:
            write_json(Path(scratch) / "config.json", config)
            read = AutoConfig.from_pretrained(scratch)
        rope = read.rope_parameters
        eos = read.eos_token_id
        head_dim = getattr(read, "head_dim", None) or read.hidden_size // read.num_attention_heads
        expected = {
            "model_type": read.model_type,
            "hidden_size": read.hidden_size,
            "intermediate_size": read.intermediate_size,
            "layers": read.num_hidden_layers,
            "heads": read.num_attention_heads,
            "kv_heads": read.num_key_value_heads,
            "head_dim": head_dim,
            "vocab_size": read.vocab_size,
            "max_position_embeddings": read.max_position_embeddings,
            "rms_norm_eps": read.rms_norm_eps,
            "rope_theta": float(rope["rope_theta"]),
            "tie_word_embeddings": read.tie_word_embeddings,
            "sliding_window": window_of(read),
            # As the attention layers have it.
            "attention_scale": getattr(read, "attention_multiplier", head_dim**-0.5),
            "bos_token_id": read.bos_token_id,
            "eos_token_ids": [] if eos is None else eos if isinstance(eos, list) else [eos],
        }
        # What layers are, of classes where they may differ.
        expected |= {key: getattr(read, key) for key in ("layer_types", "no_rope_layers") if hasattr(read, key)}
        cases.append({"name": name, "config": config, "expected": expected})
    write_lines(GOLDENS / "configs.json", {}, cases)


if __name__ == "__main__":
    make_rope()
    make_files()
    make_configs()

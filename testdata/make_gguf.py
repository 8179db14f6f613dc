"""Makes the small GGUF files under testdata/gguf/ and what Hugging Face transformers makes of them (deterministic).

Made with Python 3.11 and exactly these packages (computed on the CPU; any build of torch does):

    pip install torch==2.15.0 transformers==5.23.0 gguf==0.19.0 tokenizers==0.23.3 sentencepiece==0.2.3 numpy==2.4.6

Run from this directory (a minute on one core):

    OMP_NUM_THREADS=1 python make_gguf.py                     # gguf/*.gguf, goldens/gguf.json, gguf-logits.json
    OMP_NUM_THREADS=1 python make_gguf.py real FILE.gguf      # goldens/gguf-smollm2.json, of SmolLM2-135M-Instruct

Files with weights (random; scales are such that attention is peaky):

- ``types.gguf``: a matrix of every type that is read, byte-level BPE, tied output;
- ``llama.gguf``: SentencePiece-like BPE, an output of its own, grouped queries, a chat template;
- ``llama-00001-of-00003.gguf`` and so on: the same in three files;
- ``llama3.gguf``: frequency factors of Llama 3.1 (``rope_freqs``), byte-level BPE, no tokens that begin a text.

- ``family-NAME.gguf``: the checkpoint of that name, as llama.cpp's converter would write it: keys, names (those of the
  package gguf), the order of rows. Their logits are the checkpoint's, with the constants of 32 bits that the files
  have; where transformers reads the architecture from GGUF files it is asked as well, and has to agree.

Files without weights, ``vocab-NAME.gguf``, have tokenizers only. ``goldens/gguf.json`` has, by file, what
``AutoTokenizer.from_pretrained(directory, gguf_file=...)`` makes of texts; ``goldens/gguf-logits.json`` the logits of
``AutoModelForCausalLM.from_pretrained(directory, gguf_file=...)`` in float64 with float32 islands widened
(``make_goldens.float64_islands``). transformers leaves ``rope_freqs`` out, so that for ``llama3.gguf`` its model gets
the scaling that the factors were made from. It ignores ``add_space_prefix``, so that where that is false the golden
is of its own ``LlamaTokenizer(add_prefix_space=False)``.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import gguf
import numpy as np
import sentencepiece
import torch
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter, TokenType
from safetensors import safe_open
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from make_goldens import CHECKPOINTS, float64_islands, hf_logits_with

HERE = Path(__file__).resolve().parent
GGUF = HERE / "gguf"
GOLDENS = HERE / "goldens"
TOKENS = 24

TEMPLATE = "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"

# What tokenizers are learnt from, and read: several scripts, digits, code, spaces.
CORPUS = [
    "The cat sat on the mat, and the other cat, which wasn't his, sat on the other mat.",
    "In 2024 there were 1234567 of them; in 1999 only 12, and 3.14159 in between: 100%, 50% or 0%?",
    "def f(x):\n    return [y for y in range(10)\n            if y % 2 == 0 and y != x]\n\n\nclass A:\n\tpass\n",
    "Größe, Übermut und Straße; déjà vu à la façade; ¿dónde está el niño?",
    "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему.",
    "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。",
    "한국어 문장과 العربية نص قصير और हिन्दी का वाक्य।",
]

# What is read beyond these: what tokenizers differ in.
TEXTS = [
    "",
    " ",
    "   ",
    "a",
    " a",
    "  a",
    "a  b   c    d",
    "trailing ",
    "trailing   ",
    "\n",
    "\n\n\n",
    "line\nline\r\nline\r\r\n\n  line",
    "\tx\t\ty",
    "I'm you're HE'LL they'Ve it's 's",
    "1 22 333 4444 55555  6   77\n  8\n\t9",
    "x = [\n    1,\n    22,\n]",
    "😀😀 👩‍👩‍👧‍👦 🏳️‍🌈",
    "e\u0301 \u00e9 \u212b \ufb01",
    "zero\u200bwidth\u00a0nbsp\u3000ideographic\u2028sep",
    "\ufeffmark \ufffd \x00 \x7f \u0085",
    "<s>Once</s> <unk> <pad>",
    "<|im_start|>user\nHi<|im_end|>\n<|endoftext|>",
    "<think>so</think> [INST] it [/INST]",
    "<0x41><0x0A>",
    "▁literal▁sign  ▁",
    "Ġliteral Ċ sign",
    "https://example.org/a?b=c&d=%20#e_f-g",
    "!!!??? ... --- ((())) {}[]<>",
    "CamelCaseAndSNAKE_CASE ALLCAPS Ab1C2",
    "٣٤٥ ⅷ ² ½ １２３",
    "ﬀﬃ ǅ ʰ ͅ ः",
] + CORPUS


def seed_of(name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"gguf/{name}".encode()).digest()[:8], "little")


# ---------------------------------------------------------------------- vocabularies


def byte_level(specials: list[str], size: int) -> tuple[list[str], list[int], list[str]]:
    """Tokens, their types, and merges of a byte-level BPE learnt from the corpus."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(specials),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 2, trainer)
    learnt = json.loads(tokenizer.to_str())["model"]
    tokens = specials + sorted(learnt["vocab"], key=learnt["vocab"].get)
    types = [TokenType.CONTROL] * len(specials) + [TokenType.NORMAL] * len(learnt["vocab"])
    return tokens, types, [" ".join(merge) for merge in learnt["merges"]]


def sentencepiece_bpe(size: int) -> tuple[list[str], list[float], list[int]]:
    """Pieces, scores and types of a SentencePiece model of the kind BPE with byte fallback."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS[:4] * 2),
        model_writer=model,
        model_type="bpe",
        vocab_size=size,
        byte_fallback=True,
        character_coverage=0.99,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        num_threads=1,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces, scores, types = [], [], []
    for index in range(processor.get_piece_size()):
        pieces.append(processor.id_to_piece(index))
        scores.append(processor.get_score(index))
        kinds = {
            TokenType.UNKNOWN: processor.is_unknown,
            TokenType.CONTROL: processor.is_control,
            TokenType.BYTE: processor.is_byte,
        }
        types.append(next((kind for kind, of in kinds.items() if of(index)), TokenType.NORMAL))
    return pieces, scores, types


def add_byte_level(writer: GGUFWriter, pre: str | None, user: list[str] = [], bos: bool | None = None) -> int:
    """Puts a byte-level vocabulary into a file; how many tokens it has."""
    tokens, types, merges = byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"], 384)
    tokens, types = tokens + user, types + [TokenType.USER_DEFINED] * len(user)
    writer.add_tokenizer_model("gpt2")
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    if bos is not None:
        writer.add_add_bos_token(bos)
    writer.add_chat_template(TEMPLATE)
    return len(tokens)


def add_sentencepiece(writer: GGUFWriter, space: bool | None = None, bos: bool | None = None, eos: bool | None = None,
                      user: list[str] = []) -> int:  # fmt: skip
    """Puts a SentencePiece-like vocabulary into a file; how many tokens it has."""
    tokens, scores, types = sentencepiece_bpe(400)
    tokens, scores = tokens + user, scores + [0.0] * len(user)
    types = types + [TokenType.USER_DEFINED] * len(user)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    if space is not None:
        writer.add_add_space_prefix(space)
    if bos is not None:
        writer.add_add_bos_token(bos)
    if eos is not None:
        writer.add_add_eos_token(eos)
    writer.add_chat_template(TEMPLATE)
    return len(tokens)


# ---------------------------------------------------------------------------- weights

# Where a block's scales in f16 are.
SCALES = {
    Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q8_0: [0], Type.Q2_K: [80, 82],
    Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208], Type.IQ4_NL: [0],
}  # fmt: skip
DEVIATION = 0.1


def matrix(rng: np.random.Generator, rows: int, columns: int, kind: Type) -> np.ndarray:
    """Random bytes as blocks of a type, with scales that give values of the usual size; every bit pattern is used."""
    if kind not in SCALES:
        values = (rng.standard_normal((rows, columns)) * DEVIATION).astype(np.float32)
        return values if kind == Type.F32 else gguf.quants.quantize(values, kind)
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (rows * columns // elements, size), dtype=np.uint8)
    for place in SCALES[kind]:
        blocks[:, place : place + 2] = np.ones((len(blocks), 1), np.float16).view(np.uint8)
    wide = np.abs(gguf.quants.dequantize(blocks, kind)).std()
    for place in SCALES[kind]:
        scale = rng.uniform(0.5, 1.5, (len(blocks), 1)) * DEVIATION / wide * rng.choice([-1, 1], (len(blocks), 1))
        blocks[:, place : place + 2] = scale.astype(np.float16).view(np.uint8)
    return blocks.reshape(rows, columns // elements * size)


def shape(writer: GGUFWriter, d: int, ff: int, layers: int, heads: int, kv: int, head: int, theta: float) -> None:
    writer.add_context_length(256)
    writer.add_embedding_length(d)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(ff)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv)
    writer.add_rope_dimension_count(head)
    if heads * head != d:
        writer.add_key_length(head)
        writer.add_value_length(head)
    writer.add_rope_freq_base(theta)
    writer.add_layer_norm_rms_eps(1e-5)


def add_tensors(writer: GGUFWriter, name: str, d: int, ff: int, layers: int, heads: int, kv: int, head: int,
                vocab: int, kinds: list[Type], tied: bool, embedding: Type) -> None:  # fmt: skip
    rng = np.random.default_rng(seed_of(name))
    kinds = list(kinds)

    def add(name: str, rows: int, columns: int, kind: Type) -> None:
        writer.add_tensor(name, matrix(rng, rows, columns, kind), raw_dtype=kind)

    def norm(name: str) -> None:
        writer.add_tensor(name, (1 + 0.2 * rng.standard_normal(d)).astype(np.float32))

    add("token_embd.weight", vocab, d, embedding)
    for layer in range(layers):
        block = f"blk.{layer}."
        norm(block + "attn_norm.weight")
        add(block + "attn_q.weight", heads * head, d, kinds.pop(0))
        add(block + "attn_k.weight", kv * head, d, kinds.pop(0))
        add(block + "attn_v.weight", kv * head, d, kinds.pop(0))
        add(block + "attn_output.weight", d, heads * head, kinds.pop(0))
        norm(block + "ffn_norm.weight")
        add(block + "ffn_gate.weight", ff, d, kinds.pop(0))
        add(block + "ffn_up.weight", ff, d, kinds.pop(0))
        add(block + "ffn_down.weight", d, ff, kinds.pop(0))
    norm("output_norm.weight")
    if not tied:
        add("output.weight", vocab, d, Type.F32)


def finish(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip


def llama3_factors(head: int, theta: float) -> np.ndarray:
    """As llama.cpp's converter writes them."""
    frequencies = 1.0 / (theta ** (np.arange(0, head, 2, dtype=np.float32) / head))
    factors = []
    for frequency in frequencies:
        wavelength = 2 * np.pi / frequency
        turns = LLAMA3["original_max_position_embeddings"] / wavelength
        if turns > LLAMA3["high_freq_factor"]:
            factors.append(1.0)
        elif turns < LLAMA3["low_freq_factor"]:
            factors.append(LLAMA3["factor"])
        else:
            smooth = (turns - LLAMA3["low_freq_factor"]) / (LLAMA3["high_freq_factor"] - LLAMA3["low_freq_factor"])
            factors.append(1.0 / ((1 - smooth) / LLAMA3["factor"] + smooth))
    return np.array(factors, np.float32)


def weights() -> None:
    writer = GGUFWriter(GGUF / "types.gguf", "llama")
    writer.add_name("Types")
    size = dict(d=256, ff=64, layers=2, heads=2, kv=1, head=32)
    shape(writer, **size, theta=10000.0)
    vocab = add_byte_level(writer, "llama-bpe", bos=True)
    writer.add_vocab_size(vocab)
    kinds = [Type.Q2_K, Type.Q3_K, Type.Q4_K, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.F16,
             Type.Q5_K, Type.Q6_K, Type.F32, Type.IQ4_NL, Type.Q5_1, Type.BF16, Type.Q8_0]  # fmt: skip
    add_tensors(writer, "types", **size, vocab=vocab, kinds=kinds, tied=True, embedding=Type.Q8_0)
    finish(writer)

    size = dict(d=64, ff=96, layers=2, heads=4, kv=2, head=16)
    for parts in (1, 3):
        name = GGUF / "llama.gguf"
        most = 8 if parts == 3 else 0
        writer = GGUFWriter(name, "llama", split_max_tensors=most)
        writer.add_name("Llama")
        shape(writer, **size, theta=20000.0)
        vocab = add_sentencepiece(writer, space=True, bos=True, eos=False, user=["<pad>", "<think>", "  "])
        writer.add_vocab_size(vocab)
        add_tensors(writer, "llama", **size, vocab=vocab, kinds=[Type.F16] * 7 + [Type.Q8_0] * 7, tied=False,
                    embedding=Type.F16)  # fmt: skip
        finish(writer)

    size = dict(d=64, ff=96, layers=1, heads=4, kv=2, head=32)
    writer = GGUFWriter(GGUF / "llama3.gguf", "llama")
    shape(writer, **size, theta=500000.0)
    vocab = add_byte_level(writer, "smaug-bpe")
    writer.add_vocab_size(vocab)
    writer.add_tensor("rope_freqs.weight", llama3_factors(32, 500000.0))
    add_tensors(writer, "llama3", **size, vocab=vocab, kinds=[Type.F16] * 7, tied=True, embedding=Type.F16)
    finish(writer)


# Checkpoints of other architectures than Llama: as a file calls it, and whether rows of q and k are in pairs there, as in
# those that the converter derives from its Llama.
FAMILIES = {
    "qwen2-tied": ("qwen2", False),
    "qwen3-norms": ("qwen3", False),
    "smollm3": ("smollm3", True),
    "phi3": ("phi3", False),
    "granite": ("granite", True),
}
# What transformers reads, and what it leaves out of it.
READ: dict[str, dict[str, Any]] = {"qwen2-tied": {}, "qwen3-norms": {}, "phi3": {"sliding_window": None}}


def paired(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows as llama.cpp's Llama has those of q and k."""
    return weight.reshape(heads, 2, -1, weight.shape[-1]).swapaxes(1, 2).reshape(weight.shape)


def family(name: str) -> None:
    arch, pairs = FAMILIES[name]
    raw = json.loads((CHECKPOINTS / name / "config.json").read_text())
    heads, kv = raw["num_attention_heads"], raw["num_key_value_heads"]
    head = raw.get("head_dim") or raw["hidden_size"] // heads
    writer = GGUFWriter(GGUF / f"family-{name}.gguf", arch)
    writer.add_name(name)
    writer.add_context_length(raw["max_position_embeddings"])
    writer.add_embedding_length(raw["hidden_size"])
    writer.add_block_count(raw["num_hidden_layers"])
    writer.add_feed_forward_length(raw["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv)
    rope = raw.get("rope_parameters") or raw
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_layer_norm_rms_eps(raw["rms_norm_eps"])
    if "head_dim" in raw:
        writer.add_key_length(head)
        writer.add_value_length(head)
    if pairs or arch == "phi3":
        writer.add_rope_dimension_count(head)
    if raw.get("sliding_window"):
        writer.add_sliding_window(raw["sliding_window"])
    if arch == "granite":
        writer.add_attention_scale(raw["attention_multiplier"])
        writer.add_embedding_scale(raw["embedding_multiplier"])
        writer.add_residual_scale(raw["residual_multiplier"])
        writer.add_logit_scale(raw["logits_scaling"])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"t{index}" for index in range(raw["vocab_size"])])
    writer.add_token_merges([])
    writer.add_vocab_size(raw["vocab_size"])

    names = gguf.get_tensor_name_map(next(k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == arch), 8)
    with safe_open(CHECKPOINTS / name / "model.safetensors", "pt") as tensors:
        for key in tensors.keys():
            weight = tensors.get_tensor(key)
            if pairs and key.endswith(("q_proj.weight", "k_proj.weight")):
                weight = paired(weight, heads if "q_proj" in key else kv)
            part, ending = key.rsplit(".", 1)
            writer.add_tensor(f"{names.get_name(part)}.{ending}", weight.float().numpy())
    finish(writer)


def family_golden(name: str) -> dict[str, Any]:
    path, raw = GGUF / f"family-{name}.gguf", json.loads((CHECKPOINTS / name / "config.json").read_text())
    ids = np.random.default_rng(seed_of(f"family-{name}/ids")).integers(3, raw["vocab_size"], TOKENS).tolist()
    narrow = {"rms_norm_eps": float(np.float32(raw["rms_norm_eps"]))}
    logits = hf_logits_with(CHECKPOINTS / name, ids, narrow)
    if name in READ:
        # transformers does not read how wide a head is, and takes 128 of a Qwen 3; and it has Phi-3's own padding.
        keys = {key: raw[key] for key in ("head_dim", "pad_token_id") if key in raw}
        theirs, expected = logits_of(path, ids, keys=keys), hf_logits_with(CHECKPOINTS / name, ids, narrow | READ[name])
        off = np.abs(theirs - expected).max() / np.abs(expected).max()
        print(f"{name}: transformers' reading of the file is off by {off:.1e}")
        assert off < 1e-9, name
    picked = [[float(f"{value:.12g}") for value in row[::7]] for row in logits]
    return {"file": path.name, "ids": ids, "step": 7, "logits": picked}


# Tokenizers alone: how each is put into a file, and what is different about it.
VOCABULARIES: dict[str, Any] = {
    "vocab-gpt2": lambda w: add_byte_level(w, "gpt-2", bos=False),
    "vocab-unsaid": lambda w: add_byte_level(w, None),
    "vocab-smollm": lambda w: add_byte_level(w, "smollm", user=["<think>", "</think>", "[INST]"], bos=False),
    "vocab-tekken": lambda w: add_byte_level(w, "tekken", bos=True),
    "vocab-qwen2": lambda w: add_byte_level(w, "qwen2", bos=False),
    "vocab-gpt4o": lambda w: add_byte_level(w, "gpt-4o", bos=False),
    "vocab-llama-old": lambda w: add_sentencepiece(w),
    "vocab-llama-no-space": lambda w: add_sentencepiece(w, space=False, bos=False, eos=True),
    "vocab-phi3": lambda w: add_sentencepiece(w, bos=True, user=["<|end|>", "<|user|>"]),
}


def vocabularies() -> None:
    for name, add in VOCABULARIES.items():
        writer = GGUFWriter(GGUF / f"{name}.gguf", "phi3" if name == "vocab-phi3" else "llama")
        shape(writer, d=64, ff=96, layers=1, heads=4, kv=2, head=16, theta=10000.0)
        writer.add_vocab_size(add(writer))
        finish(writer)


# ---------------------------------------------------------------------------- goldens


def write_json(path: Path, document: Any) -> None:
    """One line for every text, sequence or row."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    path.write_text(text.replace('},{"', '},\n{"').replace("],[", "],\n[").replace(':[{"', ':[\n{"') + "\n")


def tokenizer_of(path: Path) -> Any:
    # Alone in a directory: transformers looks at what lies beside a file.
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / path.name).symlink_to(path.resolve())
        tokenizer = AutoTokenizer.from_pretrained(directory, gguf_file=path.name)
    if path.stem == "vocab-llama-no-space":
        from transformers import LlamaTokenizer
        from transformers.integrations.gguf import gguf_tokenizer_mapping as mapping

        _, described, config = mapping.get_gguf_tokenizer(str(path))
        made = mapping.sentencepiece_tokenizer(described, lambda **k: LlamaTokenizer(add_prefix_space=False, **k))
        made = mapping.add_gguf_special_tokens(made, described)
        tokenizer._tokenizer.pre_tokenizer = made.backend_tokenizer.pre_tokenizer
        tokenizer._tokenizer.decoder = made.backend_tokenizer.decoder
    return tokenizer


def tokenizer_golden(path: Path, texts: list[str], vocab: int) -> dict[str, Any]:
    tokenizer = tokenizer_of(path)
    rng = np.random.default_rng(seed_of(path.stem + "/ids"))
    cases = []
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        # transformers adds tokens that the file does not have (<|endoftext|>, <s>): the model has no embedding for them.
        if any(token >= vocab for token in ids):
            continue
        whole = tokenizer(text)["input_ids"]
        cases.append({"text": text, "ids": ids, "with_special": whole,
                      "decoded": tokenizer.decode(ids, skip_special_tokens=True)})  # fmt: skip
    sequences = []
    for _ in range(8):
        ids = rng.integers(0, vocab, 24).tolist()
        sequences.append({"ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=True)})
    return {
        "file": path.name,
        "bos_token": tokenizer.bos_token,
        "chat_template": tokenizer.chat_template,
        "texts": cases,
        "sequences": sequences,
    }


def vocab_of(path: Path) -> int:
    reader = gguf.GGUFReader(path)
    return len(reader.fields["tokenizer.ggml.tokens"].data)


def logits_of(path: Path, ids: list[int], change: Any = None, keys: dict[str, Any] = {}) -> np.ndarray:
    with tempfile.TemporaryDirectory() as directory, float64_islands(), torch.no_grad():
        (Path(directory) / path.name).symlink_to(path.resolve())
        config = AutoConfig.from_pretrained(directory, gguf_file=path.name)
        for key, value in keys.items():
            setattr(config, key, value)
        model = AutoModelForCausalLM.from_pretrained(
            directory, config=config, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager"
        )
        if change is not None:
            model.config.rope_parameters = model.config.rope_parameters | change
            changed = type(model)(model.config)
            changed.load_state_dict(model.state_dict())
            model = changed
        return model.double().eval()(torch.tensor([ids]), use_cache=False).logits[0].numpy()


def goldens() -> None:
    names = ["types", "llama", "llama3", *VOCABULARIES]
    paths = [GGUF / f"{name}.gguf" for name in names]
    write_json(GOLDENS / "gguf.json", [tokenizer_golden(path, TEXTS, vocab_of(path)) for path in paths])
    cases = []
    for name, change in [("types", None), ("llama", None), ("llama3", LLAMA3)]:
        path = GGUF / f"{name}.gguf"
        ids = np.random.default_rng(seed_of(name + "/ids")).integers(3, vocab_of(path), TOKENS).tolist()
        logits = logits_of(path, ids, change)
        # A few of every row: a wrong weight anywhere changes them all.
        picked = [[float(f"{value:.12g}") for value in row[::61]] for row in logits]
        cases.append({"file": path.name, "ids": ids, "step": 61, "logits": picked})
    cases += [family_golden(name) for name in FAMILIES]
    write_json(GOLDENS / "gguf-logits.json", cases)


def real(path: Path) -> None:
    golden = tokenizer_golden(path, TEXTS, vocab_of(path))
    ids = tokenizer_of(path)("".join(CORPUS))["input_ids"][:64]
    logits = logits_of(path, ids)
    golden["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    golden["logits"] = {"ids": ids, "step": 4099, "logits": [[float(f"{v:.9g}") for v in row[::4099]] for row in logits]}
    write_json(GOLDENS / "gguf-smollm2.json", golden)


if __name__ == "__main__":
    if sys.argv[1:2] == ["real"]:
        real(Path(sys.argv[2]))
    else:
        GGUF.mkdir(exist_ok=True)
        weights()
        for name in FAMILIES:
            family(name)
        vocabularies()
        goldens()

"""Makes the small tokenizers of some checkpoints under testdata/, and what they must give (deterministic).

Made with Python 3.11 and exactly these packages:

    pip install transformers==5.23.0 tokenizers==0.23.3

and, for the second column of ``goldens/bos.json`` alone, in an environment of its own,

    pip install transformers==4.57.3 tokenizers==0.22.2

Run from this directory, after ``make_goldens.py checkpoints``, which empties the checkpoints' folders:

    python make_tokenizers.py tokenizers                       # tokenizer.json and tokenizer_config.json
    python make_tokenizers.py goldens --data ../../shared/data # goldens/tokenizers.json
    python make_tokenizers.py bos                              # once with each transformers: goldens/bos.json

``goldens`` asks the library tokenizers and transformers' PreTrainedTokenizerFast, which have to agree, and transformers'
AutoTokenizer, whose LlamaTokenizer does not read normaliser and pre-tokenizer from the file but makes its own: where its
ids are others they are under ``auto``. The real tokenizers of Llama 2 and Mistral (``DIR/tokenizers``) are asked as well
and are not part of this directory.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

HERE = Path(__file__).resolve().parent
CHECKPOINTS = HERE / "checkpoints"
GOLDENS = HERE / "goldens"
IDS = 64

LETTERS = "abcdefghijklmnopqrstuvwxyz"
# é, €, 😀, a byte that no UTF-8 has, a line break, and a letter that is also a piece.
BYTES = [0x0A, 0xC3, 0xA9, 0xE2, 0x82, 0xAC, 0xF0, 0x9F, 0x98, 0x80, 0xFF, 0x61]
# With _ for the sign of a space.
MERGES = [
    "t h", "th e", "_ the", "a t", "c at", "_ cat", "_ a", "o n", "_ on", "i n", "_ in", "in g", "e r", "_ s", "_ _",
    "o u", "n d", "a nd", "_ and",
]  # fmt: skip
# Llama 3's.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)

# Checkpoint: family, whether BOS is put before a text.
TOKENIZERS = {
    "llama-tied": ("sentencepiece", True),
    "yi-theta": ("sentencepiece", False),
    "llama3-rope": ("byte-level", True),
    "qwen2-tied": ("qwen", False),
    "phi3": ("phi", True),
}
REAL = ["llama2", "mistral_v1"]

TEXTS = [
    "", " ", "the cat", " the cat", "the  cat", "a cat and the cat on the sea.", "café", "5 € 😀!", "üx", "the\ncat\n",
    "\n", "it's on, and on!", "the<s>cat", "<s>the cat", "the cat</s>", "</s>", " </s> the",
    "<|begin_of_text|>the cat", "the<|end_of_text|> cat", "cat ", "▁the", "é\nthe", "日本",
]  # fmt: skip
# What is new about a family: composition and special tokens that name no BOS; added tokens that take spaces with them.
MORE = {
    "qwen": ["cafe\u0301 e\u0301", "<|im_start|>the cat<|im_end|>\nthe", "the<|endoftext|>the", "a 12 and 345"],
    "phi": ["<|user|>\nthe cat<|end|>\n<|user|>", "the </s>  cat", "<|end|>   the", " <|user|> the", "the<|end|>"],
}


def piece(bos: str | None, eos: str | None, before: bool, behind: bool) -> dict[str, Any]:
    """A template."""
    special = lambda token: {"SpecialToken": {"id": token, "type_id": 0}}
    single = [{"Sequence": {"id": "A", "type_id": 0}}]
    tokens = {}
    if before:
        single.insert(0, special(bos))
        tokens[bos] = {"id": bos, "ids": [1], "tokens": [bos]}
    if behind:
        single.append(special(eos))
        tokens[eos] = {"id": eos, "ids": [2], "tokens": [eos]}
    pair = [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}]
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens}


def added(tokens: list[str], stripping: list[str] = []) -> list[dict[str, Any]]:
    def flags(token: str) -> dict[str, bool]:
        return dict(single_word=False, lstrip=False, rstrip=token in stripping, normalized=False, special=True)

    return [{"id": index, "content": token, **flags(token)} for index, token in enumerate(tokens)]


def pieces(first: list[str], space: str) -> tuple[dict[str, int], list[str]]:
    merges = [merge.replace("_", space) for merge in MERGES][: IDS - len(first)]
    vocab = first + [merge.replace(" ", "") for merge in merges]
    assert len(vocab) == len(set(vocab)) == IDS, len(vocab)
    return {token: index for index, token in enumerate(vocab)}, merges


def sentencepiece(bos: bool) -> dict[str, Any]:
    """The shape of Llama 2's, Mistral's and Yi's."""
    special = ["<unk>", "<s>", "</s>"]
    byte = [f"<0x{value:02X}>" for value in BYTES]
    vocab, merges = pieces(special + byte + list("▁.,'!" + LETTERS), "▁")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added(special),
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": piece("<s>", "</s>", bos, False),
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
            "vocab": vocab, "merges": merges,
        },
    }  # fmt: skip


def byte_level(bos: bool) -> dict[str, Any]:
    """The shape of Llama 3's."""
    special = ["<|pad|>", "<|begin_of_text|>", "<|end_of_text|>"]
    shown = list(range(0x21, 0x7F)) + list(range(0xA1, 0xAD)) + list(range(0xAE, 0x100))
    hidden = [value for value in range(256) if value not in shown]
    sign = lambda value: chr(value) if value in shown else chr(256 + hidden.index(value))
    letters = [letter for letter in ".,'!" + LETTERS]
    first = special + [sign(value) for value in BYTES if value != 0x61] + [sign(0x20)] + letters
    vocab, merges = pieces(first, sign(0x20))
    flags = {"add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added(special),
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", **flags},
            ],
        },
        "post_processor": {
            "type": "Sequence",
            "processors": [{"type": "ByteLevel", **flags}, piece(special[1], special[2], bos, False)],
        },
        "decoder": {"type": "ByteLevel", **flags, "use_regex": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": True,
            "vocab": vocab, "merges": merges,
        },
    }  # fmt: skip


def qwen() -> dict[str, Any]:
    """The shape of Qwen 2's and 3's: nothing is put before a text."""
    tokenizer = json.loads(
        json.dumps(byte_level(False))
        .replace("<|pad|>", "<|endoftext|>")
        .replace("<|begin_of_text|>", "<|im_start|>")
        .replace("<|end_of_text|>", "<|im_end|>")
    )
    tokenizer["normalizer"] = {"type": "NFC"}
    tokenizer["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")
    tokenizer["post_processor"] = tokenizer["post_processor"]["processors"][0]
    tokenizer["model"]["ignore_merges"] = False
    return tokenizer


def phi() -> dict[str, Any]:
    """The shape of Phi-3's: added tokens take the spaces behind them."""
    tokenizer = sentencepiece(True)
    byte = [f"<0x{value:02X}>" for value in BYTES]
    special = ["<unk>", "<s>", "</s>", "<|end|>", "<|user|>"]
    vocab, merges = pieces(special + byte + list("▁.,'!" + LETTERS), "▁")
    tokenizer["added_tokens"] = added(special, special[2:])
    tokenizer["model"] |= {"vocab": vocab, "merges": merges}
    return tokenizer


def write(path: Path, value: Any, lines: bool = False) -> None:
    if lines:
        text = "[\n" + ",\n".join(json.dumps(line, ensure_ascii=False) for line in value) + "\n]\n"
    else:
        text = json.dumps(value, ensure_ascii=False, indent=1) + "\n"
    path.write_text(text, encoding="utf-8")


def make_tokenizers() -> None:
    for name, (family, bos) in TOKENIZERS.items():
        directory = CHECKPOINTS / name
        made = {
            "sentencepiece": lambda: sentencepiece(bos),
            "byte-level": lambda: byte_level(bos),
            "qwen": qwen,
            "phi": phi,
        }[family]()
        write(directory / "tokenizer.json", made)
        sp = family in ("sentencepiece", "phi")
        config: dict[str, Any] = {"clean_up_tokenization_spaces": not sp}
        if family == "qwen":
            config = {"tokenizer_class": "Qwen2Tokenizer", "add_bos_token": False, "add_prefix_space": False}
            config |= {"bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": None}
            config |= {"clean_up_tokenization_spaces": False, "split_special_tokens": False, "errors": "replace"}
        elif sp:
            config |= {"tokenizer_class": "LlamaTokenizer", "add_bos_token": bos, "add_eos_token": False}
            config |= {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
        else:
            config |= {"tokenizer_class": "PreTrainedTokenizerFast"}
            config |= {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}
        write(directory / "tokenizer_config.json", config)


def goldens(data: Path) -> None:
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    lines = []
    places = [(f"checkpoints/{name}", CHECKPOINTS / name) for name in TOKENIZERS]
    places += [(f"tokenizers/{name}", data / "tokenizers" / name) for name in REAL]
    for name, directory in places:
        plain = Tokenizer.from_file(str(directory / "tokenizer.json"))
        ours = PreTrainedTokenizerFast.from_pretrained(directory)
        literal = PreTrainedTokenizerFast.from_pretrained(directory, split_special_tokens=True)
        auto = AutoTokenizer.from_pretrained(directory)
        size = plain.get_vocab_size()
        draw = random.Random(0)
        texts = []
        family = TOKENIZERS.get(name.removeprefix("checkpoints/"), ("",))[0]
        for text in TEXTS + MORE.get(family, []):
            ids, whole = plain.encode(text, add_special_tokens=False).ids, plain.encode(text).ids
            assert ours(text).input_ids == whole, (name, text, ours(text).input_ids, whole)
            assert ours(text, add_special_tokens=False).input_ids == ids
            decoded = plain.decode(ids)
            assert ours.decode(ids, skip_special_tokens=True) == decoded
            apart = literal(text, add_special_tokens=False).input_ids
            line = {"text": text, "ids": ids, "with_special": whole, "decoded": decoded, "literal": apart}
            if (other := auto(text).input_ids) != whole:
                line["auto"] = other
            texts.append(line)
        sequences = []
        # The first ids are special tokens and bytes, where the family has byte tokens.
        few = [*range(3), *range(3, 15), *range(15, 64)]
        if size > IDS:
            few = [*range(3), *(plain.token_to_id(f"<0x{value:02X}>") for value in BYTES), *draw.sample(range(size), 40)]
        for length in [1, 1, 1, 2, 2, 3, 5, 8, 13, 21, 34]:
            for pool in [few, few[3:15] + few[-3:]]:
                ids = [draw.choice(pool) for _ in range(length)]
                decoded = plain.decode(ids)
                assert ours.decode(ids, skip_special_tokens=True) == decoded
                sequences.append({"ids": ids, "decoded": decoded})
        lines.append({"tokenizer": name, "texts": texts, "sequences": sequences})
    write(GOLDENS / "tokenizers.json", lines, lines=True)


def bos() -> None:
    import transformers
    from transformers import AutoTokenizer

    path = GOLDENS / "bos.json"
    known = {json.dumps(line["case"]): line for line in json.loads(path.read_text())} if path.exists() else {}
    classes = ["LlamaTokenizer", "LlamaTokenizerFast", "PreTrainedTokenizerFast", None]
    flags = [(None, None), (True, None), (False, None), (True, True), (False, True), (None, True)]
    templates = {"bos": (True, False), "none": (False, False), "eos": (False, True), "both": (True, True), "null": None}
    lines = []
    for kind, (before, behind), template in itertools.product(classes, flags, templates):
        case = {"tokenizer_class": kind, "add_bos_token": before, "add_eos_token": behind, "template": template}
        with tempfile.TemporaryDirectory() as directory:
            where = templates[template]
            tokenizer = sentencepiece(True)
            tokenizer["post_processor"] = piece("<s>", "</s>", *where) if where else None
            config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
            config |= {key: value for key, value in case.items() if key != "template" and value is not None}
            write(Path(directory) / "tokenizer.json", tokenizer)
            write(Path(directory) / "tokenizer_config.json", config)
            write(Path(directory) / "config.json", {"model_type": "llama", "architectures": ["LlamaForCausalLM"]})
            ids = AutoTokenizer.from_pretrained(directory)("the").input_ids
        text = tokenizer["model"]["vocab"]["▁the"]
        line = known.get(json.dumps(case), {"case": case})
        line["transformers " + transformers.__version__] = [ids[: ids.index(text)], ids[ids.index(text) + 1 :]]
        lines.append(line)
    write(path, lines, lines=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["tokenizers", "goldens", "bos"])
    parser.add_argument("--data", type=Path, default=HERE / "../../shared/data")
    arguments = parser.parse_args()
    if arguments.what == "tokenizers":
        make_tokenizers()
    elif arguments.what == "goldens":
        goldens(arguments.data)
    else:
        bos()


if __name__ == "__main__":
    main()

"""What transformers makes of chat templates, and of logits on their way to a draw (deterministic).

Made with Python 3.11 and exactly these packages:

    pip install transformers==5.23.0 tokenizers==0.23.3 torch==2.15.0 jinja2==3.1.6

Run from this directory, after ``make_tokenizers.py tokenizers``:

    python make_chat_goldens.py templates    # goldens/chat.json, from chat/*.jinja
    python make_chat_goldens.py logits       # goldens/warpers.json

``templates`` takes the tokenizers of two checkpoints, adds the special tokens that a template writes, and asks
``apply_chat_template`` for the text and its ids. The day is a fixed one. ``logits`` asks the processors that
``generate`` puts in a row for the distribution that the next token is drawn from.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

HERE = Path(__file__).resolve().parent
GOLDENS = HERE / "goldens"
NOW = datetime.datetime(2024, 2, 9, 17, 5, 3)

CHATML = ["<|im_start|>", "<|im_end|>"]
HEADERS = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
TAGS = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]

# Template: checkpoint of the tokenizer, special tokens added, what else tokenizer_config.json says, flags of the tokens.
CASES: dict[str, tuple[str, list[str], dict[str, Any], dict[str, bool]]] = {
    "header": ("llama3-rope", HEADERS, {}, {}),
    "turns": ("llama-tied", ["[INST]", "[/INST]"], {}, {}),
    "thinking": ("llama3-rope", CHATML, {"bos_token": None, "eos_token": "<|im_end|>"}, {}),
    "lines": ("llama-tied", [], {}, {}),
    "ends": ("llama-tied", TAGS, {"eos_token": {"content": "<|end|>", "__type": "AddedToken"}}, {"rstrip": True}),
    "default": ("llama3-rope", CHATML, {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}, {}),
    "features": ("llama3-rope", CHATML, {}, {}),
}

U, A, S = "user", "assistant", "system"
CONVERSATIONS: list[list[tuple[str, str]]] = [
    [(U, "the cat")],
    [(S, "in and on"), (U, "the cat\nsat")],
    [(U, "the"), (A, "a cat"), (U, "and the ing")],
    [(S, " the "), (U, "  the cat \n"), (A, "\n\non the \n"), (U, " <b>&\"'é</b> ")],
    [(U, "the <|im_end|> </s><|eot_id|> cat"), (A, "<think>\nin\n</think>\n\non"), (U, "{{ messages }}{% raw %}")],
    [(U, "the"), (A, "<think>\nin\n</think>\n\non")],
    [(A, "the")],
    [(U, "the"), (U, "cat")],
    [(S, "the"), (S, "cat"), (U, "on")],
    [(U, "")],
]


def day() -> None:
    from transformers.utils import chat_template_utils

    class Fixed(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return NOW

    chat_template_utils.datetime = Fixed


def files(name: str) -> dict[str, Any]:
    """tokenizer.json's added tokens, and tokenizer_config.json."""
    checkpoint, added, config, flags = CASES[name]
    source = HERE / "checkpoints" / checkpoint
    made = json.loads((source / "tokenizer_config.json").read_text())
    made.update(config)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True} | flags
    return {
        "checkpoint": checkpoint,
        "added": [{"id": 64 + i, "content": content, **flags} for i, content in enumerate(added)],
        "config": {key: value for key, value in made.items() if value is not None},
    }


def tokenizer(case: dict[str, Any], templates: dict[str, str]) -> Any:
    from transformers import PreTrainedTokenizerFast

    source = json.loads((HERE / "checkpoints" / case["checkpoint"] / "tokenizer.json").read_text())
    source["added_tokens"] += case["added"]
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        (place / "tokenizer.json").write_text(json.dumps(source))
        (place / "tokenizer_config.json").write_text(json.dumps(case["config"]))
        for path, text in templates.items():
            (place / path).parent.mkdir(exist_ok=True)
            (place / path).write_text(text)
        return PreTrainedTokenizerFast.from_pretrained(place)


def asked(made: Any, conversation: list[tuple[str, str]], prompted: bool) -> dict[str, Any]:
    messages = [{"role": role, "content": content} for role, content in conversation]
    case: dict[str, Any] = {"messages": messages, "add_generation_prompt": prompted}
    try:
        text = made.apply_chat_template(messages, add_generation_prompt=prompted, tokenize=False)
        ids = made.apply_chat_template(messages, add_generation_prompt=prompted, return_dict=False)
        return case | {"text": text, "ids": ids}
    except Exception as error:  # whatever a template raises
        return case | {"error": str(error)}


def compact(value: Any, depth: int = 0) -> str:
    """JSON with a line for what is small."""
    flat = json.dumps(value, ensure_ascii=False)
    if depth == 3 or len(flat) < 110 or not isinstance(value, (dict, list)):
        return flat
    keys = [json.dumps(key) + ": " for key in value] if isinstance(value, dict) else [""] * len(value)
    values = value.values() if isinstance(value, dict) else value
    parts = [" " * (depth + 1) + key + compact(one, depth + 1) for key, one in zip(keys, values)]
    open_, close = "{}" if isinstance(value, dict) else "[]"
    return open_ + "\n" + ",\n".join(parts) + "\n" + " " * depth + close


def templates() -> None:
    day()
    golden: dict[str, Any] = {"now": NOW.isoformat(), "families": [], "places": []}
    for name in CASES:
        case = files(name)
        text = (HERE / "chat" / f"{name}.jinja").read_text()
        made = tokenizer(case, {"chat_template.jinja": text})
        runs = [asked(made, conversation, prompted) for conversation in CONVERSATIONS for prompted in (True, False)]
        golden["families"].append({"name": name, **case, "runs": runs})

    # Which of several templates counts.
    case = files("default")
    one, two = "one{{ messages[0].content }}", "two{{ messages[0].content }}"
    named = [{"name": "default", "template": two}, {"name": "tool_use", "template": one}]
    for config, extra in [
        ({"chat_template": one}, {}),
        ({"chat_template": one}, {"chat_template.jinja": two}),
        ({"chat_template": named}, {}),
        ({"chat_template": named[1:]}, {}),
        ({"chat_template": one}, {"additional_chat_templates/rag.jinja": two}),
        ({}, {"chat_template.jinja": one, "additional_chat_templates/rag.jinja": two}),
        ({}, {}),
        ({}, {"chat_template.jinja": "a\r\nb\n\n{{ messages[0].content }}\r\n"}),
    ]:
        made = tokenizer(case | {"config": case["config"] | config}, extra)
        run = asked(made, CONVERSATIONS[0], True)
        golden["places"].append({"config": config, "files": extra, "text": run.get("text"), "error": run.get("error")})
    # The names of tokens that a template may write, by class.
    golden["named"] = names_of_tokens()
    (GOLDENS / "chat.json").write_text(compact(golden) + "\n")


def names_of_tokens() -> list[dict[str, Any]]:
    from transformers import AutoTokenizer

    found = []
    source = HERE / "checkpoints" / "llama-tied"
    names = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"]
    template = "|".join("{{ %s }}" % name for name in names)
    for kind in ["LlamaTokenizer", "LlamaTokenizerFast", "PreTrainedTokenizerFast", None]:
        for said in [{}, {"bos_token": None}, {"bos_token": "the"}, {"pad_token": "</s>", "sep_token": "cat"}]:
            config = said | {"chat_template": template} | ({"tokenizer_class": kind} if kind else {})
            with tempfile.TemporaryDirectory() as directory:
                for file in ["tokenizer.json", "config.json"]:
                    (Path(directory) / file).write_text((source / file).read_text())
                (Path(directory) / "tokenizer_config.json").write_text(json.dumps(config))
                made = AutoTokenizer.from_pretrained(directory)
                text = made.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
                found.append({"config": config, "text": text})
    return found


def logits() -> None:
    import random

    import torch
    from transformers import LogitsProcessorList
    from transformers.generation import logits_process as process

    dice = random.Random(7)
    cases = []
    for number in range(60):
        vocab = dice.choice([1, 2, 5, 16, 40])
        # Eighths, so that some are equal, and every product and quotient is near no edge.
        scores = [dice.randint(-48, 48) / 8 for _ in range(vocab)]
        seen = [dice.randrange(vocab) for _ in range(dice.choice([0, 1, 3, 12]))]
        setting = {
            "repetition_penalty": dice.choice([1.0, 1.0, 1.3, 0.7, 2.0]),
            "temperature": dice.choice([1.0, 0.5, 0.7, 1.7]),
            "top_k": dice.choice([0, 0, 1, 3, 7, 100]),
            "top_p": dice.choice([1.0, 1.0, 0.91, 0.53, 0.117]),
            "min_p": dice.choice([0.0, 0.0, 0.053, 0.31, 1.0]),
        }
        row = torch.tensor([scores], dtype=torch.float64)
        ids = torch.tensor([seen], dtype=torch.int64)
        # In the order of GenerationMixin._get_logits_processor.
        steps = LogitsProcessorList()
        if setting["repetition_penalty"] != 1.0:
            steps.append(process.RepetitionPenaltyLogitsProcessor(penalty=setting["repetition_penalty"]))
        greedy = steps(ids, row.clone()).argmax().item()
        if setting["temperature"] != 1.0:
            steps.append(process.TemperatureLogitsWarper(setting["temperature"]))
        if setting["top_k"] != 0:
            steps.append(process.TopKLogitsWarper(top_k=setting["top_k"]))
        if setting["top_p"] < 1.0:
            steps.append(process.TopPLogitsWarper(top_p=setting["top_p"]))
        if setting["min_p"] > 0.0:
            steps.append(process.MinPLogitsWarper(min_p=setting["min_p"]))
        probabilities = steps(ids, row.clone()).softmax(-1)[0].tolist()
        cases.append({"logits": scores, "seen": seen, **setting, "greedy": greedy, "probabilities": probabilities})
    (GOLDENS / "warpers.json").write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["templates", "logits"])
    {"templates": templates, "logits": logits}[parser.parse_args().what]()

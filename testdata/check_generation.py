"""Compares greedy generation of the msrnn command with that of transformers on a real checkpoint.

    pip install torch==2.15.0 transformers==5.23.0
    python check_generation.py --model DIR --msrnn ../target/release/msrnn [--tokens 200] [--dtype f32]

DIR is any Hugging Face directory of a supported architecture; nothing of it is kept here. Every
prompt is encoded by either side on its own, so ids before the first new one are compared as well.
Where the ids part, the two logits between which the choice fell are printed, computed in float64:
a gap below the noise of float32 is a tie that either arithmetic may break its own way.
Ends with exit code 1 when a difference is not such a tie.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPTS = [
    "Once upon a time",
    "The capital of France is",
    "The capital of France is ",
    "def fibonacci(n):\n    ",
    "Dear Sir or Madam,\n\n",
    "1, 1, 2, 3, 5, 8,",
    "In 1905 a clerk at the patent office in Bern",
    "Die Katze sitzt auf",
    "Ein schöner Tag, sagte sie, und öffnete das Fenster.",
    "Быстрая коричневая лиса",
    "昔々あるところに",
    "القلب",
    "🙂🙃 means",
    "👩‍👩‍👧",
    "\tindented by a tab",
    "Trailing spaces   ",
    "A very long word: Donaudampfschifffahrtsgesellschaft",
    "<html>\n<body>\n",
    "SELECT name FROM users WHERE",
    "Q: What is the boiling point of water at sea level?\nA:",
]

# Relative to the largest logit; float32 sums over a few hundred channels are this uncertain.
NOISE = 1e-4


def ours(args, prompt: str) -> dict:
    command = [args.msrnn, "generate", "--model", args.model, "--prompt", prompt, "--policy", args.policy]
    command += ["--max-new-tokens", str(args.tokens), "--dtype", args.dtype, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout)


@torch.no_grad()
def gap(exact, ids: list[int], a: int, b: int) -> tuple[float, float]:
    """Difference of two logits after `ids`, and the largest logit, in float64."""
    logits = exact(torch.tensor([ids])).logits[0, -1]
    return (logits[a] - logits[b]).item(), logits.abs().max().item()


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--msrnn", default="../target/release/msrnn")
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--dtype", default="f32")
    parser.add_argument("--policy", default="full")
    args = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    exact = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float64).eval()
    ends = model.generation_config.eos_token_id
    ends = set([ends] if isinstance(ends, int) else ends or [])

    agree, ties, wrong = 0, 0, []
    for prompt in PROMPTS:
        before = tokenizer(prompt)["input_ids"]
        inputs = torch.tensor([before])
        drawn = model.generate(
            inputs, attention_mask=torch.ones_like(inputs), do_sample=False, max_new_tokens=args.tokens,
            repetition_penalty=1.0,
        )[0].tolist()
        theirs = drawn[len(before):]
        theirs = theirs[:-1] if theirs and theirs[-1] in ends else theirs
        both = [tokenizer.decode(ids, skip_special_tokens=True) for ids in (before, before + theirs)]
        text = both[1].removeprefix(both[0])

        result = ours(args, prompt)
        if result["prompt_tokens"] != len(before):
            wrong.append(f"{prompt!r}: {result['prompt_tokens']} tokens of prompt here, {len(before)} there")
        elif result["ids"] == theirs:
            if result["text"] == text:
                agree += 1
            else:
                wrong.append(f"{prompt!r}: equal ids, but text {result['text'][:80]!r} here, {text[:80]!r} there")
        else:
            mine, end = result["ids"], min(ends, default=-1)
            at = next((i for i, (a, b) in enumerate(zip(mine, theirs)) if a != b), min(len(mine), len(theirs)))
            a, b = (ids[at] if at < len(ids) else end for ids in (mine, theirs))
            difference, largest = gap(exact, before + theirs[:at], a, b)
            line = f"{prompt!r}: from new token {at} on {a} here, {b} there, {difference:+.2e} apart of {largest:.1f}"
            if abs(difference) < NOISE * largest:
                ties += 1
                print("tie  ", line)
            else:
                wrong.append(line)
        print(f"{len(theirs):4} tokens, {agree} of {len(PROMPTS)} equal so far: {prompt!r}", flush=True)
    print(f"{agree} of {len(PROMPTS)} prompts equal in ids and text, {ties} parted at a tie, {len(wrong)} wrong")
    for line in wrong:
        print("wrong", line)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

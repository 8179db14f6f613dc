"""Makes ``goldens/field.json``: what the rules of ``reference_field.py`` do to random problems of one layer.

    python make_field_goldens.py            # writes it: numpy 2.4.6 alone, a few seconds
    python make_field_goldens.py --check    # writes nothing; fails if the file is stale

``README.md`` says what is in the file.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reference_field import Policy, Problem, Run, kivi, pyramid_budgets, rows_kept, run, uniform

GOLDEN = Path(__file__).resolve().parent / "goldens" / "field.json"

PLAIN = Problem(seed=1)
GROUPED = Problem(seed=2, heads=6, kv_heads=2)
ALONE = Problem(seed=3, heads=3, kv_heads=3)
ONE = Problem(seed=4, heads=4, kv_heads=1)
LONG = Problem(seed=5, tokens=90)
EQUAL = Problem(seed=6, head_dim=4, grid=0.125, repeat=5)  # keys come again: equal scores
TWINS = Problem(seed=9, repeat=3, repeat_values=3)  # rows come again
SAME = Problem(seed=10, repeat=1, repeat_values=1)  # all rows are alike
COARSE = Problem(seed=101, grid=0.5)  # some channels do not change within a partition
NARROW = Problem(seed=123, head_dim=4)  # the denominator of the standard deviation decides
ROTARY = Problem(seed=7, theta=100.0)
SHARED_ROTARY = Problem(seed=8, heads=2, kv_heads=1, theta=10000.0)

RKV = {"last": 8, "kernel": 7, "lambda": 0.07, "similar": 0.5}


@dataclass(frozen=True)
class Case:
    problem: Problem
    policy: Policy
    k: int
    every: int | None = 1
    prompt: int = 0


def cases() -> list[Case]:
    made: list[Case] = []

    def add(name: str, problems: list[Problem], whens: list[tuple[int, int | None, int]], **parameters: Any) -> None:
        for problem in problems:
            for k, every, prompt in whens:
                made.append(Case(problem, Policy(name, parameters), k, every, prompt))

    strict = [(12, 1, 0), (5, 1, 0)]
    for name in ("knorm", "keydiff"):
        add(name, [PLAIN, GROUPED, EQUAL], strict)
        add(name, [PLAIN], [(9, 7, 0), (9, None, 23), (9, 1, 23), (9, 7, 23)])
    add("knorm", [PLAIN], [(1, 1, 0)])  # two keys are equally far from their mean: not for keydiff
    add("streaming", [ROTARY, SHARED_ROTARY], [(12, 1, 0), (5, 1, 0), (9, 1, 23)], sinks=4)
    add("streaming", [ROTARY], [(3, 1, 0), (9, 6, 0)], sinks=0)
    snap: list[tuple[int, int | None, int]] = [(12, None, 31), (12, 1, 31), (12, 1, 0), (12, 5, 0)]
    add("snapkv", [PLAIN, GROUPED], snap, window=4, kernel=3, pool="avg")
    add("snapkv", [ALONE], snap, window=6, kernel=5, pool="max")
    add("snapkv", [EQUAL], [(12, None, 31), (12, 1, 0)], window=4, kernel=3, pool="max")
    add("snapkv", [ONE], [(3, None, 31), (3, 1, 0)], window=4, kernel=3, pool="avg")
    add("adakv", [PLAIN, GROUPED], snap, window=4, kernel=3, pool="avg", safeguard=0.2)
    add("adakv", [ALONE], snap, window=3, kernel=5, pool="avg", safeguard=0.5)
    add("adakv", [ALONE], [(12, None, 31), (12, 1, 0)], window=3, kernel=3, pool="max", safeguard=0.0)
    add("adakv", [ALONE, GROUPED], [(12, None, 31), (12, 1, 0)], window=3, kernel=3, pool="avg", safeguard=0.9)
    # k below the window
    add("adakv", [PLAIN], [(3, None, 31), (3, 1, 0)], window=4, kernel=3, pool="avg", safeguard=0.2)
    add("adakv", [EQUAL], [(12, None, 31), (12, 1, 0)], window=4, kernel=1, pool="avg", safeguard=0.2)
    add("rkv", [PLAIN, GROUPED, ALONE], [(16, 8, 0), (16, None, 31), (16, 1, 0), (12, 5, 23)], **RKV)
    add("rkv", [ONE], [(10, 3, 0)], **(RKV | {"last": 3, "kernel": 3, "lambda": 0.6}))
    lag: list[tuple[int, int | None, int]] = [(18, 5, 0), (14, None, 31), (14, 5, 31), (18, 1, 0)]
    add("lagkv", [PLAIN, ALONE], lag, sinks=2, lag=5)
    add("lagkv", [EQUAL, TWINS, SAME], [(18, 5, 0)], sinks=2, lag=5)
    add("lagkv", [COARSE], [(14, None, 31)], sinks=2, lag=4)
    add("lagkv", [NARROW], [(14, None, 31)], sinks=2, lag=5)
    add("lagkv", [LONG], [(36, 16, 0)], sinks=4, lag=16)
    add("lagkv", [ONE], [(8, 4, 0)], sinks=4, lag=10)
    for when, how, threshold in [("d2o", "mean", None), ("d2o", "exp", None), ("nearest", "mean", 0.5)]:
        parameters = {"when": when, "how": how} | ({} if threshold is None else {"threshold": threshold})
        add("h2o-merge", [PLAIN, GROUPED], [(12, 1, 0)], **parameters)
        add("h2o-merge", [PLAIN], [(8, None, 23), (8, 6, 23), (1, 1, 0)], **parameters)
    add("h2o-merge", [ALONE], [(12, 1, 0)], when="nearest", how="exp", threshold=0.8)
    add("h2o-merge", [ONE], [(12, 1, 0)], when="nearest", how="mean", threshold=-1.0)
    add("h2o-merge", [GROUPED, ONE], [(12, 1, 0), (8, 6, 23)], when="d2o", how="exp", share=0.7)
    add("h2o-merge", [ALONE], [(12, 1, 0), (9, 6, 0)], when="d2o", how="mean", share=0.2)
    add("oracle", [PLAIN, GROUPED, ALONE], [(12, 1, 0), (5, 1, 0)])
    add("oracle", [PLAIN], [(9, 7, 0), (9, None, 23), (1, 1, 0)])
    add("oracle", [EQUAL], [(12, 1, 0)])
    return made


KIVI_CASES = [
    (Problem(seed=11, tokens=30), 2, 4, 8),
    (Problem(seed=11, tokens=30), 4, 4, 8),
    (Problem(seed=12, tokens=24, heads=2, kv_heads=2), 2, 8, 8),
    (Problem(seed=13, tokens=20, heads=3, kv_heads=1, head_dim=4), 4, 2, 6),
    (Problem(seed=14, tokens=20, heads=2, kv_heads=1, head_dim=4, grid=0.25, repeat=1), 2, 4, 4),
    # Prompts that are no multiple of the residual, or shorter than it.
    (Problem(seed=11, tokens=30), 2, 4, 8, 21),
    (Problem(seed=13, tokens=20, heads=3, kv_heads=1, head_dim=4), 4, 2, 6, 5),
    (Problem(seed=12, tokens=24, heads=2, kv_heads=2), 4, 8, 8, 16),
]

BUDGET_CASES = [
    (tokens, ratio, layers, window, beta)
    for tokens, window in [(31, 3), (100, 8), (1000, 64), (4097, 8)]
    for ratio in (0.1, 0.25, 0.5, 0.7, 0.9)
    for layers, beta in [(1, 20), (3, 4), (32, 20)]
]


def digits(x: Array) -> Any:
    """Twelve significant digits."""
    if np.ndim(x):
        return [digits(part) for part in x]
    return float(f"{float(x):.12g}")


def some_steps(problem: Problem) -> list[int]:
    return [problem.tokens // 2, problem.tokens - 1]


def check_case(case: Case, result: Run) -> None:
    """What must hold whatever the policy chose."""
    heads = case.problem.kv_heads
    for head, held in enumerate(result.held):
        gone = [p for _, h, p in result.omitted if h == head]
        assert sorted(held + gone) == list(range(case.problem.tokens))
    last = case.problem.tokens - 1
    total = sum(map(len, result.held))
    if case.every is None:
        assert total == heads * (case.k + last + 1 - case.prompt)
    else:
        assert heads * case.k <= total < heads * (case.k + case.every)
    if not case.policy.pooled:
        assert len({len(held) for held in result.held}) == 1


def document_of(case: Case) -> dict[str, Any]:
    try:
        result = run(case.problem, case.policy, case.k, case.every, case.prompt)
    except AssertionError as error:
        raise AssertionError(f"{case}: {error}") from error
    check_case(case, result)
    steps = some_steps(case.problem)
    one = case.policy.name in ("oracle", "streaming")
    margin = None if case.policy.name == "streaming" else result.choice.min_margin  # positions are no scores
    omitted = [[t, None, p] for t, h, p in result.omitted if h == 0] if one else result.omitted
    made = {
        "problem": case.problem.document(),
        "policy": case.policy.name,
        "parameters": case.policy.parameters,
        "k": case.k,
        "every": case.every,
        "prompt": case.prompt,
        "min_margin": None if margin is None else digits(margin),
        "ties": result.choice.ties,
        "omitted": omitted,
        "output_steps": steps,
        "outputs": digits(result.outputs[steps].reshape(len(steps), -1)),
    }
    if result.merging is not None:
        made["merged"] = result.merging.events
    return made


def kivi_document(problem: Problem, bits: int, group: int, residual: int, prompt: int = 0) -> dict[str, Any]:
    result = kivi(problem, bits, group, residual, prompt)
    steps = list(range(problem.tokens))
    return {
        "problem": problem.document(),
        "policy": "kivi",
        "parameters": {"bits": bits, "group": group, "residual": residual},
        "prompt": prompt,
        "key_rows": result["key_rows"],
        "value_rows": result["value_rows"],
        "key_codes": result["key_codes"],
        "value_codes": result["value_codes"],
        "keys": digits(result["keys"]),
        "values": digits(result["values"]),
        "output_steps": steps,
        "outputs": digits(result["outputs"][steps].reshape(len(steps), -1)),
    }


def document() -> dict[str, Any]:
    budgets = [
        {"tokens": t, "ratio": r, "layers": n, "window": w, "beta": b, "k": pyramid_budgets(t, r, n, w, b)}
        for t, r, n, w, b in BUDGET_CASES
    ]
    kept = [[t, r, rows_kept(t, r)] for t in (1, 10, 20, 30, 31, 1000) for r in (0.1, 0.3, 0.5, 0.7, 0.9, 0.99)]
    numbers = {"seed": 1, "first": digits(uniform(1, 4))}
    return {
        "uniform": numbers,
        "rows_kept": kept,
        "pyramid": budgets,
        "runs": [document_of(case) for case in cases()],
        "kivi": [kivi_document(*case) for case in KIVI_CASES],
    }


def text_of(made: dict[str, Any]) -> str:
    """One case per line."""
    parts = []
    for name, value in made.items():
        if isinstance(value, list):
            lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in value)
            parts.append(f'"{name}": [\n{lines}\n]')
        else:
            parts.append(f'"{name}": {json.dumps(value, separators=(",", ":"))}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Make goldens/field.json.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail if the file is stale")
    args = parser.parse_args()
    made = document()
    text = text_of(made)
    by_policy: dict[str, list[dict[str, Any]]] = {}
    for entry in made["runs"]:
        by_policy.setdefault(entry["policy"], []).append(entry)
    for name, entries in by_policy.items():
        margins = [entry["min_margin"] for entry in entries if entry["min_margin"] is not None]
        ties = sum(entry["ties"] for entry in entries)
        print(f"{name:10} {len(entries):2} runs, smallest margin {min(margins, default=math.nan):.1e}, {ties} ties")
    if args.check:
        assert GOLDEN.read_text() == text, "goldens/field.json is stale"
    else:
        GOLDEN.write_text(text)
        print(f"{GOLDEN.name}: {len(text)} bytes, {len(made['runs'])} runs")


if __name__ == "__main__":
    main()

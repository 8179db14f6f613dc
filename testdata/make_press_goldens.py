"""Makes ``goldens/presses.json``: what kvpress keeps of a prompt, and what the model then says.

Made with Python 3.11 and exactly these packages, in an environment of its own, since kvpress 0.5.5 wants
transformers below 5.3 (computed on the CPU; any build of torch does):

    pip install kvpress==0.5.5 transformers==5.2.0 torch==2.15.0 numpy==2.4.6 tokenizers==0.22.2 \\
                safetensors==0.8.0 accelerate==1.15.0

Run from this directory (under a minute on one core):

    OMP_NUM_THREADS=1 python make_press_goldens.py            # writes goldens/presses.json
    OMP_NUM_THREADS=1 python make_press_goldens.py --check    # writes nothing; fails if the file is stale

kvpress' own presses run on checkpoints of ``checkpoints/`` in float64, with the float32 islands of transformers and of
kvpress (RoPE tables, norms, softmax, key re-rotation) widened too. Each case is repeated before it is written by
``reference.py``'s decoder with the rules of ``reference_field.py``: same rows, and the same logits to 1e-10.
``README.md`` says what is in the file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import kvpress
import numpy as np
import torch
from kvpress.presses import snapkv_press
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, DynamicCache
from transformers import modeling_rope_utils
from transformers.utils import logging
from transformers.models.llama import modeling_llama

import reference
import reference_field as rules

Array = NDArray[np.float64]
HERE = Path(__file__).resolve().parent
GOLDEN = HERE / "goldens" / "presses.json"
CONTINUATION = 8
Kept = list[list[list[int]]]  # layer, KV head, ascending positions


# ------------------------------------------------------------------------- kvpress in float64


@contextlib.contextmanager
def float64_islands() -> Iterator[None]:
    """As in ``make_goldens.py``; kvpress and transformers 5.2 also say ``tensor.float()``."""

    class Widened(types.ModuleType):
        float = torch.float64
        float32 = torch.float64

        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

    modules = [modeling_llama, modeling_rope_utils, snapkv_press]
    narrow = torch.Tensor.float
    for module in modules:
        setattr(module, "torch", Widened("torch"))
    torch.Tensor.float = torch.Tensor.double
    try:
        yield
    finally:
        torch.Tensor.float = narrow
        for module in modules:
            setattr(module, "torch", torch)


def load(model: str) -> Any:
    """To be used inside ``float64_islands``."""
    path = HERE / "checkpoints" / model
    loaded = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64, attn_implementation="sdpa").eval()
    assert all(p.dtype == torch.float64 for p in loaded.parameters())
    return loaded


@dataclass(frozen=True)
class Case:
    """A press on a prompt; ``parameters`` in kvpress' names."""

    model: str
    press: str
    ratio: float
    prompt: int = 31
    rerotate: bool = False
    parameters: dict[str, Any] = field(default_factory=dict)

    def make(self) -> Any:
        parameters = dict(self.parameters)
        makers: dict[str, Callable[..., Any]] = {
            "knorm": kvpress.KnormPress,
            "keydiff": kvpress.KeyDiffPress,
            "snapkv": kvpress.SnapKVPress,
            "pyramidkv": kvpress.PyramidKVPress,
            "streaming": kvpress.StreamingLLMPress,
            "lagkv": kvpress.LagKVPress,
            "tova": kvpress.TOVAPress,
        }
        if self.press == "adakv":
            alpha = parameters.pop("alpha_safeguard")
            inner = kvpress.SnapKVPress(compression_ratio=self.ratio, **parameters)
            return kvpress.AdaKVPress(inner, alpha_safeguard=alpha)
        press = makers[self.press](compression_ratio=self.ratio, **parameters)
        return kvpress.KeyRerotationPress(press) if self.rerotate else press


def ids_of(model: str) -> list[int]:
    ids: list[int] = json.loads((HERE / "goldens" / f"{model}.json").read_text())["ids"]
    return ids


def rows_of(kept: torch.Tensor, whole: torch.Tensor) -> list[int]:
    """Which rows of ``whole`` the rows ``kept`` are, ascending."""
    equal = (kept[:, None, :] == whole[None, :, :]).all(dim=-1)
    assert (equal.sum(dim=1) == 1).all(), "two keys are alike"
    return sorted(equal.int().argmax(dim=1).tolist())


def run_press(model: Any, case: Case, ids: list[int]) -> tuple[Kept, Array]:
    """Rows that stay after the prompt, and the logits after each token of the continuation."""
    press = case.make()
    kept: Kept = []
    turned: list[torch.Tensor] = []  # rows kept, where keys are re-rotated and cannot be compared
    compress = press.compress

    def watched(module: Any, hidden: Any, keys: Any, values: Any, attentions: Any, kwargs: Any) -> Any:
        turned.clear()
        made = compress(module, hidden, keys, values, attentions, kwargs)
        heads = keys.shape[1]
        if turned:
            kept.append([sorted(rows.tolist()) for rows in turned[0][0]])
        elif case.press == "adakv":
            _, head, row = module.masked_key_indices
            gone = set(zip(head.tolist(), row.tolist()))
            kept.append([[j for j in range(keys.shape[2]) if (h, j) not in gone] for h in range(heads)])
        else:
            kept.append([rows_of(made[0][0, h], keys[0, h]) for h in range(heads)])
        return made

    press.compress = watched
    if case.rerotate:
        turn = press.rerotate_keys

        def watched_turn(module: Any, indices: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
            turned.append(indices)
            return turn(module, indices, keys)

        press.rerotate_keys = watched_turn
    cache = DynamicCache()
    logits = []
    with torch.no_grad():
        with press(model):
            model.model(input_ids=torch.tensor([ids[: case.prompt]]), past_key_values=cache)
        first = cache.get_seq_length() if case.rerotate else case.prompt
        for i, token in enumerate(ids[case.prompt : case.prompt + CONTINUATION]):
            out = model(
                torch.tensor([[token]]), past_key_values=cache, position_ids=torch.tensor([[first + i]])
            ).logits
            assert out.dtype == torch.float64
            logits.append(out[0, -1].numpy())
    return kept, np.array(logits)


# ------------------------------------------------------------------------- the same by reference.py


@dataclass
class Prompt:
    """What a layer held at the end of the prompt."""

    layer: int
    layers: int
    queries: Array  # (tokens, heads, d)
    keys: list[Array]  # per KV head (tokens, d)
    values: list[Array]
    weights: Array  # (heads, tokens): of the last query


class Decoder(reference.Decoder):
    """A decoder with an unbounded state that is cut from outside."""

    def __init__(self, model: str) -> None:
        super().__init__(HERE / "checkpoints" / model, reference.Policy.parse("full", None))
        self.queries: list[list[Array]] = [[] for _ in range(self.config.layers)]

    def attention(self, layer: int, prefix: str, h: Array) -> Array:
        c = self.config
        self.queries[layer].append(self.rotate(self.linear(prefix + "q_proj", h).reshape(c.heads, c.head_dim)))
        return super().attention(layer, prefix, h)

    def prompt(self, layer: int) -> Prompt:
        c, state = self.config, self.state[layer]
        keys = [np.array([row.key for row in rows]) for rows in state]
        values = [np.array([row.value for row in rows]) for rows in state]
        queries = np.array(self.queries[layer])
        group = c.heads // c.kv_heads
        last = [
            rules.softmax(keys[h // group] @ queries[-1, h] / math.sqrt(c.head_dim)) for h in range(c.heads)
        ]
        return Prompt(layer, c.layers, queries, keys, values, np.array(last))

    def keep(self, layer: int, kept: list[list[int]]) -> None:
        for rows, at in zip(self.state[layer], kept):
            rows[:] = [row for row in rows if row.position in at]

    def renumber(self, layer: int) -> None:
        """Positions by order among the rows held."""
        for rows in self.state[layer]:
            for place, row in enumerate(rows):
                now, self.now = self.now, place - row.position
                row.key = self.rotate(row.key[None])[0]
                self.now, row.position = now, place


def choose(case: Case, seen: Prompt, choice: rules.Choice) -> list[list[int]]:
    """Rows that stay by the rules of the documentation."""
    p, tokens, heads = case.parameters, len(seen.queries), len(seen.keys)
    at = list(range(tokens))
    k = rules.rows_kept(tokens, case.ratio)
    if case.press == "pyramidkv":
        k = rules.pyramid_budgets(tokens, case.ratio, seen.layers, p["window_size"], p["beta"])[seen.layer]
    group = seen.queries.shape[1] // heads

    def scores(head: int) -> Array:
        if case.press == "knorm":
            return rules.knorm_scores(seen.keys[head])
        if case.press == "keydiff":
            return rules.keydiff_scores(seen.keys[head])
        if case.press in ("snapkv", "pyramidkv", "adakv"):
            last = at[-p["window_size"] :]
            queries = seen.queries[last, head * group : (head + 1) * group]
            return rules.snapkv_scores(
                queries, last, seen.keys[head], at, p["window_size"], p["kernel_size"], "avg"
            )
        if case.press == "lagkv":
            return rules.lagkv_scores(seen.keys[head], seen.values[head], p["n_sink"], p["lag_size"])
        if case.press == "tova":
            return rules.tova_press_scores(seen.weights.copy())
        assert case.press == "streaming"
        return np.array([np.inf if j < p["n_sink"] else float(j) for j in at])

    scored = [scores(head) for head in range(heads)]
    if case.press == "adakv":
        alpha = p["alpha_safeguard"]
        safe = max(1, int(k * alpha)) if alpha > 0 else 0
        gone = choice.lowest_pooled(scored, [at] * heads, heads * (tokens - k), safe)
    else:
        gone = [choice.lowest(of_head, at, tokens - k) for of_head in scored]
    return [[j for j in at if j not in out] for out in gone]


def run_reference(case: Case, ids: list[int]) -> tuple[Kept, Array, rules.Choice]:
    decoder = Decoder(case.model)
    for token in ids[: case.prompt]:
        decoder.step(token)
    choice = rules.Choice()
    kept = []
    for layer in range(decoder.config.layers):
        kept.append(choose(case, decoder.prompt(layer), choice))
        decoder.keep(layer, kept[-1])
        if case.rerotate:
            decoder.renumber(layer)
    if case.rerotate:
        decoder.now = len(kept[0][0])
    logits = [decoder.step(token) for token in ids[case.prompt : case.prompt + CONTINUATION]]
    return kept, np.array(logits), choice


# ------------------------------------------------------------------------------ cases


MODELS = {"llama-gqa": 31, "llama-tied": 27, "yi-theta": 31}
RATIOS = (0.25, 0.5, 0.7)
# A token that comes again has a key of the same norm in the first layer, to rounding: ratios at which that is
# not asked.
NORM_RATIOS = {"llama-gqa": RATIOS, "llama-tied": (0.18, 0.42, 0.7), "yi-theta": (0.27, 0.5, 0.72)}
# Ratios at which a whole number of ranks stays: kvpress chooses at random among equal ranks.
LAGS: dict[str, tuple[dict[str, Any], tuple[float, ...]]] = {
    "llama-gqa": ({"n_sink": 2, "lag_size": 5}, (0.25, 0.38, 0.5)),
    "llama-tied": ({"n_sink": 3, "lag_size": 4}, (0.18, 0.37, 0.55)),
    "yi-theta": ({"n_sink": 2, "lag_size": 5}, (0.25, 0.38, 0.5)),
}


def cases() -> list[Case]:
    made = []
    for model, prompt in MODELS.items():
        snap = {"window_size": 4, "kernel_size": 3} if model != "llama-tied" else {"window_size": 3, "kernel_size": 5}
        for ratio in RATIOS:
            made += [
                Case(model, "keydiff", ratio, prompt),
                Case(model, "snapkv", ratio, prompt, parameters=snap),
                Case(model, "pyramidkv", ratio, prompt, parameters=snap | {"window_size": 3, "beta": 4}),
                Case(model, "adakv", ratio, prompt, parameters=snap | {"alpha_safeguard": 0.2}),
                Case(model, "streaming", ratio, prompt, parameters={"n_sink": 4}),
                Case(model, "streaming", ratio, prompt, rerotate=True, parameters={"n_sink": 4}),
                Case(model, "tova", ratio, prompt),
            ]
        made += [Case(model, "knorm", ratio, prompt) for ratio in NORM_RATIOS[model]]
        parameters, ratios = LAGS[model]
        made += [Case(model, "lagkv", ratio, prompt, parameters=parameters) for ratio in ratios]
    gqa = "llama-gqa"
    return made + [
        Case(gqa, "knorm", 0.9, 30),  # 30 * (1 - 0.9) is below 3
        Case(gqa, "knorm", 0.0, 31),
        Case(gqa, "knorm", 0.5, 31, rerotate=True),  # numbered anew in each KV head by itself
        Case("llama3-rope", "streaming", 0.5, 31, rerotate=True, parameters={"n_sink": 4}),  # scaled RoPE
        Case(gqa, "snapkv", 0.5, 31, parameters={"window_size": 7, "kernel_size": 5}),
        Case(gqa, "adakv", 0.5, 31, parameters={"window_size": 2, "kernel_size": 3, "alpha_safeguard": 0.5}),
        Case(gqa, "adakv", 0.5, 31, parameters={"window_size": 4, "kernel_size": 3, "alpha_safeguard": 0.0}),
        Case(gqa, "lagkv", 0.5, 13, parameters={"n_sink": 2, "lag_size": 6}),  # too short to be scored
    ]


def digits(x: Any) -> Any:
    """Twelve significant digits."""
    return [digits(part) for part in x] if np.ndim(x) else float(f"{float(x):.12g}")


def relative_error(a: Array, b: Array) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


def documents() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    worst: dict[str, float] = {}
    with float64_islands():
        models = {name: load(name) for name in {case.model for case in cases()}}
        for name, model in models.items():
            with torch.no_grad():
                whole = model(torch.tensor([ids_of(name)])).logits[0].numpy()
            assert relative_error(whole, np.load(HERE / "goldens" / f"{name}.logits.npy")) < 1e-12, name
        for case in cases():
            ids = ids_of(case.model)
            kept, logits = run_press(models[case.model], case, ids)
            if case.ratio == 0.0:
                kept = [[list(range(case.prompt))] * len(heads) for heads in kept]
            again, same, choice = run_reference(case, ids)
            assert again == kept, case
            error = relative_error(same, logits)
            worst[case.press] = max(worst.get(case.press, 0.0), error)
            assert error < 1e-10, (case, error)
            assert choice.ties == 0, case
            nexts = ids[case.prompt + 1 : case.prompt + CONTINUATION + 1]
            nll = [float(np.log(np.exp(row - row[token]).sum())) for row, token in zip(logits, nexts)]
            no_scores = case.press == "streaming" or case.ratio == 0.0
            made.append(
                {
                    "model": case.model,
                    "press": case.press,
                    "parameters": case.parameters,
                    "ratio": case.ratio,
                    "rerotate": case.rerotate,
                    "prompt": case.prompt,
                    "min_margin": None if no_scores or choice.min_margin is None else digits(choice.min_margin),
                    "kept": kept,
                    "nll": digits(nll),
                    "logits_last": digits(logits[-1]),
                }
            )
    print(f"{len(made)} cases, same rows by the rules, largest relative difference of logits:")
    print("  " + ", ".join(f"{press} {error:.1e}" for press, error in worst.items()))
    return made


# ------------------------------------------------------------------------- while decoding


SCORES: dict[str, Callable[[Array, Array], Array]] = {
    "knorm": lambda keys, values: rules.knorm_scores(keys),
    "keydiff": lambda keys, values: rules.keydiff_scores(keys),
    "lagkv": lambda keys, values: rules.lagkv_scores(keys, values, 3, 5),
}
# LagKV only up to its first cut, and nothing of it is written: kvpress leaves the rows in the order of their scores,
# so that its next partitions are not of neighbours, and its sinks no longer first.
DECODING = [
    ("llama-gqa", "knorm", 14, 4),  # no equal norms here and below, see NORM_RATIOS
    ("llama-bias", "knorm", 7, 1),
    ("llama-bias", "knorm", 9, 5),
    ("llama-gqa", "keydiff", 15, 4),
    ("llama-gqa", "keydiff", 12, 1),
    ("yi-theta", "keydiff", 12, 1),
    ("llama-gqa", "lagkv", 15, 4),
]


def decoding_document(model: Any, name: str, press: str, k: int, every: int) -> dict[str, Any] | None:
    """``DecodingPress`` over the whole text after a prompt of k tokens, against the rules for every n tokens."""
    ids = ids_of(name)
    base = kvpress.LagKVPress(n_sink=3, lag_size=5) if press == "lagkv" else Case(name, press, 0.0).make()
    decoder, choice, cache, logits, cuts = Decoder(name), rules.Choice(), DynamicCache(), [], 0
    with torch.no_grad(), kvpress.DecodingPress(base, compression_interval=every, target_size=k)(model):
        model(torch.tensor([ids[:k]]), past_key_values=cache)
        for token in ids[:k]:
            decoder.step(token)
        for t, token in enumerate(ids[k:], start=k):
            out = model(torch.tensor([[token]]), past_key_values=cache, position_ids=torch.tensor([[t]])).logits
            logits.append(out[0, -1].numpy())
            assert relative_error(decoder.step(token), logits[-1]) < 1e-10, (name, press, t)
            if len(decoder.state[0][0]) < k + every:
                continue
            cuts += 1
            for layer, heads in enumerate(decoder.state):
                for head, rows in enumerate(heads):
                    scores = SCORES[press](np.array([r.key for r in rows]), np.array([r.value for r in rows]))
                    gone = choice.lowest(scores, [row.position for row in rows], every)
                    rows[:] = [row for row in rows if row.position not in gone]
                    theirs = sorted(cache.layers[layer].keys[0, head].tolist())
                    ours = sorted(row.key.tolist() for row in rows)
                    assert np.allclose(theirs, ours, rtol=1e-9, atol=1e-12), (name, press, t, layer, head)
            if press == "lagkv":
                return None
    assert cuts == (len(ids) - k) // every and choice.ties == 0, (name, press, choice)
    nll = [float(np.log(np.exp(row - row[token]).sum())) for row, token in zip(logits, ids[k + 1 :])]
    return {
        "model": name,
        "press": press,
        "parameters": {},
        "k": k,
        "every": every,
        "min_margin": digits(choice.min_margin),
        "kept": [[[row.position for row in rows] for rows in heads] for heads in decoder.state],
        "nll": digits(nll),
        "logits_last": digits(logits[-1]),
    }


def decoding_documents() -> list[dict[str, Any]]:
    with float64_islands():
        models = {name: load(name) for name in {case[0] for case in DECODING}}
        made = [decoding_document(models[case[0]], *case) for case in DECODING]
    print(f"DecodingPress: {len(made)} cases, same rows by the rules")
    return [entry for entry in made if entry is not None]


def check_budgets() -> None:
    """kvpress' arithmetic of budgets and the rules', over many numbers."""
    count = 0
    for tokens in (*range(1, 80), 1000, 4097):
        for ratio in np.linspace(0.01, 0.99, 99).tolist():
            assert rules.rows_kept(tokens, ratio) == kvpress.utils.compute_n_kept(tokens, ratio)
            for layers, window, beta in [(1, 4, 20), (3, 3, 4), (32, 8, 20)]:
                press = kvpress.PyramidKVPress(ratio, window, 5, beta)
                config = types.SimpleNamespace(num_hidden_layers=layers)
                theirs = [
                    press.get_layer_budget(types.SimpleNamespace(config=config, layer_idx=layer), tokens)
                    for layer in range(layers)
                ]
                assert theirs == rules.pyramid_budgets(tokens, ratio, layers, window, beta)
                count += 1
    print(f"budgets: the same in {count} cases")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make goldens/presses.json.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail if the file is stale")
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    assert kvpress.__file__ and torch.__version__.startswith("2.15.0")
    check_budgets()
    parts = {"after_prompt": documents(), "decoding": decoding_documents()}
    texts = []
    for name, part in parts.items():
        lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in part)
        texts.append(f'"{name}": [\n{lines}\n]')
    text = "{\n" + ",\n".join(texts) + "\n}\n"
    by_press: dict[str, list[float]] = {}
    for entry in parts["after_prompt"] + parts["decoding"]:
        by_press.setdefault(entry["press"], []).append(entry["min_margin"] or math.inf)
    for name, margins in by_press.items():
        print(f"{name:10} {len(margins):2} cases, smallest margin {min(margins):.1e}")
    if args.check:
        assert GOLDEN.read_text() == text, "goldens/presses.json is stale"
    else:
        GOLDEN.write_text(text)
        print(f"{GOLDEN.name}: {len(text)} bytes")


if __name__ == "__main__":
    main()

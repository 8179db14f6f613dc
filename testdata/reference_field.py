"""Plain numpy float64 reference of the policies of the field, on random problems of one layer.

Written from the text of ``docs/policies-of-the-field.md`` alone, to be read and not to be fast: one token at a
time, every state row is an object in a list, omitting a row deletes that object. Part 1 are the rules as functions
of plain arrays, part 2 runs them; ``make_field_goldens.py`` writes ``goldens/field.json`` with it.

Requires numpy only. Steps, heads and positions are counted from 0. A run is refused if scores either side of a
decision differ, but by less than 1e-9 of them: other orders of summation must not decide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LEAST_MARGIN = 1e-9


# --------------------------------------------------------------------------- 1. rules
# Rows are always in the order of their positions.


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max())
    return e / e.sum()


def rows_kept(tokens: int, ratio: float) -> int:
    """k of kvpress' compression ratio."""
    return max(1, int(tokens * (1 - ratio)))


def pyramid_budgets(tokens: int, ratio: float, layers: int, window: int, beta: int) -> list[int]:
    """Rows that each layer keeps."""
    mean = (window + tokens * (1 - ratio)) - window
    low = mean / beta
    high = mean * 2 - low
    if high >= tokens - window:
        high = tokens - window
        low = mean * 2 - high
    if not tokens >= high >= low >= window:
        return [max(1, round(tokens * (1 - ratio)))] * layers
    step = (high - low) / (layers - 1) if layers > 1 else 0.0
    return [round(high - layer * step) for layer in range(layers)]


def knorm_scores(keys: Array) -> Array:
    return np.array([-math.sqrt(sum(x * x for x in key)) for key in keys.tolist()])


def keydiff_scores(keys: Array) -> Array:
    norms = [math.sqrt(sum(x * x for x in key)) for key in keys.tolist()]
    anchor = sum(key / max(norm, 1e-12) for key, norm in zip(keys, norms)) / len(keys)
    length = max(math.sqrt(sum(x * x for x in anchor.tolist())), 1e-8)
    dots = [sum(x * a for x, a in zip(key, anchor.tolist())) for key in keys.tolist()]
    return np.array([-dot / (max(norm, 1e-8) * length) for dot, norm in zip(dots, norms)])


def pool(row: Array, kernel: int, kind: str) -> Array:
    """Pooling along a row with stride 1: ``avg`` counts zeros outside, ``max`` ignores what is outside."""
    reach = kernel // 2
    pooled = []
    for j in range(len(row)):
        near = row[max(0, j - reach) : j + reach + 1]
        pooled.append(near.sum() / kernel if kind == "avg" else near.max())
    return np.array(pooled)


def window_weights(queries: Array, query_positions: list[int], keys: Array, positions: list[int]) -> Array:
    """Weights (queries, rows) of one query head: each query sees the rows that are not later than itself."""
    logits = queries @ keys.T / math.sqrt(keys.shape[1])
    seen = np.array([[p <= q for p in positions] for q in query_positions])
    return np.array([softmax(row) for row in np.where(seen, logits, -np.inf)])


def snapkv_scores(
    queries: Array, query_positions: list[int], keys: Array, positions: list[int], window: int, kernel: int, kind: str
) -> Array:
    """Scores of the rows of one KV head; queries (queries, group, d) are the last ``window`` ones."""
    now = query_positions[-1]
    prefix = [j for j, p in enumerate(positions) if p <= now - window]
    scores = np.full(len(positions), np.inf)
    if not prefix:
        return scores
    group = queries.shape[1]
    pooled = []
    for h in range(group):
        mean = window_weights(queries[:, h], query_positions, keys, positions).mean(axis=0)
        pooled.append(pool(mean[: len(prefix)], kernel, kind))
    scores[: len(prefix)] = sum(pooled) / group
    return scores


def tova_press_scores(weights: Array) -> Array:
    """From the weights (heads, rows) of the last query; the last row is protected."""
    scores = weights.mean(axis=0)
    scores[-1] = np.inf
    return scores


def lagkv_scores(keys: Array, values: Array, sinks: int, lag: int) -> Array:
    """Sinks are infinite, so that they stay though they are old; the tail has 1."""
    rows = len(keys)
    scores = np.ones(rows)
    scores[:sinks] = np.inf
    if rows < sinks + 2 * lag:
        for j in range(sinks, rows):
            scores[j] = (j - sinks) / (rows - sinks)
        return scores
    for partition in range((rows - sinks) // lag - 1):
        first = sinks + partition * lag
        total = np.zeros(lag)
        for x in (keys, values):
            here, there = x[first : first + lag], x[first + lag : first + 2 * lag]
            low, high = there.min(axis=0), there.max(axis=0)
            span = high - low
            relative = np.where(span == 0, 0.0, (here - low) / np.where(span == 0, 1.0, span))
            total += softmax(relative.std(axis=1, ddof=1)) / 2
        for rank, j in enumerate(sorted(range(lag), key=lambda j: (total[j], j))):
            scores[first + j] = rank / lag
    return scores


@dataclass
class Rkv:
    """Parameters of R-KV."""

    last: int = 8
    kernel: int = 7
    mix: float = 0.07
    similar: float = 0.5

    def scores(self, queries: Array, keys: Array, positions: list[int], now: int) -> Array:
        """queries (last, group, d)"""
        rows = len(positions)
        prefix = [j for j, p in enumerate(positions) if p <= now - self.last]
        scores = np.full(rows, np.inf)
        if not prefix:
            return scores
        n = len(prefix)
        logits = np.array([[(q @ keys[:n].T) for q in group] for group in queries]) / math.sqrt(keys.shape[1])
        importance = pool(np.array([softmax(row) for row in logits.max(axis=1)]).mean(axis=0), self.kernel, "max")
        unit = [key / (math.sqrt(float(key @ key)) + 1e-8) for key in keys]
        cosine = np.array([[0.0 if i == j else float(unit[i] @ unit[j]) for j in range(rows)] for i in range(rows)])
        for i in range(rows):
            near = [j for j in range(rows) if cosine[i, j] > self.similar]
            cosine[i, near[-1] if near else 0] = 0.0
        redundancy = softmax(cosine.mean(axis=0))[:n]
        scores[:n] = self.mix * importance - (1 - self.mix) * redundancy
        return scores


@dataclass
class Choice:
    """How close decisions were."""

    min_margin: float | None = None
    ties: int = 0

    def note(self, gone: float, kept: float) -> None:
        if gone == kept:
            self.ties += 1
        elif math.isfinite(gone) and math.isfinite(kept):
            margin = (kept - gone) / max(abs(kept), abs(gone))
            assert margin > LEAST_MARGIN, f"scores {gone} and {kept} are too close"
            self.min_margin = margin if self.min_margin is None else min(self.min_margin, margin)

    def lowest(self, scores: Array, positions: list[int], count: int) -> list[int]:
        """Positions of the ``count`` lowest scores, ascending; on equal ones the oldest."""
        order = sorted(range(len(positions)), key=lambda j: (scores[j], positions[j]))
        if 0 < count < len(order):
            self.note(float(scores[order[count - 1]]), float(scores[order[count]]))
        return sorted(positions[j] for j in order[:count])

    def lowest_pooled(
        self, scores: list[Array], positions: list[list[int]], count: int, safe: int
    ) -> list[list[int]]:
        """The same over all heads of a layer, ``safe`` best of each head apart; older first, then lower head."""
        entries: list[tuple[float, int, int]] = []
        for head, (of_head, at) in enumerate(zip(scores, positions)):
            best = sorted(range(len(at)), key=lambda j: (of_head[j], at[j]), reverse=True)[:safe]
            entries += [(np.inf if j in best else float(of_head[j]), at[j], head) for j in range(len(at))]
            if len(at) > safe > 0 and math.isfinite(np.sort(of_head)[-safe]):
                self.note(float(np.sort(of_head)[-safe - 1]), float(np.sort(of_head)[-safe]))
        entries.sort()
        if 0 < count < len(entries):
            self.note(entries[count - 1][0], entries[count][0])
        return [sorted(p for _, p, h in entries[:count] if h == head) for head in range(len(scores))]


# ------------------------------------------------------------------------ 2. problems


MASK = (1 << 64) - 1


def uniform(seed: int, count: int) -> Array:
    """``count`` numbers in [-1, 1): SplitMix64 from ``seed``, upper 53 bits."""
    numbers = np.empty(count)
    state = seed
    for i in range(count):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        z ^= z >> 31
        numbers[i] = (z >> 11) / (1 << 53) * 2.0 - 1.0
    return numbers


@dataclass(frozen=True)
class Problem:
    """Queries, keys and values of one layer, as attended to (see ``theta``)."""

    seed: int
    tokens: int = 40
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 8
    grid: float | None = None  # everything is rounded down to a multiple of this: sums are exact, ties are real
    repeat: int | None = None  # the key of position t is that of t mod repeat
    repeat_values: int | None = None  # so are values
    theta: float | None = None  # RoPE: queries and keys are before it, frequencies theta^(-2f/d), rotate-half

    def arrays(self) -> tuple[Array, Array, Array]:
        """queries (tokens, heads, d), keys and values (tokens, kv_heads, d)"""
        t, d = self.tokens, self.head_dim
        sizes = [t * self.heads * d, t * self.kv_heads * d, t * self.kv_heads * d]
        flat = uniform(self.seed, sum(sizes))
        q, k, v = np.split(flat, np.cumsum(sizes)[:-1])
        queries = 3.0 * q.reshape(t, self.heads, d)
        keys = k.reshape(t, self.kv_heads, d).copy()
        keys[..., : d // 2] += 0.5
        values = v.reshape(t, self.kv_heads, d)
        if self.grid is not None:
            queries, keys, values = (np.floor(x / self.grid) * self.grid for x in (queries, keys, values))
        if self.repeat is not None:
            keys = keys[np.arange(t) % self.repeat]
        if self.repeat_values is not None:
            values = values[np.arange(t) % self.repeat_values]
        return queries, keys, values

    def document(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}


def rotated(x: Array, position: int, theta: float) -> Array:
    """Rotate-half RoPE of the last axis."""
    half = x.shape[-1] // 2
    angle = position * theta ** -(np.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], axis=-1)


@dataclass(eq=False)
class Row:
    """One single-state of one KV head."""

    position: int
    key: Array
    value: Array
    accumulated: float = 0.0


@dataclass
class Layer:
    """A layer at one step, after its attention: what rules may look at."""

    problem: Problem
    queries: Array  # of all positions so far and later; a rule uses those up to ``now``
    now: int
    k: int
    state: list[list[Row]]
    weights: list[Array]  # per KV head (group, rows): of the query of ``now``
    choice: Choice
    first_pass: Array | None = None

    @property
    def group(self) -> int:
        return self.problem.heads // self.problem.kv_heads

    def positions(self, head: int) -> list[int]:
        return [row.position for row in self.state[head]]

    def keys(self, head: int) -> Array:
        return np.array([row.key for row in self.state[head]])

    def values(self, head: int) -> Array:
        return np.array([row.value for row in self.state[head]])

    def last_queries(self, head: int, count: int) -> tuple[Array, list[int]]:
        """Queries (queries, group, d) of the last positions, and these."""
        at = list(range(max(0, self.now + 1 - count), self.now + 1))
        return self.queries[at, head * self.group : (head + 1) * self.group], at

    def excess(self, head: int) -> int:
        return max(0, len(self.state[head]) - self.k)


Omitted = list[list[int]]  # per KV head, ascending


@dataclass(frozen=True)
class Policy:
    """A policy by name with its parameters."""

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def pooled(self) -> bool:
        return self.name == "adakv"

    def scores(self, layer: Layer, head: int) -> Array:
        p = self.parameters
        if self.name == "knorm":
            return knorm_scores(layer.keys(head))
        if self.name == "keydiff":
            return keydiff_scores(layer.keys(head))
        if self.name in ("snapkv", "adakv"):
            queries, at = layer.last_queries(head, p["window"])
            keys, positions = layer.keys(head), layer.positions(head)
            return snapkv_scores(queries, at, keys, positions, p["window"], p["kernel"], p["pool"])
        if self.name == "rkv":
            rule = Rkv(p["last"], p["kernel"], p["lambda"], p["similar"])
            queries, _ = layer.last_queries(head, p["last"])
            return rule.scores(queries, layer.keys(head), layer.positions(head), layer.now)
        if self.name == "lagkv":
            return lagkv_scores(layer.keys(head), layer.values(head), p["sinks"], p["lag"])
        if self.name == "streaming":
            return np.array([np.inf if at < p["sinks"] else float(at) for at in layer.positions(head)])
        if self.name == "oracle":
            assert layer.first_pass is not None
            later = layer.first_pass[layer.now + 1 :].sum(axis=0)
            return np.array([later[at] for at in layer.positions(head)])
        if self.name == "h2o-merge":
            safe = layer.now - (layer.k - layer.k // 2)
            return np.array([np.inf if r.position > safe else r.accumulated for r in layer.state[head]])
        raise ValueError(self.name)

    def omit(self, layer: Layer) -> Omitted:
        """Positions that go, per KV head."""
        heads = range(len(layer.state))
        scores = [self.scores(layer, head) for head in heads]
        at = [layer.positions(head) for head in heads]
        if self.pooled:
            share = self.parameters["safeguard"]
            safe = max(1, int(layer.k * share)) if share > 0 else 0
            return layer.choice.lowest_pooled(scores, at, sum(map(len, at)) - len(at) * layer.k, safe)
        if self.name in ("oracle", "streaming"):  # one decision per layer
            return [layer.choice.lowest(scores[0], at[0], layer.excess(0))] * len(at)
        return [layer.choice.lowest(scores[head], at[head], layer.excess(head)) for head in heads]


@dataclass
class Merging:
    """How omitted rows go into kept ones; one object per run, since a threshold is carried."""

    when: str  # nearest or d2o
    how: str  # mean or exp
    threshold: float | None
    share: float = 0.5  # of each cut's mean in d2o's threshold
    events: list[list[Any]] = field(default_factory=list)

    def merge(self, layer: Layer, omitted: Omitted) -> None:
        """Changes kept rows; the omitted ones are still in the state."""
        partners: list[list[tuple[Row, Row, float]]] = []
        for rows, gone in zip(layer.state, omitted):
            kept = [row for row in rows if row.position not in gone]
            pairs = []
            for out in (row for row in rows if row.position in gone):
                cosines = [cosine(out.key, row.key) for row in kept]
                best = max(range(len(kept)), key=lambda j: (cosines[j], -kept[j].position))
                if len(kept) > 1:
                    layer.choice.note(sorted(cosines)[-2], cosines[best])
                pairs.append((out, kept[best], cosines[best]))
            partners.append(pairs)
        count = len(partners[0])
        if count == 0:
            return
        if self.when == "d2o":
            mean = float(np.mean([u for pairs in partners for _, _, u in pairs]))
            self.threshold = mean if self.threshold is None else (1 - self.share) * self.threshold + self.share * mean
            # Over the KV heads: the i-th omitted rows of all heads go together.
            asked = [float(np.mean([pairs[i][2] for pairs in partners])) for i in range(count)]
            asks = [asked] * len(partners)
        else:
            asks = [[u for _, _, u in pairs] for pairs in partners]
        assert self.threshold is not None
        for head, (pairs, ask) in enumerate(zip(partners, asks)):
            into: dict[int, list[tuple[Row, float]]] = {}
            for i, (out, partner, u) in enumerate(pairs):
                if ask[i] != self.threshold:  # equal at d2o's first single row, which is its own threshold
                    assert abs(ask[i] - self.threshold) > LEAST_MARGIN, "too close to the threshold"
                merged = ask[i] >= self.threshold
                self.events.append([layer.now, head, out.position, partner.position if merged else None])
                if merged:
                    into.setdefault(partner.position, []).append((out, u))
            for row in layer.state[head]:
                if row.position in into:
                    row.key, row.value = self.mixed(row, into[row.position])

    def mixed(self, row: Row, others: list[tuple[Row, float]]) -> tuple[Array, Array]:
        if self.how == "mean":
            own, total, parts = 1.0, 1.0 + len(others), [(other, u) for other, u in others]
        else:
            parts = [(other, math.exp(u)) for other, u in others]
            own, total = math.e, math.e + sum(w for _, w in parts)
        key = (own * row.key + sum(w * other.key for other, w in parts)) / total
        value = (own * row.value + sum(w * other.value for other, w in parts)) / total
        return key, value


def cosine(a: Array, b: Array) -> float:
    return float(a @ b) / (math.sqrt(float(a @ a)) * math.sqrt(float(b @ b)))


def attend(layer: Layer, in_state: bool) -> Array:
    """Sets ``layer.weights``; outputs (heads, d)."""
    p, outputs = layer.problem, []
    layer.weights = []
    for head, rows in enumerate(layer.state):
        queries = layer.queries[layer.now, head * layer.group : (head + 1) * layer.group]
        keys = layer.keys(head)
        if in_state:
            assert p.theta is not None
            queries = rotated(queries, len(rows) - 1, p.theta)
            keys = np.array([rotated(key, i, p.theta) for i, key in enumerate(keys)])
        weights = np.array([softmax(keys @ q / math.sqrt(p.head_dim)) for q in queries])
        layer.weights.append(weights)
        outputs += [w @ layer.values(head) for w in weights]
    return np.array(outputs)


def full_attention(problem: Problem) -> Array:
    """Weights (queries, rows) of a full pass, mean over all query heads of the layer."""
    queries, keys, _ = problem.arrays()
    group = problem.heads // problem.kv_heads
    mean = np.zeros((problem.tokens, problem.tokens))
    for h in range(problem.heads):
        for t in range(problem.tokens):
            logits = keys[: t + 1, h // group] @ queries[t, h] / math.sqrt(problem.head_dim)
            mean[t, : t + 1] += softmax(logits) / problem.heads
    return mean


@dataclass
class Run:
    """What a policy did to a problem."""

    outputs: Array  # (tokens, heads, d)
    omitted: list[list[int]]  # [step, head, position]
    held: list[list[int]]  # per KV head, at the end
    choice: Choice
    merging: Merging | None


def run(problem: Problem, policy: Policy, k: int, every: int | None, prompt: int) -> Run:
    """Step by step; no cut inside the prompt, one at its end, then one whenever k + every rows are held."""
    queries, keys, values = problem.arrays()
    state: list[list[Row]] = [[] for _ in range(problem.kv_heads)]
    layer = Layer(problem, queries, 0, k, state, [], Choice())
    if policy.name == "oracle":
        layer.first_pass = full_attention(problem)
    merging = None
    if policy.name == "h2o-merge":
        p = policy.parameters
        merging = Merging(p["when"], p["how"], p.get("threshold"), p.get("share", 0.5))
    outputs, omitted = [], []
    for t in range(problem.tokens):
        layer.now = t
        for head, rows in enumerate(state):
            rows.append(Row(t, keys[t, head], values[t, head]))
        outputs.append(attend(layer, in_state=policy.name == "streaming"))
        for rows, weights in zip(state, layer.weights):
            for row, received in zip(rows, weights.mean(axis=0).tolist()):
                row.accumulated += received
        mean_rows = sum(map(len, state)) / len(state)
        at_end = t + 1 == prompt
        due = t + 1 > prompt and every is not None and mean_rows >= k + every
        if not (at_end and mean_rows > k) and not due:
            continue
        gone = policy.omit(layer)
        if merging is not None:
            merging.merge(layer, gone)
        for head, positions in enumerate(gone):
            omitted += [[t, head, position] for position in positions]
            state[head][:] = [row for row in state[head] if row.position not in positions]
    held = [layer.positions(head) for head in range(len(state))]
    return Run(np.array(outputs), omitted, held, layer.choice, merging)


# ------------------------------------------------------------------------------ kivi


def rounded(x: Array, bits: int, choice: Choice) -> tuple[Array, list[int]]:
    """One group of numbers after rounding, and their codes."""
    low, high = float(x.min()), float(x.max())
    levels = 2**bits - 1
    scale = (high - low) / levels
    if scale == 0.0:
        return np.full_like(x, low), [0] * len(x)
    exact = np.clip((x - low) / scale, 0, levels)
    codes = np.rint(exact)
    nearest_half = float(np.abs(np.abs(exact - np.floor(exact)) - 0.5).min())
    assert nearest_half == 0.0 or nearest_half > LEAST_MARGIN, "a number lies almost between two codes"
    return codes * scale + low, [int(c) for c in codes]


def kivi(problem: Problem, bits: int, group: int, residual: int, prompt: int = 0) -> dict[str, Any]:
    """Keys per channel in groups along tokens, values per token in groups along channels.

    The first `prompt` tokens are attended whole, and leave what as many steps leave.
    """
    queries, keys, values = problem.arrays()
    whole_keys, whole_values = keys, values
    keys, values = keys.copy(), values.copy()
    heads, d = problem.kv_heads, problem.head_dim
    key_codes = [["" for _ in range(problem.tokens)] for _ in range(heads)]
    value_codes = [["" for _ in range(problem.tokens)] for _ in range(heads)]
    key_rows = value_rows = 0  # rounded so far
    outputs, choice = [], Choice()
    per_head = problem.heads // heads
    for t in range(problem.tokens):
        step = []
        for h in range(problem.heads):
            seen_keys, seen_values = (whole_keys, whole_values) if t < prompt else (keys, values)
            weights = softmax(seen_keys[: t + 1, h // per_head] @ queries[t, h] / math.sqrt(d))
            step.append(weights @ seen_values[: t + 1, h // per_head])
        outputs.append(np.array(step))
        if t + 1 - key_rows == residual:
            for head in range(heads):
                for first in range(key_rows, t + 1, group):
                    codes = []
                    for channel in range(d):
                        there = (slice(first, first + group), head, channel)
                        keys[there], code = rounded(keys[there], bits, choice)
                        codes.append(code)
                    for i in range(group):
                        key_codes[head][first + i] = "".join(f"{code[i]:x}" for code in codes)
            key_rows = t + 1
        if t + 1 - value_rows == residual + 1:
            for head in range(heads):
                for first in range(0, d, group):
                    there = (value_rows, head, slice(first, first + group))
                    values[there], code = rounded(values[there], bits, choice)
                    value_codes[head][value_rows] += "".join(f"{c:x}" for c in code)
            value_rows += 1
    return {
        "outputs": np.array(outputs),
        "key_rows": key_rows,
        "value_rows": value_rows,
        "key_codes": [codes[:key_rows] for codes in key_codes],
        "value_codes": [codes[:value_rows] for codes in value_codes],
        "keys": keys,
        "values": values,
    }

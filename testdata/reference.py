"""Plain numpy float64 reference: decoders like Llama's with a bounded multi-state.

Independent of both the Rust crates and of torch/transformers. It is written to be
read, not to be fast: one token at a time, every state row is an object in a list,
and omitting a row deletes that object.

One strict step at position ``t``, in every layer:

1. the token's row (key, value, original position) joins the state;
2. its query attends over all rows held (at most ``k + 1``), softmax over exactly those;
3. if more than ``k`` rows are held, one row goes. On equal scores the oldest
   (smallest position) goes. Under a sliding window a row that the next query will not
   see goes before that, whatever the policy says; see below.

Policies (``--policy``), ``k`` = ``--states``:

* ``full``       nothing is ever omitted
* ``window``     the oldest row goes
* ``window+i``   the first ``i`` positions and the ``k - i`` newest stay (``i < k``)
* ``tova``       lowest weight of the current query, mean over all query heads of the
                 layer; one decision per layer; the current token itself may go
* ``tova+i``     the same with the first ``i`` positions protected (``i < k``)
* ``tova-head``  lowest weight, mean over the query heads of a KV head's group; one
                 decision per KV head
* ``h2o``        per KV head: weights (group mean) summed over all steps, the current
                 one included; the sum moves with its row. The ``k - k // 2`` newest
                 positions are safe, the lowest sum among the others goes
* ``h2o-layer``  the same with the mean over all query heads; one decision per layer

Protocols: ``strict`` as above from the first token on; ``prefill:N`` runs the first N
tokens as one causal block with full attention, then cuts every layer to ``k`` rows at
once (by the same scores: TOVA the last query's weights, H2O the column sums over all N
queries, windows by position; ties: the oldest goes first), then goes on strictly.

A sliding window ``W`` of the model masks rows with ``t - position >= W``: their weight
is 0, but they are still held and still count. Since positions never change, a row that
the query of ``t + 1`` does not see (``position <= t + 1 - W``) is never seen again. When
rows must go after step ``t`` such rows go first, the oldest of them first, even where
the policy protects them; only then does the policy choose among the others. In a
prefill block that is the same, with ``t`` its last step.

Usage::

    python reference.py MODEL_DIR IDS.json --policy tova --states 8 \\
        [--protocol prefill:12] --out FILE.json

Requires numpy only. Steps, layers, heads and positions are counted from 0.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


# --------------------------------------------------------------------------- files


def read_safetensors(path: Path) -> dict[str, Array]:
    """All tensors of one safetensors file, widened to float64."""
    blob = path.read_bytes()
    header_len = int.from_bytes(blob[:8], "little")
    header = json.loads(blob[8 : 8 + header_len])
    base = 8 + header_len
    tensors: dict[str, Array] = {}
    for name, info in header.items():
        if name == "__metadata__":
            continue
        start, end = info["data_offsets"]
        raw = blob[base + start : base + end]
        if info["dtype"] == "BF16":
            # bfloat16 is the upper half of a float32
            bits = np.frombuffer(raw, "<u2").astype(np.uint32) << 16
            flat = bits.view(np.float32)
        else:
            flat = np.frombuffer(raw, {"F16": "<f2", "F32": "<f4", "F64": "<f8"}[info["dtype"]])
        tensors[name] = flat.astype(np.float64).reshape(info["shape"])
    return tensors


def read_weights(model_dir: Path) -> dict[str, Array]:
    """Tensors of a checkpoint directory: one file, or shards named by an index."""
    index = model_dir / "model.safetensors.index.json"
    if not index.exists():
        return read_safetensors(model_dir / "model.safetensors")
    weight_map: dict[str, str] = json.loads(index.read_text())["weight_map"]
    shards = {name: read_safetensors(model_dir / name) for name in sorted(set(weight_map.values()))}
    return {tensor: shards[shard][tensor] for tensor, shard in weight_map.items()}


@dataclass
class Config:
    """What the decoder needs from config.json, in either spelling."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    eps: float
    inv_freq: Array
    windows: list[int | None]  # by layer
    rotates: list[bool]  # by layer
    attention: float  # before the softmax
    embedding: float = 1.0
    residual: float = 1.0
    logits: float = 1.0  # logits are divided by it

    @classmethod
    def read(cls, model_dir: Path) -> "Config":
        raw: dict[str, Any] = json.loads((model_dir / "config.json").read_text())
        heads = raw["num_attention_heads"]
        head_dim = raw.get("head_dim") or raw["hidden_size"] // heads
        return cls(
            hidden=raw["hidden_size"],
            layers=raw["num_hidden_layers"],
            heads=heads,
            kv_heads=raw.get("num_key_value_heads") or heads,
            head_dim=head_dim,
            eps=raw["rms_norm_eps"],
            inv_freq=inverse_frequencies(raw, head_dim),
            windows=windows(raw),
            rotates=rotates(raw),
            attention=raw["attention_multiplier"] if raw["model_type"] == "granite" else head_dim**-0.5,
            embedding=raw.get("embedding_multiplier", 1.0),
            residual=raw.get("residual_multiplier", 1.0),
            logits=raw.get("logits_scaling", 1.0),
        )


def rotates(raw: dict[str, Any]) -> list[bool]:
    """Which layers rotate: all, but of SmolLM3 those that are listed, or all but every so many-th."""
    layers = raw["num_hidden_layers"]
    if raw["model_type"] != "smollm3":
        return [True] * layers
    every = raw.get("no_rope_layer_interval", 4)
    return [bool(one) for one in raw.get("no_rope_layers") or [(i + 1) % every for i in range(layers)]]


def windows(raw: dict[str, Any]) -> list[int | None]:
    """The sliding window of every layer."""
    layers, window = raw["num_hidden_layers"], raw.get("sliding_window")
    if raw["model_type"] in ("mistral", "phi3"):
        return [window] * layers
    if not raw.get("use_sliding_window"):
        return [None] * layers
    if "layer_types" in raw:
        sliding = [kind == "sliding_attention" for kind in raw["layer_types"]]
    elif raw["model_type"] == "smollm3":
        sliding = [not one for one in rotates(raw)]
    else:
        sliding = [i >= raw.get("max_window_layers", 28) for i in range(layers)]
    return [window if one else None for one in sliding]


def inverse_frequencies(raw: dict[str, Any], head_dim: int) -> Array:
    """RoPE inverse frequencies (one per pair) with the config's scaling applied.

    Classic spelling: ``rope_theta`` at the top, ``rope_scaling`` null or a dict whose
    type is under ``rope_type`` or (older) ``type``. Newest spelling: everything in
    ``rope_parameters``.
    """
    rope: dict[str, Any] = raw.get("rope_scaling") or raw.get("rope_parameters") or {}
    theta = float(rope.get("rope_theta", raw.get("rope_theta", 10000.0)))
    kind = rope.get("rope_type", rope.get("type", "default"))
    inv = theta ** -(np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    if kind == "default":
        return inv
    factor = float(rope["factor"])
    if kind == "linear":
        return inv / factor
    if kind == "llama3":
        low, high = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
        old_len = float(rope["original_max_position_embeddings"])
        scaled = np.empty_like(inv)
        for j, f in enumerate(inv):
            turns = old_len * f / (2.0 * math.pi)  # full turns within the old context
            if turns > high:
                scaled[j] = f
            elif turns < low:
                scaled[j] = f / factor
            else:
                smooth = (turns - low) / (high - low)
                scaled[j] = (1.0 - smooth) * f / factor + smooth * f
        return scaled
    raise ValueError(f"unsupported rope type {kind!r}")


# ------------------------------------------------------------------------ policies


@dataclass(frozen=True)
class Policy:
    """A policy name taken apart. ``states`` is None for ``full``."""

    name: str
    states: int | None
    kind: str  # full, window, tova, h2o
    per_head: bool
    protect: int  # first positions that never go

    @classmethod
    def parse(cls, name: str, states: int | None) -> "Policy":
        base, _, plus = name.partition("+")
        protect = int(plus) if plus else 0
        known = {
            "full": ("full", False),
            "window": ("window", False),
            "tova": ("tova", False),
            "tova-head": ("tova", True),
            "h2o": ("h2o", True),
            "h2o-layer": ("h2o", False),
        }
        if base not in known or (plus and base not in ("window", "tova")):
            raise ValueError(f"unknown policy {name!r}")
        kind, per_head = known[base]
        if kind == "full":
            states = None
        elif states is None or states < 1:
            raise ValueError(f"policy {name!r} needs --states >= 1")
        elif protect >= states:
            raise ValueError(f"policy {name!r} protects {protect} of {states} states")
        return cls(name, states, kind, per_head, protect)

    @property
    def spec(self) -> str:
        return self.name if self.states is None else f"{self.name}@{self.states}"

    def protects(self, position: int, now: int) -> bool:
        """May the row of ``position`` not go at step ``now``?"""
        if position < self.protect:
            return True
        if self.kind == "h2o":
            assert self.states is not None
            recent = self.states - self.states // 2
            return position > now - recent
        return False


@dataclass(eq=False)
class Row:
    """One single-state of one KV head."""

    position: int
    key: Array  # already rotated
    value: Array
    accumulated: float = 0.0  # H2O: attention received so far
    current: float = 0.0  # TOVA: attention received from the current query


@dataclass
class Trace:
    """What was omitted, and how close the decisions were."""

    omitted: list[tuple[int, int, int | None, int]] = field(default_factory=list)
    min_margin: float | None = None  # smallest non-zero relative score gap that decided
    ties: int = 0  # decisions between exactly equal scores

    def decision(self, gone: float, kept: float) -> None:
        """Note a decision between two neighbouring scores, ``gone <= kept``."""
        if gone == kept:
            self.ties += 1
        else:
            gap = (kept - gone) / kept
            self.min_margin = gap if self.min_margin is None else min(self.min_margin, gap)


def choose(policy: Policy, rows: list[Row], now: int, window: int | None, trace: Trace) -> list[int]:
    """Positions that must go so that ``states`` rows stay, ascending."""
    assert policy.states is not None
    excess = len(rows) - policy.states
    if excess <= 0:
        return []
    never_seen_again: list[int] = []
    if window is not None:
        first_seen_next = now + 1 - window + 1  # of the window of the query of now + 1
        never_seen_again = sorted(row.position for row in rows if row.position < first_seen_next)
    if len(never_seen_again) >= excess:
        return never_seen_again[:excess]
    rows = [row for row in rows if row.position not in never_seen_again]
    excess -= len(never_seen_again)
    candidates = [row for row in rows if not policy.protects(row.position, now)]
    if policy.kind == "window":
        order = sorted(candidates, key=lambda row: row.position)
    else:
        name = {"tova": "current", "h2o": "accumulated"}[policy.kind]
        order = sorted(candidates, key=lambda row: (getattr(row, name), row.position))
        if len(order) > excess:
            trace.decision(getattr(order[excess - 1], name), getattr(order[excess], name))
    assert len(order) >= excess
    return sorted(never_seen_again + [row.position for row in order[:excess]])


# ------------------------------------------------------------------------- decoder


def rms_norm(x: Array, weight: Array, eps: float) -> Array:
    return x / np.sqrt(np.mean(x * x) + eps) * weight


def silu(x: Array) -> Array:
    return x / (1.0 + np.exp(-x))


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max())
    return e / e.sum()


def split(weights: dict[str, Array], c: Config) -> dict[str, Array]:
    """Maps that share a tensor (Phi-3) on their own."""
    q, kv = c.heads * c.head_dim, c.kv_heads * c.head_dim
    parts: dict[str, Array] = {}
    for name, tensor in weights.items():
        if ".qkv_proj." in name:
            for part, rows in zip("qkv", np.split(tensor, [q, q + kv])):
                parts[name.replace("qkv_proj", f"{part}_proj")] = rows
        elif ".gate_up_proj." in name:
            for part, rows in zip(("gate", "up"), np.split(tensor, 2)):
                parts[name.replace("gate_up_proj", f"{part}_proj")] = rows
        else:
            parts[name] = tensor
    return parts


class Decoder:
    """A checkpoint plus its bounded state: ``state[layer][kv_head]`` is a list of rows."""

    def __init__(self, model_dir: Path, policy: Policy, prefill: int = 0) -> None:
        self.config = Config.read(model_dir)
        self.weights = split(read_weights(model_dir), self.config)
        self.policy = policy
        self.prefill = prefill
        self.reset()

    def reset(self) -> None:
        """Forget everything seen."""
        c = self.config
        self.now = 0
        self.trace = Trace()
        self.state: list[list[list[Row]]] = [[[] for _ in range(c.kv_heads)] for _ in range(c.layers)]

    def linear(self, name: str, x: Array) -> Array:
        y = self.weights[name + ".weight"] @ x
        bias = self.weights.get(name + ".bias")
        return y if bias is None else y + bias

    def rotate(self, x: Array) -> Array:
        """Rotate-half RoPE of rows ``x`` (heads, head_dim) at the current position."""
        half = self.config.head_dim // 2
        angle = self.now * self.config.inv_freq
        cos, sin = np.cos(angle), np.sin(angle)
        a, b = x[:, :half], x[:, half:]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=1)

    def step(self, token: int) -> Array:
        """Logits after one more token."""
        c, w = self.config, self.weights
        x = w["model.embed_tokens.weight"][token] * c.embedding
        for layer in range(c.layers):
            p = f"model.layers.{layer}."
            h = rms_norm(x, w[p + "input_layernorm.weight"], c.eps)
            x = x + self.attention(layer, p + "self_attn.", h) * c.residual
            h = rms_norm(x, w[p + "post_attention_layernorm.weight"], c.eps)
            gate = silu(self.linear(p + "mlp.gate_proj", h))
            x = x + self.linear(p + "mlp.down_proj", gate * self.linear(p + "mlp.up_proj", h)) * c.residual
        x = rms_norm(x, w["model.norm.weight"], c.eps)
        head = w.get("lm_head.weight")
        self.now += 1
        return (w["model.embed_tokens.weight"] if head is None else head) @ x / c.logits

    def attention(self, layer: int, prefix: str, h: Array) -> Array:
        """Append, attend, omit."""
        c = self.config
        group = c.heads // c.kv_heads
        queries = self.heads(layer, prefix + "q", h, c.heads)
        keys = self.heads(layer, prefix + "k", h, c.kv_heads)
        values = self.linear(prefix + "v_proj", h).reshape(c.kv_heads, c.head_dim)

        outputs: list[Array] = []
        head_weights: list[Array] = []  # per KV head: (group, rows held)
        for kv, rows in enumerate(self.state[layer]):
            rows.append(Row(self.now, keys[kv], values[kv]))
            held_keys = np.array([row.key for row in rows])
            held_values = np.array([row.value for row in rows])
            masked = np.array([self.is_masked(layer, row.position) for row in rows])
            weights = np.empty((group, len(rows)))
            for g in range(group):
                scores = held_keys @ queries[kv * group + g] * c.attention
                weights[g] = softmax(np.where(masked, -np.inf, scores))
                outputs.append(weights[g] @ held_values)
            head_weights.append(weights)

        self.score_rows(layer, head_weights)
        if self.now + 1 >= self.prefill:  # inside a prefill block nothing goes before its end
            self.omit(layer)
        return self.linear(prefix + "o_proj", np.concatenate(outputs))

    def heads(self, layer: int, prefix: str, h: Array, heads: int) -> Array:
        """Queries or keys, each normalised where there is a norm, and rotated where the layer does."""
        c = self.config
        x = self.linear(prefix + "_proj", h).reshape(heads, c.head_dim)
        norm = self.weights.get(prefix + "_norm.weight")
        if norm is not None:
            x = np.array([rms_norm(head, norm, c.eps) for head in x])
        return self.rotate(x) if c.rotates[layer] else x

    def is_masked(self, layer: int, position: int) -> bool:
        window = self.config.windows[layer]
        return window is not None and self.now - position >= window

    def score_rows(self, layer: int, head_weights: list[Array]) -> None:
        """Give every row the weight it received: group mean, or mean over all query heads."""
        if self.policy.kind not in ("tova", "h2o"):
            return
        if self.policy.per_head:
            means = [weights.mean(axis=0) for weights in head_weights]
        else:
            mean = np.concatenate(head_weights, axis=0).mean(axis=0)
            means = [mean] * len(head_weights)
        for rows, received in zip(self.state[layer], means):
            for row, weight in zip(rows, received.tolist()):
                row.current = weight
                row.accumulated += weight

    def omit(self, layer: int) -> None:
        """Cut the layer to ``states`` rows (one row at a time outside a prefill's end)."""
        if self.policy.states is None:
            return
        heads = self.state[layer]
        if self.policy.per_head:
            for kv, rows in enumerate(heads):
                for position in choose(self.policy, rows, self.now, self.config.windows[layer], self.trace):
                    self.trace.omitted.append((self.now, layer, kv, position))
                    rows[:] = [row for row in rows if row.position != position]
        else:
            for position in choose(self.policy, heads[0], self.now, self.config.windows[layer], self.trace):
                self.trace.omitted.append((self.now, layer, None, position))
                for rows in heads:
                    rows[:] = [row for row in rows if row.position != position]


@dataclass
class Result:
    """One text run through one policy."""

    policy: Policy
    protocol: str
    logits: Array  # (tokens, vocab)
    nll: list[float]  # of tokens 1.., each from the logits of the token before
    trace: Trace

    @property
    def nll_sum(self) -> float:
        return math.fsum(self.nll)


def run(decoder: Decoder, ids: list[int]) -> Result:
    """Feed ``ids`` from an empty state."""
    decoder.reset()
    if decoder.prefill > len(ids):
        raise ValueError(f"prefill of {decoder.prefill} tokens, but the text has {len(ids)}")
    logits = np.array([decoder.step(token) for token in ids])
    peak = logits[:-1].max(axis=1)
    log_norm = peak + np.log(np.exp(logits[:-1] - peak[:, None]).sum(axis=1))
    nll = [float(log_norm[t] - logits[t, ids[t + 1]]) for t in range(len(ids) - 1)]
    protocol = f"prefill:{decoder.prefill}" if decoder.prefill else "strict"
    return Result(decoder.policy, protocol, logits, nll, decoder.trace)


def parse_protocol(text: str) -> int:
    """Length of the prefill block, 0 for strict."""
    if text == "strict":
        return 0
    name, _, length = text.partition(":")
    if name != "prefill" or int(length) < 1:
        raise ValueError(f"unknown protocol {text!r}")
    return int(length)


def main() -> None:
    parser = argparse.ArgumentParser(description="Run a token list through a bounded state.")
    parser.add_argument("model_dir", type=Path)
    parser.add_argument("ids", type=Path, help='JSON file {"ids": [...]} or a bare list')
    parser.add_argument("--policy", required=True)
    parser.add_argument("--states", type=int)
    parser.add_argument("--protocol", default="strict", help="strict (default) or prefill:N")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    loaded = json.loads(args.ids.read_text())
    ids: list[int] = loaded["ids"] if isinstance(loaded, dict) else loaded
    policy = Policy.parse(args.policy, args.states)
    result = run(Decoder(args.model_dir, policy, parse_protocol(args.protocol)), ids)
    document = {
        "policy": policy.name,
        "states": policy.states,
        "protocol": result.protocol,
        "nll_sum": result.nll_sum,
        "logits_last": result.logits[-1].tolist(),
        "omitted": result.trace.omitted,
    }
    args.out.write_text(json.dumps(document) + "\n")


if __name__ == "__main__":
    main()

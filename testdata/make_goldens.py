"""Makes the checkpoints and golden numbers under testdata/ (seeded, deterministic).

Made with Python 3.11 and exactly these packages (computed on the CPU; any build of torch does):

    pip install torch==2.15.0 transformers==5.23.0 safetensors==0.8.0 \\
                numpy==2.4.6 tokenizers==0.23.3

Run from this directory, everything (under a minute on one core):

    OMP_NUM_THREADS=1 python make_goldens.py all --data ../../shared/data

or one part of it:

    python make_goldens.py checkpoints [--model NAME]  # needs torch, transformers
    python make_goldens.py check [--model NAME]  # needs torch, transformers; writes nothing
    python make_goldens.py policies [--model NAME]  # needs numpy only (uses reference.py)
    python make_goldens.py stories --data DIR   # needs numpy, tokenizers and the data
    python make_goldens.py replay [--data DIR]  # needs torch, transformers; writes nothing

``checkpoints`` writes ``checkpoints/NAME/`` (small random models) and
``goldens/NAME.json`` (token ids), ``goldens/NAME.logits.npy`` (little-endian float64,
shape (tokens, vocab)). The logits are Hugging Face's own modelling code in eager mode,
with the weights widened to float64 *and* its internal float32 islands (RMSNorm, the
softmax, RoPE tables) widened too: see ``float64_islands``.

``policies`` writes ``goldens/policies.json``, with ``--model`` only the lines of that
checkpoint (sums are rounded in an order of the processor's, which may show in the last
of the digits kept: lines that need not change then do not); ``replay`` repeats every one of its runs
with Hugging Face's code and per-layer, per-head attention masks; ``stories`` writes
``goldens/stories260k.json`` from a trained checkpoint that is not part of this
directory (``DIR/stories260K`` and ``DIR/tinystories_val.txt``).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import numpy as np
from numpy.typing import NDArray

import reference
from reference import Array, Decoder, Policy, Result

HERE = Path(__file__).resolve().parent
CHECKPOINTS = HERE / "checkpoints"
GOLDENS = HERE / "goldens"
TOKENS = 40
PROMPT, GREEDY = 8, 24  # of the checkpoints that have a greedy continuation
INIT_SCALE = 0.3  # large: attention becomes peaky, mistakes become visible


# ------------------------------------------------------------------------ variants

LLAMA3_SCALING: dict[str, Any] = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


@dataclass
class Variant:
    """A checkpoint to make. ``spelling`` is that of its config.json."""

    name: str
    family: str  # its model_type
    config: dict[str, Any]
    theta: float = 10000.0
    scaling: dict[str, Any] | None = None
    dtype: str = "float32"
    max_shard_size: str = "50GB"
    spelling: str = "classic"  # classic: rope_theta, rope_scaling, torch_dtype; new: rope_parameters, dtype
    # classic spelling only: keys that old files lack; readers must fall back to the same value
    unsaid: tuple[str, ...] = ("head_dim",)
    # Which of the architectures that differ from Llama and Mistral more than by a window.
    more: bool = False
    # config.json keys to change, one set at a time, each of which must change the logits
    ablations: list[dict[str, Any]] = field(default_factory=list)


BASE: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "initializer_range": INIT_SCALE,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

VARIANTS: list[Variant] = [
    Variant(
        "llama-gqa",
        "llama",
        BASE | {"num_hidden_layers": 3},
        ablations=[{"rope_theta": 20000.0}, {"rms_norm_eps": 1e-6}],
    ),
    Variant(
        "llama-tied",
        "llama",
        BASE | {"num_key_value_heads": 4, "tie_word_embeddings": True, "rms_norm_eps": 1e-6},
        unsaid=("head_dim", "num_key_value_heads", "attention_bias", "mlp_bias"),
        ablations=[{"rms_norm_eps": 1e-5}],
    ),
    Variant(
        "llama-bias",
        "llama",
        BASE | {"attention_bias": True, "mlp_bias": True},
        ablations=[{"attention_bias": False}, {"mlp_bias": False}],
    ),
    Variant(
        "llama3-rope",
        "llama",
        BASE | {"head_dim": 24},
        unsaid=(),
        theta=500000.0,
        scaling=LLAMA3_SCALING,
        ablations=[
            {"rope_scaling": None},
            {"rope_theta": 10000.0},
            {"rope_scaling": LLAMA3_SCALING | {"high_freq_factor": 64.0}},
            {"rope_scaling": LLAMA3_SCALING | {"original_max_position_embeddings": 256}},
            {"rope_scaling": {"rope_type": "linear", "factor": 8.0}},
        ],
    ),
    Variant(
        "llama-linear-rope",
        "llama",
        BASE,
        scaling={"type": "linear", "factor": 4.0},
        ablations=[{"rope_scaling": None}, {"rope_scaling": {"type": "linear", "factor": 2.0}}],
    ),
    Variant(
        "mistral-window",
        "mistral",
        BASE | {"head_dim": 12, "sliding_window": 8},
        unsaid=(),
        ablations=[{"sliding_window": None}, {"sliding_window": 9}, {"sliding_window": 7}],
    ),
    Variant(
        "yi-theta",
        "llama",
        BASE | {"hidden_size": 48, "num_attention_heads": 8, "num_key_value_heads": 2},
        theta=5000000.0,
        spelling="new",
        ablations=[{"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}}],
    ),
    Variant(
        "llama-sharded-bf16",
        "llama",
        BASE,
        dtype="bfloat16",
        max_shard_size="17KB",
    ),
    Variant(
        "llama-f16",
        "llama",
        BASE,
        theta=20000.0,
        scaling={"rope_type": "linear", "factor": 2.0},
        dtype="float16",
        spelling="new",
        ablations=[
            {"rope_parameters": {"rope_theta": 20000.0, "rope_type": "default"}},
            {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "linear", "factor": 2.0}},
        ],
    ),
]


SMALL: dict[str, Any] = BASE | {"hidden_size": 16, "intermediate_size": 24, "pad_token_id": None}
SLIDING, FULL = "sliding_attention", "full_attention"

VARIANTS += [
    Variant(
        "qwen2-window",
        "qwen2",
        SMALL | {"num_hidden_layers": 3, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
        unsaid=("layer_types",),
        more=True,
        ablations=[{"use_sliding_window": False}, {"max_window_layers": 2}, {"sliding_window": 9}],
    ),
    Variant(
        "qwen2-tied",
        "qwen2",
        SMALL | {"tie_word_embeddings": True, "rms_norm_eps": 1e-6, "bos_token_id": None, "eos_token_id": None},
        theta=1000000.0,
        dtype="bfloat16",
        spelling="new",
        more=True,
        ablations=[{"rms_norm_eps": 1e-4}],
    ),
    Variant(
        "qwen3-norms",
        "qwen3",
        SMALL | {"head_dim": 6, "eos_token_id": [2, 5]},
        theta=1000000.0,
        unsaid=("layer_types", "attention_bias"),
        more=True,
        ablations=[{"rms_norm_eps": 1e-4}, {"rope_theta": 10000.0}],
    ),
    Variant(
        "qwen3-window",
        "qwen3",
        SMALL
        | {"num_hidden_layers": 3, "head_dim": 4, "attention_bias": True, "use_sliding_window": True}
        | {"sliding_window": 8, "layer_types": [SLIDING, FULL, SLIDING]},
        spelling="new",
        more=True,
        ablations=[{"layer_types": [SLIDING, FULL, FULL]}, {"attention_bias": False}, {"sliding_window": 7}],
    ),
    Variant(
        "smollm3",
        "smollm3",
        SMALL | {"num_hidden_layers": 5, "tie_word_embeddings": True},
        theta=5000000.0,
        unsaid=("layer_types", "no_rope_layers", "no_rope_layer_interval", "attention_bias", "mlp_bias"),
        more=True,
        ablations=[{"no_rope_layer_interval": 2}, {"no_rope_layers": [1, 1, 1, 1, 1]}],
    ),
    Variant(
        "smollm3-window",
        "smollm3",
        SMALL
        | {"num_hidden_layers": 3, "attention_bias": True, "mlp_bias": True, "no_rope_layers": [0, 1, 0]}
        | {"use_sliding_window": True, "sliding_window": 8},
        spelling="new",
        more=True,
        ablations=[{"no_rope_layers": [1, 1, 0]}, {"layer_types": [SLIDING, FULL, FULL]}, {"mlp_bias": False}],
    ),
    Variant(
        "phi3",
        "phi3",
        SMALL | {"sliding_window": 8, "original_max_position_embeddings": 256},
        unsaid=(),
        more=True,
        ablations=[{"sliding_window": None}, {"rope_theta": 20000.0}],
    ),
    Variant(
        "granite",
        "granite",
        SMALL
        | {"embedding_multiplier": 3.0, "attention_multiplier": 0.25, "residual_multiplier": 0.5, "logits_scaling": 2.0},
        more=True,
        ablations=[
            {"embedding_multiplier": 1.0},
            {"attention_multiplier": 0.5},
            {"residual_multiplier": 1.0},
            {"logits_scaling": 1.0},
        ],
    ),
]


def seed_of(name: str, purpose: str) -> int:
    """A seed that depends on nothing but these two strings."""
    return int.from_bytes(hashlib.sha256(f"{purpose}/{name}".encode()).digest()[:8], "little")


def ids_of(variant: Variant) -> list[int]:
    """The variant's text: BOS, then random ids."""
    rng = np.random.default_rng(seed_of(variant.name, "ids"))
    return [1] + rng.integers(3, variant.config["vocab_size"], TOKENS - 1).tolist()


# ----------------------------------------------------------- Hugging Face in float64


@contextlib.contextmanager
def float64_islands() -> Iterator[None]:
    """Make Hugging Face's code compute in float64 throughout.

    Even with float64 weights that code casts to float32 in RMSNorm, in the softmax and
    for the RoPE tables. Inside this context its modules see a ``torch`` whose
    ``float32`` is ``float64``; nothing else about them changes.
    """
    import torch
    from transformers import modeling_rope_utils
    from transformers.models.granite import modeling_granite
    from transformers.models.llama import modeling_llama
    from transformers.models.mistral import modeling_mistral
    from transformers.models.phi3 import modeling_phi3
    from transformers.models.qwen2 import modeling_qwen2
    from transformers.models.qwen3 import modeling_qwen3
    from transformers.models.smollm3 import modeling_smollm3

    class Widened(types.ModuleType):
        float = torch.float64
        float32 = torch.float64

        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

    modules = [modeling_llama, modeling_mistral, modeling_rope_utils, modeling_qwen2, modeling_qwen3]
    modules += [modeling_smollm3, modeling_phi3, modeling_granite]
    for module in modules:
        setattr(module, "torch", Widened("torch"))
    try:
        yield
    finally:
        for module in modules:
            setattr(module, "torch", torch)


def hf_logits(model_dir: Path, ids: list[int]) -> Array:
    """Logits (tokens, vocab) of the checkpoint, one plain causal pass."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        model_dir, dtype=torch.float64, attn_implementation="eager", local_files_only=True
    ).eval()
    assert all(p.dtype == torch.float64 for p in model.parameters())
    with torch.no_grad():
        logits = model(torch.tensor([ids]), use_cache=False).logits[0]
    assert logits.dtype == torch.float64
    return logits.numpy()


def hf_greedy(model_dir: Path, prompt: list[int]) -> list[int]:
    """What Hugging Face's ``generate`` continues a prompt with, greedily and past every end."""
    import torch
    from transformers import AutoModelForCausalLM

    with float64_islands(), torch.no_grad():
        model = AutoModelForCausalLM.from_pretrained(
            model_dir, dtype=torch.float64, attn_implementation="eager", local_files_only=True
        ).eval()
        model.generation_config.eos_token_id = None
        ids = torch.tensor([prompt])
        made = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=GREEDY, pad_token_id=0
        )
    assert made.shape[1] == len(prompt) + GREEDY
    return made[0, len(prompt) :].tolist()


def hf_logits_float64(model_dir: Path, ids: list[int]) -> Array:
    """The same with the float32 islands widened."""
    with float64_islands():
        return hf_logits(model_dir, ids)


def hf_logits_with(model_dir: Path, ids: list[int], changes: dict[str, Any]) -> Array:
    """The same again with keys of config.json changed."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "model"
        shutil.copytree(model_dir, copy)
        config = json.loads((copy / "config.json").read_text())
        write_json(copy / "config.json", config | changes)
        return hf_logits_float64(copy, ids)


def write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n")


# --------------------------------------------------------------------- checkpoints


def respell_config(path: Path, variant: Variant) -> None:
    """Rewrite a config.json of transformers 5 in the spelling of transformers 4."""
    config: dict[str, Any] = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    assert rope["rope_theta"] == variant.theta
    config["rope_theta"] = variant.theta
    config["rope_scaling"] = variant.scaling
    config["torch_dtype"] = config.pop("dtype")
    for key in variant.unsaid:
        # A class that has no such key does not write it.
        assert config.pop(key, None) is not None or key == "head_dim", key
    write_json(path, dict(sorted(config.items())))


def make_checkpoint(variant: Variant) -> None:
    """Random weights, saved by transformers."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    rope = {"rope_theta": variant.theta} | (variant.scaling or {"rope_type": "default"})
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(variant.family, **variant.config, rope_parameters=rope)
    )

    rng = np.random.default_rng(seed_of(variant.name, "weights"))
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = rng.standard_normal(tuple(parameter.shape))
            values = 1.0 + 0.2 * noise if "norm" in name else INIT_SCALE * noise
            parameter.copy_(torch.from_numpy(values))

    target = CHECKPOINTS / variant.name
    shutil.rmtree(target, ignore_errors=True)
    model.to(getattr(torch, variant.dtype)).save_pretrained(target, max_shard_size=variant.max_shard_size)
    (target / "generation_config.json").unlink(missing_ok=True)
    for file in target.iterdir():
        file.chmod(0o644)
    if variant.spelling == "classic":
        respell_config(target / "config.json", variant)
    check_layout(variant, target)


def check_layout(variant: Variant, target: Path) -> None:
    """The files are what the variant promises."""
    config = json.loads((target / "config.json").read_text())
    classic = {"rope_theta", "rope_scaling", "torch_dtype"}
    new = {"rope_parameters", "dtype"}
    present, absent = (classic, new) if variant.spelling == "classic" else (new, classic)
    assert present <= config.keys() and not absent & config.keys(), config
    tensors = reference.read_weights(target)
    assert ("lm_head.weight" in tensors) != variant.config["tie_word_embeddings"]
    shards = len(list(target.glob("*.safetensors")))
    assert shards == (3 if variant.name == "llama-sharded-bf16" else 1), shards
    norms = [t for name, t in tensors.items() if "norm" in name]
    assert all(np.std(t) > 0.05 for t in norms)


def llama3_zones(config: dict[str, Any]) -> tuple[int, int, int]:
    """How many RoPE pairs keep their frequency, are interpolated, are divided by the factor."""
    plain = reference.inverse_frequencies(config | {"rope_scaling": None}, config["head_dim"])
    ratio = reference.inverse_frequencies(config, config["head_dim"]) / plain
    kept, divided = ratio == 1.0, np.isclose(ratio, 1.0 / config["rope_scaling"]["factor"], rtol=1e-12)
    return int(kept.sum()), int((~kept & ~divided).sum()), int(divided.sum())


def golden_ids(name: str) -> list[int]:
    return json.loads((GOLDENS / f"{name}.json").read_text())["ids"]


def make_checkpoints(only: str | None) -> None:
    """Part 1: checkpoints, ids and logits; of one checkpoint, or of all."""
    GOLDENS.mkdir(exist_ok=True)
    for variant in VARIANTS:
        if only and variant.name != only:
            continue
        make_checkpoint(variant)
        ids = ids_of(variant)
        golden: dict[str, Any] = {"ids": ids}
        if variant.more:
            golden["greedy"] = hf_greedy(CHECKPOINTS / variant.name, ids[:PROMPT])
        (GOLDENS / f"{variant.name}.json").write_text(json.dumps(golden) + "\n")
        logits = hf_logits_float64(CHECKPOINTS / variant.name, ids)
        np.save(GOLDENS / f"{variant.name}.logits.npy", logits.astype("<f8"))
        print(f"made {variant.name}")


def relative_error(a: Array, b: Array) -> float:
    """Largest difference relative to the largest magnitude."""
    return float(np.abs(a - b).max() / np.abs(b).max())


def check(only: str | None) -> None:
    """Every config key is honoured, and the three float64 computations agree."""
    print(f"{'variant':20} {'reference':>10} {'plain HF':>10}  changed key -> change of the logits")
    for variant in VARIANTS:
        if only and variant.name != only:
            continue
        model_dir = CHECKPOINTS / variant.name
        ids = golden_ids(variant.name)
        golden = np.load(GOLDENS / f"{variant.name}.logits.npy")
        assert golden.shape == (TOKENS, variant.config["vocab_size"]) and golden.dtype == np.dtype("<f8")
        # Another processor rounds otherwise.
        assert relative_error(hf_logits_float64(model_dir, ids), golden) < 1e-13, "goldens are stale"
        ours = reference.run(Decoder(model_dir, Policy.parse("full", None)), ids).logits
        agreement = relative_error(ours, golden)
        plain = relative_error(hf_logits(model_dir, ids), golden)
        changes = []
        for ablation in variant.ablations:
            change = relative_error(hf_logits_with(model_dir, ids, ablation), golden)
            changes.append(f"{json.dumps(ablation)} -> {change:.1e}")
            assert change > 1e-6, f"{variant.name} ignores {ablation}"
        print(f"{variant.name:20} {agreement:10.1e} {plain:10.1e}  {'; '.join(changes)}")
        assert agreement < 1e-9 and plain < 1e-4
    zones = llama3_zones(json.loads((CHECKPOINTS / "llama3-rope" / "config.json").read_text()))
    assert all(zones), zones
    print(f"llama3-rope: {zones[0]} frequencies kept, {zones[1]} interpolated, {zones[2]} divided")


# ------------------------------------------------------------------------ policies

POLICY_NAMES = ["window", "window+2", "window+4", "h2o", "h2o-layer", "tova", "tova-head", "tova+2"]
POLICY_MODELS = ["llama-gqa", "mistral-window", "yi-theta"]
PREFILL_MODELS = ["llama-gqa", "mistral-window"]
PREFILL, PREFILL_STATES = 12, 6
# States beyond the model's sliding window: several rows have weight 0, and the oldest of those that no
# later query sees must go
BEYOND_MODEL, BEYOND_STATES, BEYOND_PREFILL = "mistral-window", 11, 14
# Each of the other architectures under a few policies, with fewer states than a window has, and with more.
FAMILY_POLICIES = [("tova", 5, 0), ("tova", 11, 0), ("h2o", 8, 0), ("window+2", 6, PREFILL), ("tova-head", 6, PREFILL)]


def policy_cases() -> Iterator[tuple[str, Policy, int]]:
    """(model, policy, prefill length or 0)"""
    for model in POLICY_MODELS:
        yield model, Policy.parse("full", None), 0
        for states in (1, 5, 8):
            for name in POLICY_NAMES:
                if int(name.partition("+")[2] or 0) < states and not (states == 1 and "+" in name):
                    yield model, Policy.parse(name, states), 0
        if model in PREFILL_MODELS:
            for name in POLICY_NAMES:
                yield model, Policy.parse(name, PREFILL_STATES), PREFILL
    for prefill in (0, BEYOND_PREFILL):
        for name in ("tova", "tova-head", "tova+2"):
            yield BEYOND_MODEL, Policy.parse(name, BEYOND_STATES), prefill
    for variant in VARIANTS:
        for name, states, prefill in FAMILY_POLICIES if variant.more else []:
            yield variant.name, Policy.parse(name, states), prefill


def check_invariants(result: Result, decoder: Decoder, tokens: int) -> None:
    """What must hold whatever the policy chose."""
    policy, config = result.policy, decoder.config
    for layer in range(config.layers):
        for kv in range(config.kv_heads):
            held = [row.position for row in decoder.state[layer][kv]]
            assert held == sorted(held)
            gone = [o[3] for o in result.trace.omitted if o[1] == layer and o[2] in (None, kv)]
            assert sorted(held + gone) == list(range(tokens))
            assert len(held) == min(tokens, policy.states or tokens)
            shown = config.windows[layer] or tokens + 1  # rows that a query can see, its own included
            seen_next = set(range(max(0, tokens - shown + 1), tokens))  # of the query of step `tokens`
            if set(held) - seen_next:  # then nothing that it sees is gone
                assert policy.states is None or seen_next <= set(held)
            assert set(range(min(policy.protect, tokens))) & seen_next <= set(held)
            if policy.kind == "window" and policy.states:
                protected = policy.protect if 0 in seen_next else 0  # else long passed
                newest = range(tokens - (policy.states - protected), tokens)
                assert held == list(range(protected)) + list(newest)


def significant(value: float) -> float:
    """Rounded to 12 significant digits."""
    return float(f"{value:.12g}")


def compact(document: Any) -> str:
    return json.dumps(document, separators=(",", ":"))


def make_policies(only: str | None) -> None:
    """Part 2: every policy on three of the checkpoints, or on one of them, the other lines as they are."""
    path = GOLDENS / "policies.json"
    before = path.read_text().splitlines()[1:-1] if only else []
    lines: list[str] = []
    for index, (model, policy, prefill) in enumerate(policy_cases()):
        if only and model != only and index < len(before):
            line = before[index].rstrip(",")
            assert (json.loads(line)["model"], json.loads(line)["policy"]) == (model, policy.spec)
            lines.append(line)
            continue
        ids = golden_ids(model)
        decoder = Decoder(CHECKPOINTS / model, policy, prefill)
        result = reference.run(decoder, ids)
        check_invariants(result, decoder, len(ids))
        lines.append(
            compact(
                {
                    "model": model,
                    "policy": policy.spec,
                    "protocol": result.protocol,
                    "nll": significant(result.nll_sum),
                    "min_margin": result.trace.min_margin and float(f"{result.trace.min_margin:.2e}"),
                    "ties": result.trace.ties,
                    "logits_last": [significant(x) for x in result.logits[-1].tolist()],
                    "omitted": result.trace.omitted,
                }
            )
        )
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(f"{path.name}: {len(lines)} runs, {path.stat().st_size} bytes")


def hf_masked_run(model_dir: Path, ids: list[int], mask: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Hugging Face logits (tokens, vocab) and weights (layers, heads, tokens, tokens) under
    ``mask[layer, head, query, key]`` (true: may be attended)."""
    import torch
    from transformers import AutoModelForCausalLM

    with float64_islands(), torch.no_grad():
        model = AutoModelForCausalLM.from_pretrained(
            model_dir, dtype=torch.float64, attn_implementation="eager", local_files_only=True
        ).eval()
        weights: list[Array] = []
        for layer, block in enumerate(model.model.layers):
            additive = torch.from_numpy(np.where(mask[layer], 0.0, -np.inf))[None]

            def masked(module: Any, args: Any, kwargs: dict[str, Any], additive: Any = additive) -> Any:
                return args, kwargs | {"attention_mask": additive}

            def record(module: Any, args: Any, output: Any) -> None:
                weights.append(output[1][0].numpy())

            block.self_attn.register_forward_pre_hook(masked, with_kwargs=True)
            block.self_attn.register_forward_hook(record)
        logits = model(torch.tensor([ids]), use_cache=False).logits[0].numpy()
    return logits, np.array(weights)


def victims_from_weights(
    policy: Policy, config: reference.Config, weights: Array, held: NDArray[np.bool_], prefill: int
) -> list[tuple[int, int, int | None, int]]:
    """The omissions that follow from whole weight matrices; ``held`` says which rows a query met."""
    layers, heads, tokens, _ = weights.shape
    deciders = config.kv_heads if policy.per_head else 1
    received = weights.reshape(layers, deciders, heads // deciders, tokens, tokens).mean(axis=2)
    if policy.kind == "h2o":
        received = received.cumsum(axis=2)
    elif policy.kind == "window":
        received = np.broadcast_to(np.arange(tokens, dtype=np.float64), received.shape)
    rows_met = held.reshape(layers, deciders, heads // deciders, tokens, tokens)[:, :, 0]
    omitted: list[tuple[int, int, int | None, int]] = []
    for step in range(max(prefill - 1, 0), tokens):
        safe = set(range(policy.protect))
        if policy.kind == "h2o" and policy.states:
            safe |= set(range(step - (policy.states - policy.states // 2) + 1, step + 1))
        for layer in range(layers):
            for decider in range(deciders):
                rows = np.flatnonzero(rows_met[layer, decider, step]).tolist()
                excess = len(rows) - (policy.states or tokens)
                if excess <= 0:
                    continue
                score = received[layer, decider, step]
                # Rows that the sliding window has passed before the next query go first, by age.
                window = config.windows[layer]
                passed = {row for row in rows if window and step + 1 - row >= window}
                ranked = [(0, row, row) for row in rows if row in passed]
                ranked = sorted(ranked + [(1, score[row], row) for row in rows if row not in safe | passed])
                head = decider if policy.per_head else None
                omitted += [(step, layer, head, row) for row in sorted(row for *_, row in ranked[:excess])]
    return omitted


def replay_run(
    model_dir: Path, ids: list[int], policy: Policy, prefill: int, omitted: list[tuple[int, int, int | None, int]]
) -> Array:
    """Logits of Hugging Face's code under masks that hide the omitted rows; asserts that
    its weights lead to the same omissions."""
    config = reference.Config.read(model_dir)
    group = config.heads // config.kv_heads
    tokens = len(ids)
    held = np.broadcast_to(np.tri(tokens, dtype=bool), (config.layers, config.heads, tokens, tokens)).copy()
    for step, layer, head, position in omitted:
        chosen = slice(None) if head is None else slice(head * group, (head + 1) * group)
        held[layer, chosen, step + 1 :, position] = False
    visible = held.copy()
    for layer, window in enumerate(config.windows):
        if window is not None:
            visible[layer] &= ~np.tri(tokens, k=-window, dtype=bool)
    logits, weights = hf_masked_run(model_dir, ids, visible)
    assert victims_from_weights(policy, config, weights, held, prefill) == omitted, policy.spec
    return logits


def nll_of(logits: Array, ids: list[int]) -> float:
    return sum(float(np.log(np.exp(row - row[i]).sum())) for row, i in zip(logits, ids[1:]))


def replay(data: Path | None) -> None:
    """Repeat every run of policies.json (and of stories260k.json, given its data) with
    Hugging Face's code: same logits or loss, same omissions."""
    runs = json.loads((GOLDENS / "policies.json").read_text())
    worst = 0.0
    for run in runs:
        ids = golden_ids(run["model"])
        name, _, states = run["policy"].partition("@")
        policy = Policy.parse(name, int(states) if states else None)
        omitted = [tuple(entry) for entry in run["omitted"]]
        prefill = reference.parse_protocol(run["protocol"])
        logits = replay_run(CHECKPOINTS / run["model"], ids, policy, prefill, omitted)
        worst = max(worst, relative_error(logits[-1], np.array(run["logits_last"])))
        worst = max(worst, abs(nll_of(logits, ids) / run["nll"] - 1.0))
    print(f"replay: {len(runs)} runs, same omissions, largest relative difference {worst:.1e}")
    assert worst < 1e-10

    if data is None:
        return
    worst = 0.0
    golden = json.loads((GOLDENS / "stories260k.json").read_text())
    texts = stories_ids(data)[1]
    for (name, states), entry in zip(STORIES_POLICIES, golden["policies"]):
        policy = Policy.parse(name, states)
        decoder = Decoder(data / "stories260K", policy)
        for ids, run in zip(texts, entry["runs"]):
            omitted = reference.run(decoder, ids).trace.omitted
            assert entry["policy"] == policy.spec and run["omitted_sha256"] == omission_digest(omitted)
            logits = replay_run(data / "stories260K", ids, policy, 0, omitted)
            worst = max(worst, abs(nll_of(logits, ids) / run["nll"] - 1.0))
    print(f"replay: stories260K, same omissions, largest relative difference of a loss {worst:.1e}")
    assert worst < 1e-10


# ------------------------------------------------------------------------- stories

STORIES_POLICIES = [
    ("full", None),
    ("window", 32),
    ("window+4", 32),
    ("tova", 32),
    ("tova-head", 32),
    ("h2o", 32),
    ("h2o-layer", 32),
    ("tova+4", 32),
]
STORIES_CHARACTERS, STORIES_RUN, STORIES_RUNS = 120_000, 511, 2


def omission_digest(omitted: list[tuple[int, int, int | None, int]]) -> str:
    """SHA-256 of the lines "step layer head position" (head "-" if shared), joined by newlines."""
    lines = [f"{step} {layer} {'-' if head is None else head} {position}" for step, layer, head, position in omitted]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def stories_ids(data: Path) -> tuple[int, list[list[int]]]:
    """Number of ids of the whole text, and the first runs of it, each after BOS."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(data / "stories260K" / "tokenizer.json"))
    text = (data / "tinystories_val.txt").read_text(encoding="utf-8")[:STORIES_CHARACTERS]
    encoded = tokenizer.encode(text, add_special_tokens=False).ids
    return len(encoded), [[1] + encoded[i * STORIES_RUN : (i + 1) * STORIES_RUN] for i in range(STORIES_RUNS)]


def make_stories(data: Path) -> None:
    """Part 3: a trained checkpoint, 512 tokens a run."""
    model_dir = data / "stories260K"
    total, runs = stories_ids(data)
    policies: list[dict[str, Any]] = []
    for name, states in STORIES_POLICIES:
        policy = Policy.parse(name, states)
        decoder = Decoder(model_dir, policy)
        entries: list[dict[str, Any]] = []
        for ids in runs:
            result = reference.run(decoder, ids)
            check_invariants(result, decoder, len(ids))
            entries.append(
                {
                    "nll": result.nll_sum,
                    "omissions": len(result.trace.omitted),
                    "omitted_sha256": omission_digest(result.trace.omitted),
                    "min_margin": result.trace.min_margin,
                    "ties": result.trace.ties,
                }
            )
        print(policy.spec, [round(entry["nll"], 6) for entry in entries])
        policies.append({"policy": policy.spec, "protocol": "strict", "runs": entries})
    write_json(
        GOLDENS / "stories260k.json",
        {
            "model": "stories260K",
            "text": "tinystories_val.txt",
            "characters": STORIES_CHARACTERS,
            "encoded_ids": total,
            "tokens_per_run": STORIES_RUN + 1,
            "bos": 1,
            "ids_sha256": [hashlib.sha256(" ".join(map(str, ids)).encode()).hexdigest() for ids in runs],
            "policies": policies,
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the checkpoints and goldens of testdata/.")
    parser.add_argument("part", choices=["checkpoints", "check", "policies", "replay", "stories", "all"])
    parser.add_argument("--model", help="only this checkpoint, of the parts checkpoints, check and policies")
    parser.add_argument("--data", type=Path, help="folder with stories260K/ and tinystories_val.txt")
    args = parser.parse_args()
    if args.part in ("checkpoints", "all"):
        make_checkpoints(args.model)
    if args.part in ("check", "all"):
        check(args.model)
    if args.part in ("policies", "all"):
        make_policies(args.model)
    if args.part == "stories" or (args.part == "all" and args.data):
        if args.data is None:
            parser.error("stories needs --data")
        make_stories(args.data)
    if args.part in ("replay", "all"):
        replay(args.data)


if __name__ == "__main__":
    main()

"""Strict scoring under a policy (msrnn) against a full-attention prefill (transformers, sdpa)."""

import argparse
import datetime
import json
import pathlib
import platform
import statistics
import subprocess
import time

import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]


def sdpa(model, ids: torch.Tensor) -> float:
    """Seconds for the log-likelihood of all tokens in one forward pass."""
    start = time.perf_counter()
    with torch.inference_mode():
        logits = model(ids, use_cache=False).logits[0, :-1].float()
        torch.log_softmax(logits, -1).gather(1, ids[0, 1:, None]).sum().item()
    return time.perf_counter() - start


def msrnn(directory: pathlib.Path, policy: str, form: str, ids: pathlib.Path) -> float:
    """Seconds for the scoring, loading not included."""
    command = [ROOT / "target/release/msrnn", "perplexity", "--model", directory, "--ids", ids]
    command += ["--policy", policy, "--form", form, "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=pathlib.Path, help="made by make_checkpoint.py")
    parser.add_argument("--policies", default="full,window@256,window+4@256,h2o@256,tova@256")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--step-tokens", type=int, default=256, help="tokens of the step form, which is slow")
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()

    torch.set_num_threads(2)
    load = transformers.LlamaForCausalLM.from_pretrained
    model = load(args.directory, dtype=torch.float32, attn_implementation="sdpa").eval()
    path = args.directory / "ids.json"
    ids = json.loads(path.read_text())
    tensor = torch.tensor([ids])
    head = args.directory / "ids-head.json"
    head.write_text(json.dumps(ids[: args.step_tokens]))

    policies = args.policies.split(",")
    rates: dict[str, list[float]] = {"transformers sdpa": []}
    rates |= {f"msrnn {policy}": [] for policy in policies}
    rates["msrnn tova@256, step form"] = []
    sdpa(model, tensor)
    for _ in range(args.rounds):
        rates["transformers sdpa"].append(len(ids) / sdpa(model, tensor))
        for policy in policies:
            rates[f"msrnn {policy}"].append(len(ids) / msrnn(args.directory, policy, "layer", path))
        rates["msrnn tova@256, step form"].append(
            args.step_tokens / msrnn(args.directory, "tova@256", "step", head)
        )

    baseline = rates["transformers sdpa"]
    rows = []
    for name, values in rates.items():
        ratios = [value / base for value, base in zip(values, baseline)]
        rows.append({"what": name, "tokens_per_second": statistics.median(values), "ratio": statistics.median(ratios),
                     "ratio_min": min(ratios), "ratio_max": max(ratios)})
    print(f"| {len(ids)} tokens, 2 threads, f32 | tokens/s | ratio to sdpa (min to max) |\n|---|---|---|")
    for row in rows:
        print(f"| {row['what']} | {row['tokens_per_second']:.0f} "
              f"| {row['ratio']:.2f} ({row['ratio_min']:.2f} to {row['ratio_max']:.2f}) |")
    if args.out:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
        record = {
            "date": datetime.date.today().isoformat(),
            "commit": commit,
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
            "rounds": args.rounds,
            "rows": rows,
        }
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

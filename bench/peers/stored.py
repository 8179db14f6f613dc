"""msrnn and llama.cpp on the same GGUF files, in alternation, as one table of ratios.

Every round runs every program once; ratios are taken within a round. llama.cpp rounds activations to 8 bits beside weights in
blocks and to bf16 beside weights in bf16, as msrnn does with `--activations int8` and `bf16`; its cache is in f16, ours in f32,
and the better of its two attentions counts. `score`: msrnn strictly under tova@256, every token's likelihood; llama-perplexity
with full attention, which computes the logits of the second half of a context. A record that exists is continued.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess

from compare import FLASH, LlamaCpp, Msrnn, commit, now, processor

PARTS = ("prefill:512", "decode:256", "decode:4096", "score:4096")


def ours(gguf: pathlib.Path) -> dict[str, tuple[str, ...]]:
    """Options by name. Files are named as llama.cpp names them: NAME.TYPE.gguf."""
    kind = gguf.stem.rpartition(".")[2].lower()
    rounded = {"f32": None, "f16": None, "bf16": "bf16"}.get(kind, "int8")
    return {"msrnn": ()} | ({f"msrnn, activations in {rounded}": ("--activations", rounded)} if rounded else {})


def llama_perplexity(program: pathlib.Path, gguf: pathlib.Path, text: pathlib.Path, n: int, threads: int) -> float:
    """Tokens per second of one context of a text."""
    rates = []
    for flash in ("off", "on"):
        command = [program, "-m", gguf, "-f", text, "-c", n, "-b", n, "--chunks", 1, "-t", threads, "-fa", flash]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True)
        seconds = re.search(r"([0-9.]+) seconds per pass", done.stdout + done.stderr)
        rates.append(n / float(seconds[1]))
    return max(rates)


def measure(part: str, gguf: pathlib.Path, msrnn: Msrnn, llama: LlamaCpp, args: argparse.Namespace) -> list[dict]:
    kind, _, number = part.partition(":")
    n = int(number)
    rounds = []
    for _ in range(args.rounds):
        values = {}
        for name, options in ours(gguf).items():
            tokens, policies = {"prefill": (n, "full"), "score": (n, "tova,full")}.get(kind, (args.tokens, "tova,full"))
            states = 256 if kind == "score" else n
            off = [word for other in ("prefill", "score", "decode") if other != kind for word in (f"--{other}", 0)]
            rows = msrnn.bench(f"--{kind}", tokens, *off, "--policies", policies, "--states", states, *options)["rows"]
            values |= {f"{name} {row['policy']}": row["tokens_per_second"]["mean"] for row in rows}
        if kind == "score":
            values["llama.cpp"] = llama_perplexity(args.llama_perplexity, gguf, args.text, n, args.threads)
            rounds.append(values)
            print(gguf.name, part, {name: round(number, 2) for name, number in values.items()}, flush=True)
            continue
        test = ("-p", n, "-n", 0) if kind == "prefill" else ("-p", 0, "-n", args.tokens, "-d", n)
        values["llama.cpp"] = max(llama.bench(gguf, *test, *more)[0] for more in FLASH.values())
        rounds.append(values)
        print(gguf.name, part, {name: round(number, 2) for name, number in values.items()}, flush=True)
    return rounds


def table(record: dict) -> str:
    """Medians over rounds, and ratios to llama.cpp within a round."""
    lines = ["| file, test | msrnn at | what | rounds | tokens/s | over llama.cpp |", "|---|---|---|---:|---:|---:|"]
    for part, found in record["parts"].items():
        for name in found["rounds"][0]:
            values = [values[name] for values in found["rounds"]]
            ratios = sorted(values[name] / values["llama.cpp"] for values in found["rounds"])
            ratio = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            lines.append(f"| {part} | {found['commit']} | {name} | {len(values)} | {statistics.median(values):.1f} | "
                         f"{'' if name == 'llama.cpp' else ratio} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=pathlib.Path, nargs="+")
    parser.add_argument("--llama-bench", type=pathlib.Path, required=True)
    parser.add_argument("--llama-perplexity", type=pathlib.Path, help="for score, with --text")
    parser.add_argument("--text", type=pathlib.Path, help="of more than 4,096 tokens")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64, help="decoded in a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="record.json; a table goes beside it")
    args = parser.parse_args()

    if "score" in args.parts and not (args.llama_perplexity and args.text):
        parser.error("score needs --llama-perplexity and --text; or choose --parts")
    llama = LlamaCpp(args.llama_bench, args.threads)
    record = json.loads(args.out.read_text()) if args.out.exists() else {"parts": {}}
    record |= {"machine": processor(), "cores": os.cpu_count(), "threads": args.threads}
    for gguf in args.files:
        for part in args.parts.split(","):
            rounds = measure(part, gguf, Msrnn(gguf, args.threads), llama, args)
            found = {"unit": "tokens/s", "commit": commit(), "date": now(), "rounds": rounds}
            record["parts"][f"{gguf.stem} {part}"] = found
    record["versions"] = {"msrnn": commit(), "llama.cpp": llama.commit}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(record, indent=1) + "\n")
    head = (f"{record['machine']}, {args.threads} threads, llama.cpp {record['versions']['llama.cpp']}; `bench/peers/stored.py`, "
            f"{args.tokens} tokens decoded in a round")
    args.out.with_suffix(".md").write_text(f"{head}\n\n{table(record)}\n")
    print(table(record))


if __name__ == "__main__":
    main()

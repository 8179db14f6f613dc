"""msrnn, llama.cpp and transformers on the same checkpoint, in alternation, as one table of ratios.

Every round runs every program once; ratios are taken within a round. A record that exists is continued:
parts measured again replace the old ones. Programs that are not there are left out, and the record says so.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
MSRNN = ROOT / "target/release/msrnn"
PARTS = ("decode:256", "decode:1024", "decode:4096", "decode-f32/f16:256", "decode-f32/f16:1024", "decode-f32/f16:4096",
         "decode-bf16:256", "decode-int8/f16:256", "prefill:512", "prefill-bf16:512", "score:4096", "first-token", "memory:256",
         "memory:4096", "bundled:256")


def run(command: list) -> tuple[str, float, int]:
    """Standard output, wall-clock seconds and peak resident bytes of a command."""
    command = [str(word) for word in command]
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=out, stderr=errors, stdin=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        out.seek(0)
        errors.seek(0)
        if process.returncode != 0:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{errors.read()[-2000:]}")
        return out.read(), seconds, usage.ru_maxrss * 1024


class Msrnn:
    def __init__(self, directory: pathlib.Path, threads: int) -> None:
        self.directory, self.threads = directory, threads

    def bench(self, *more: object) -> dict:
        model = [] if self.directory == pathlib.Path("bundled") else ["--model", self.directory]
        command = [MSRNN, "bench", *model, "--threads", self.threads, "--repetitions", 1, "--format", "json", *more]
        return json.loads(run(command)[0])

    def rate(self, test: str, n: int, policies: str, states: int, dtype: str = "f32") -> dict[str, float]:
        """Tokens per second of every policy, with the share of the limit."""
        off = [word for other in ("prefill", "score", "decode") if other != test for word in (f"--{other}", 0)]
        found = self.bench(f"--{test}", n, *off, "--policies", policies, "--states", states, "--dtype", dtype)
        rates = {}
        for row in found["rows"]:
            name = row["policy"] if row["states"] is None else f"{row['policy']}@{row['states']}"
            rates[name] = row["tokens_per_second"]["mean"]
            rates[f"{name} share"] = row["limit_share"]["mean"]
        return rates


class LlamaCpp:
    def __init__(self, bench: pathlib.Path, threads: int) -> None:
        self.program, self.threads = bench, threads
        self.commit = "unknown"

    def bench(self, model: pathlib.Path, *more: object, warm_up: bool = True) -> tuple[float, float, int]:
        """Tokens per second, wall-clock seconds, peak resident bytes."""
        quiet = [] if warm_up else ["--no-warmup"]
        command = [self.program, "-m", model, "-t", self.threads, "-r", 1, "-o", "json", *quiet, *more]
        out, seconds, peak = run(command)
        found = json.loads(out)[0]
        self.commit = found["build_commit"]
        return found["avg_ts"], seconds, peak


class Candle:
    """candle-peer of the folder beside this file; it has no option for threads but an environment variable."""

    def __init__(self, program: pathlib.Path, directory: pathlib.Path, threads: int) -> None:
        self.program, self.directory = program, directory
        os.environ["RAYON_NUM_THREADS"] = str(threads)

    def rate(self, *test: object) -> float:
        return float(run([self.program, self.directory, *test])[0])

    def first(self) -> float:
        return run([self.program, self.directory, "first"])[1]


class Transformers:
    def __init__(self, directory: pathlib.Path, attention: str, threads: int, dtype: str = "float32") -> None:
        import torch
        from transformers import LlamaForCausalLM

        self.torch = torch
        torch.set_num_threads(threads)
        load = LlamaForCausalLM.from_pretrained
        self.model = load(directory, dtype=getattr(torch, dtype), attn_implementation=attention).eval()
        self.caches: dict[int, object] = {}

    def ids(self, n: int):
        return self.torch.randint(3, self.model.config.vocab_size, (1, n))

    def decode(self, depth: int, n: int) -> float:
        """Tokens per second of `n` tokens after `depth`; the cache is filled once and cut back."""
        from transformers import DynamicCache

        with self.torch.inference_mode():
            if depth not in self.caches:
                cache = DynamicCache()
                self.model(self.ids(depth), past_key_values=cache, logits_to_keep=1)
                self.caches[depth] = cache
            cache = self.caches[depth]
            self.model(self.ids(1), past_key_values=cache)
            start = time.perf_counter()
            for _ in range(n):
                self.model(self.ids(1), past_key_values=cache)
            seconds = time.perf_counter() - start
            cache.crop(-(n + 1))
        return n / seconds

    def prefill(self, n: int) -> float:
        ids = self.ids(n)
        start = time.perf_counter()
        with self.torch.inference_mode():
            self.model(ids, logits_to_keep=1, use_cache=True)
        return n / (time.perf_counter() - start)

    def score(self, n: int) -> float:
        ids = self.ids(n)
        start = time.perf_counter()
        with self.torch.inference_mode():
            logits = self.model(ids, use_cache=False).logits[0, :-1].float()
            self.torch.log_softmax(logits, -1).gather(1, ids[0, 1:, None]).sum().item()
        return n / (time.perf_counter() - start)


# llama-bench holds keys and values in f16 (it cannot hold them in f32), and may fuse attention or not.
FLASH = {"llama.cpp, f16 cache": ["-fa", 0], "llama.cpp, f16 cache, flash attention": ["-fa", 1]}


def subjects(part: str, args: argparse.Namespace) -> tuple[str, dict]:
    """What is measured, and one function per program that gives a number, or several by name."""
    kind, _, number = part.partition(":")
    n = int(number or 0)
    msrnn, llama, peers = Msrnn(args.directory, args.threads), None, {}
    if args.llama_bench:
        llama = LlamaCpp(args.llama_bench, args.threads)
        args.llama = llama

    candle = Candle(args.candle, args.directory, args.threads) if args.candle else None

    def with_transformers() -> None:
        for attention in () if args.no_transformers else ("eager", "sdpa"):
            peers[f"transformers {attention}"] = Transformers(args.directory, attention, args.threads)

    if kind == "decode" or kind.startswith("decode-"):
        dtype = kind.removeprefix("decode").removeprefix("-") or "f32"
        gguf = {"f32": args.gguf, "bf16": args.gguf_bf16, "int8": args.gguf_q8}[dtype.partition("/")[0]]
        functions = {"msrnn": lambda: msrnn.rate("decode", args.tokens, "tova,full", n, dtype)}
        if llama and gguf:
            functions |= {name: lambda more=more: llama.bench(
                gguf, "-p", 0, "-n", args.tokens, "-d", n, *more)[0] for name, more in FLASH.items()}
        if dtype == "f32":
            with_transformers()
            if candle:
                functions["candle"] = lambda: candle.rate("decode", n, args.tokens)
        functions |= {name: lambda peer=peer: peer.decode(n, args.tokens) for name, peer in peers.items()}
        return "tokens/s", functions
    if kind == "bundled":
        small = Msrnn(pathlib.Path("bundled"), args.threads)
        functions = {"msrnn": lambda: small.rate("decode", 512, "tova,full", n)}
        if llama and args.gguf_bundled:
            functions |= {name: lambda more=more: llama.bench(
                args.gguf_bundled, "-p", 0, "-n", 512, "-d", n, *more)[0] for name, more in FLASH.items()}
        return "tokens/s", functions
    if kind == "prefill":
        functions = {"msrnn": lambda: msrnn.rate("prefill", n, "full", n)}
        if llama and args.gguf:
            functions |= {name: lambda more=more: llama.bench(args.gguf, "-p", n, "-n", 0, *more)[0]
                          for name, more in FLASH.items()}
        if candle:
            functions["candle"] = lambda: candle.rate("prefill", n)
        with_transformers()
        functions |= {name: lambda peer=peer: peer.prefill(n) for name, peer in peers.items()}
        return "tokens/s", functions
    if kind == "prefill-bf16":
        functions = {"msrnn": lambda: msrnn.rate("prefill", n, "full", n, "bf16/bf16/bf16")}
        if llama and args.gguf_bf16:
            functions |= {name: lambda more=more: llama.bench(args.gguf_bf16, "-p", n, "-n", 0, *more)[0]
                          for name, more in FLASH.items()}
        if not args.no_transformers:
            peer = Transformers(args.directory, "sdpa", args.threads, "bfloat16")
            functions["transformers sdpa"] = lambda: peer.prefill(n)
        return "tokens/s", functions
    if kind == "score":
        policies = "full,window@256,window+4@256,h2o@256,tova@256"
        functions = {"msrnn": lambda: msrnn.rate("score", n, policies, 256)}
        with_transformers()
        peers.pop("transformers eager", None)
        functions |= {name: lambda peer=peer: peer.score(n) for name, peer in peers.items()}
        return "tokens/s", functions
    if kind == "first-token":
        ids = pathlib.Path(tempfile.mkdtemp()) / "ids.json"
        ids.write_text("[5, 6]")
        command = [MSRNN, "perplexity", "--model", args.directory, "--ids", ids, "--policy", "full", "--json"]
        functions = {"msrnn": lambda: run(command)[1]}
        if llama and args.gguf:
            functions["llama.cpp"] = lambda: llama.bench(args.gguf, "-p", 0, "-n", 1, warm_up=False)[1]
        if candle:
            functions["candle"] = candle.first
        return "seconds from start to the logits of a first token", functions
    if kind == "memory":
        def resident() -> dict[str, float]:
            found = msrnn.bench("--prefill", 0, "--score", 0, "--decode", 8, "--policies", "tova", "--states", n)
            needed = found["weight_bytes"] + found["rows"][0]["state_bytes"]
            peak = found["peak_resident_bytes"]
            return {f"tova@{n}": peak, f"tova@{n} over weights and states": peak / needed}

        functions = {"msrnn": resident}
        if llama and args.gguf:
            functions["llama.cpp, f16 cache"] = lambda: llama.bench(args.gguf, "-p", 0, "-n", 8, "-d", n)[2]
        return "peak resident bytes", functions
    raise SystemExit(f"no part is called {part}; there are {', '.join(PARTS)}")


def measure(part: str, args: argparse.Namespace) -> dict:
    unit, functions = subjects(part, args)
    rounds: list[dict[str, float]] = []
    for _ in range(args.rounds):
        values: dict[str, float] = {}
        for name, function in functions.items():
            value = function()
            pairs = value.items() if isinstance(value, dict) else [("", value)]
            values |= {f"{name} {key}".strip(): number for key, number in pairs}
        rounds.append(values)
        print(part, {name: round(number, 3) for name, number in values.items()}, flush=True)
    return {"unit": unit, "commit": commit(), "date": now(), "rounds": rounds}


def commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="minutes")


def processor() -> str:
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def table(record: dict) -> str:
    """Medians over rounds; ratios of the first row's value to each peer's within a round."""
    lines = ["| part | what | median | msrnn over it, or its ratio |", "|---|---|---:|---:|"]
    for part, found in record["parts"].items():
        rounds = found["rounds"]
        ours = next((name for name in rounds[0] if name.startswith("msrnn")), None)
        for name in rounds[0]:
            values = [values[name] for values in rounds]
            median = statistics.median(values)
            ratio = ""
            if not name.startswith("msrnn"):
                ratios = sorted(values[ours] / values[name] for values in rounds)
                ratio = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            elif name not in (ours, f"{ours} share") and not name.endswith(("share", "states")):
                ratios = [values[name] / values[ours] for values in rounds]
                ratio = f"{ours} over it {1 / statistics.median(ratios):.3f}"
            shown = f"{median:.3f}" if median < 100 else f"{median:,.0f}"
            lines.append(f"| {part}, {found['unit']} | {name} | {shown} | {ratio} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=pathlib.Path, help="made by make_checkpoint.py")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=32, help="decoded in a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--llama-bench", type=pathlib.Path)
    parser.add_argument("--gguf", type=pathlib.Path, help="the checkpoint, by to_gguf.py")
    parser.add_argument("--gguf-bf16", type=pathlib.Path)
    parser.add_argument("--gguf-q8", type=pathlib.Path, help="the same with --dtype q8_0, beside our int8")
    parser.add_argument("--gguf-bundled", type=pathlib.Path, help="msrnn-bench/bundled, by to_gguf.py")
    parser.add_argument("--candle", type=pathlib.Path, help="candle-peer, built as candle/Cargo.toml says")
    parser.add_argument("--no-transformers", action="store_true")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="record.json; a table goes beside it")
    args = parser.parse_args()
    args.llama = None

    record = json.loads(args.out.read_text()) if args.out.exists() else {"parts": {}}
    shape = json.loads((args.directory / "config.json").read_text())
    keys = ("num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "intermediate_size",
            "vocab_size")
    record |= {"machine": processor(), "cores": os.cpu_count(), "threads": args.threads,
               "model": {key: shape[key] for key in keys}}
    versions = record.setdefault("versions", {})
    for part in args.parts.split(","):
        record["parts"][part] = measure(part, args)
        versions["msrnn"] = commit()
        if args.llama:
            versions["llama.cpp"] = args.llama.commit
        if args.candle:
            versions["candle"] = "as in candle/Cargo.lock"
        if not args.no_transformers:
            import torch
            import transformers

            versions |= {"torch": torch.__version__, "transformers": transformers.__version__}
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(record, indent=1) + "\n")
        head = (f"{record['machine']}, {args.threads} threads, {record['model']}, versions {versions}; "
                f"`bench/peers/compare.py`, {args.rounds} rounds of {args.tokens} tokens")
        args.out.with_suffix(".md").write_text(f"{head}\n\n{table(record)}\n")
    print(table(record))


if __name__ == "__main__":
    main()

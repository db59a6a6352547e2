#!/usr/bin/env python3
"""qfid's attention beside what PyTorch's users would run, at the shapes docs/results reports.

    peer_sdpa.py build/release/bin/qfid_bench --rounds 5 --threads 1 --json out/peer_sdpa.json

In each round every shape is timed by qfid_bench and by PyTorch one right after the other, the order swapped from round to
round. Peers: scaled_dot_product_attention in f32 and in bf16 (operands bf16 from the start), and INT8 as users write it
(per-token casts, torch._int_mm per head, softmax, cast of P, torch._int_mm; up to 2048 tokens). The ratio of a round is
the faster SDPA's time / qfid's: above 1, qfid is faster. Shown: median [least, largest]; GFLOP/s count the two products
over visible pairs.

Exit codes: 0, 1 (qfid_bench failed), 2 (wrong options), 3 (no qfid_bench), 4 (no PyTorch: says so and compares nothing).
"""

import argparse
import json
import os
import statistics
import tempfile
import time

import peer_common as common

SHAPES = [(8, 512, 64), (8, 2048, 64), (8, 2048, 128), (4, 8192, 128)]
INT_MM_TOKENS = 2048


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bench", help="path of qfid_bench")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--min-time", type=float, default=0.2, help="seconds each side spends on a shape in a round")
    parser.add_argument("--schemes", default="f32,bf16,int8-tensor,int8-token,e4m3-token", help="of qfid_bench, by commas")
    parser.add_argument("--tokens", default="", help="only these lengths, by commas")
    parser.add_argument("--json", help="also write everything here")
    args = parser.parse_args()
    if args.rounds < 1 or args.threads < 1:
        parser.error("--rounds and --threads must be at least 1")
    return args


def name_of(scheme, shape, causal):
    heads, tokens, dim = shape
    return f"sdpa/cpu/{scheme}/{'causal' if causal else 'full'}/1x{heads}x{tokens}x{dim}"


def run_bench(args, shape, causal):
    """Scheme -> (seconds of one call, what ran)."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "bench.json")
        names = "|".join(name_of(s, shape, causal) for s in args.schemes.split(","))
        common.run_program(
            [
                args.bench,
                f"--benchmark_filter=^({names})/real_time$",
                f"--benchmark_min_time={args.min_time}s",
                "--benchmark_min_warmup_time=0.01",  # one call beforehand, as the other side has
                f"--benchmark_out={out}",
                "--benchmark_out_format=json",
            ]
        )
        with open(out) as file:
            record = json.load(file)
    units = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
    return record["context"], {
        b["name"].split("/")[2]: (b["real_time"] * units[b["time_unit"]], b.get("label", "")) for b in record["benchmarks"]
    }


def seconds_of(work, min_time):
    """Mean of as many calls as fill min_time, as Google Benchmark does it; a call beforehand warms up."""
    work()
    start, calls = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < min_time or calls == 0:
        work()
        calls += 1
    return elapsed / calls


def int8_attention(torch, q, k, v, causal):
    """INT8 as PyTorch's users write it: [heads, tokens, dim] f32 in and out."""

    def cast(x, axis):
        scale = x.abs().amax(axis, keepdim=True) / 127
        return (x / scale).round().to(torch.int8), scale

    (qc, qs), (kc, ks), (vc, vs) = cast(q, -1), cast(k, -1), cast(v, -2)
    hidden = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool).triu(1) if causal else None

    def head(h):
        s = torch._int_mm(qc[h], kc[h].t()).float() * (qs[h] * ks[h].t()) * q.shape[-1] ** -0.5
        if hidden is not None:
            s.masked_fill_(hidden, float("-inf"))
        p = (torch.softmax(s, -1) * 127).round().to(torch.int8)
        return torch._int_mm(p, vc[h]).float() * (vs[h] / 127)

    return torch.stack([head(h) for h in range(q.shape[0])])


def peers_of(torch, args, shape, causal):
    """Peer -> seconds of one call."""
    heads, tokens, dim = shape
    q, k, v = (torch.randn(1, heads, tokens, dim) for _ in range(3))
    sdpa = torch.nn.functional.scaled_dot_product_attention
    halves = [t.bfloat16() for t in (q, k, v)]
    times = {
        "sdpa f32": seconds_of(lambda: sdpa(q, k, v, is_causal=causal), args.min_time),
        "sdpa bf16": seconds_of(lambda: sdpa(*halves, is_causal=causal), args.min_time),
    }
    if tokens <= INT_MM_TOKENS and hasattr(torch, "_int_mm"):
        times["_int_mm"] = seconds_of(lambda: int8_attention(torch, q[0], k[0], v[0], causal), args.min_time)
    return times


def measured(torch, args, shapes):
    """Shape -> rounds of (qfid's times, PyTorch's), and the context of qfid_bench."""
    rounds, load, labels, context = {s: [] for s in shapes}, [], {}, {}
    for i in range(args.rounds):
        load.append(os.getloadavg()[0])
        for shape in shapes:
            sides = {}
            for side in ("ours", "theirs") if i % 2 == 0 else ("theirs", "ours"):
                if side == "ours":
                    context, sides[side] = run_bench(args, *shape)
                else:
                    with torch.inference_mode():
                        sides[side] = peers_of(torch, args, *shape)
            labels.update({s: label for s, (_, label) in sides["ours"].items()})
            rounds[shape].append(({s: t for s, (t, _) in sides["ours"].items()}, sides["theirs"]))
        print(f"round {i + 1} of {args.rounds}, load {load[-1]:.2f}", file=common.sys.stderr)
    return rounds, load, labels, context


def main():
    args = arguments()
    common.need(args.bench, "qfid_bench")
    common.set_threads(args.threads)
    (torch,) = common.import_or_stop("torch")
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    lengths = {int(t) for t in args.tokens.split(",") if t}
    shapes = [(s, causal) for s in SHAPES if not lengths or s[1] in lengths for causal in (False, True)]
    rounds, load, labels, context = measured(torch, args, shapes)
    rows, results = [], {}
    for (heads, tokens, dim), causal in shapes:
        parts = rounds[((heads, tokens, dim), causal)]
        operations = 4 * heads * dim * (tokens * (tokens + 1) / 2 if causal else tokens * tokens)
        rate = lambda seconds: f"{operations / statistics.median(seconds) * 1e-9:.0f}"
        theirs = {peer: [t[peer] for _, t in parts] for peer in parts[0][1]}
        faster = [min(t["sdpa f32"], t["sdpa bf16"]) for _, t in parts]
        for scheme in parts[0][0]:
            mine = [o[scheme] for o, _ in parts]
            name = name_of(scheme, (heads, tokens, dim), causal)
            results[name] = {"qfid_seconds": mine, "torch_seconds": theirs, "implementation": labels[scheme]}
            results[name]["ratio"] = common.ratios(faster, mine)
            results[name]["ratio_f32"] = common.ratios(theirs["sdpa f32"], mine)
            cells = [rate(theirs[p]) if p in theirs else "-" for p in ("sdpa f32", "sdpa bf16", "_int_mm")]
            ratio = common.spread(results[name]["ratio"])
            rows.append([name.removeprefix("sdpa/cpu/"), rate(mine), *cells, ratio, common.spread(results[name]["ratio_f32"])])
    header = ["GFLOP/s", "qfid", "sdpa f32", "sdpa bf16", "_int_mm", "faster sdpa/qfid", "sdpa f32/qfid"]
    common.print_table(header, rows)
    for scheme, label in labels.items():
        print(f"{scheme}: {label}")
    record = {"threads": args.threads, "machine": common.machine(torch, load), "context": context, "results": results}
    common.write_json(args.json, record)


if __name__ == "__main__":
    main()

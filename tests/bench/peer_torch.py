#!/usr/bin/env python3
"""qfid's linears and attention beside PyTorch's, on the same shapes with the same number of threads.

    peer_torch.py build/release/bin/qfid_bench --rounds 5 --threads 2 --json out/peer_torch.json

In each round the Google Benchmark program and PyTorch run one after the other; the order is swapped from round to round.
A ratio is PyTorch's time / qfid's time of the same round: above 1, qfid is faster. Shown: median [least, largest].

Same work on both sides, with one exception in PyTorch's favour: its bf16 operands are bf16 from the start, qfid's are f32
and cast in the time. Peers of the INT8 linears: int8-token against a dynamic per-token cast, torch._int_mm, scales and
bias; int8-tensor against torch.ao's dynamic quantized Linear; each only where this PyTorch has it. PyTorch has no INT8 or
FP8 attention on CPUs: those stand beside its f32 SDPA.

Exit codes: 0, 1 (qfid_bench failed), 2 (wrong options), 3 (no qfid_bench), 4 (no PyTorch: says so and compares nothing).
"""

import argparse
import json
import os
import re
import tempfile
import time

import peer_common as common

HEADS, HEAD_DIM = 12, 64


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bench", help="path of qfid_bench")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--min-time", type=float, default=0.05, help="seconds each side spends on a shape in a round")
    parser.add_argument("--filter", default="^(linear|attention)/cpu/", help="benchmarks to run, as a regular expression")
    parser.add_argument("--json", help="also write everything here")
    args = parser.parse_args()
    if args.rounds < 1 or args.threads < 1:
        parser.error("--rounds and --threads must be at least 1")
    return args


def run_bench(args):
    """Name -> seconds of one iteration, of every benchmark of the cpu backend that has a peer."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "bench.json")
        common.run_program(
            [
                args.bench,
                f"--benchmark_filter={args.filter}",
                f"--benchmark_min_time={args.min_time}s",
                f"--benchmark_out={out}",
                "--benchmark_out_format=json",
            ]
        )
        with open(out) as file:
            record = json.load(file)
    units = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
    times = {}
    for b in record["benchmarks"]:
        name = b["name"].removesuffix("/real_time")
        if re.match(r"(linear|attention)/cpu/", name):
            times[name] = b["real_time"] * units[b["time_unit"]]
    return record["context"], times


def linear_peer(torch, scheme, in_, out, rows):
    """(what it is, a function to time), or None where this PyTorch has none."""
    x, w, bias = torch.randn(rows, in_), torch.randn(out, in_), torch.randn(out)
    linear = torch.nn.functional.linear
    if scheme == "f32":
        return "linear f32", lambda: linear(x, w, bias)
    if scheme == "bf16":
        x16, w16, b16 = x.bfloat16(), w.bfloat16(), bias.bfloat16()
        return "linear bf16", lambda: linear(x16, w16, b16)
    if scheme == "int8-token" and hasattr(torch, "_int_mm"):
        sw = w.abs().amax(1) / 127
        codes = (w / sw[:, None]).round().to(torch.int8).t()

        def token():
            sx = x.abs().amax(1, keepdim=True) / 127
            return torch._int_mm((x / sx).round().to(torch.int8), codes) * sx * sw + bias

        return "cast + _int_mm", token
    if scheme == "int8-tensor":
        try:
            module = torch.ao.nn.quantized.dynamic.Linear(in_, out)
            module.set_weight_bias(torch.quantize_per_tensor(w, float(w.abs().max()) / 127, 0, torch.qint8), bias)
            module(x)
        except (AttributeError, RuntimeError, ImportError):
            return None
        return "ao dynamic Linear", lambda: module(x)
    return None


def attention_peer(torch, scheme, variant, tokens):
    kind = torch.bfloat16 if scheme == "bf16" else torch.float32
    q, k, v = (torch.randn(1, tokens, HEADS, HEAD_DIM, dtype=kind) for _ in range(3))
    gate = torch.randn(1, tokens, HEADS, 1, dtype=kind)

    def attend():
        values = v * torch.sigmoid(gate) if variant == "vga-value" else v
        heads = [t.transpose(1, 2) for t in (q, k, values)]
        out = torch.nn.functional.scaled_dot_product_attention(*heads, is_causal=True).transpose(1, 2)
        return out * torch.sigmoid(gate) if variant == "vga-output" else out

    return f"SDPA {'bf16' if scheme == 'bf16' else 'f32'}", attend


def peer_of(torch, name):
    if found := re.fullmatch(r"linear/cpu/([^/]+)/(\d+)x(\d+)/M:(\d+)", name):
        return linear_peer(torch, found[1], int(found[2]), int(found[3]), int(found[4]))
    if found := re.fullmatch(r"attention/cpu/([^/]+)/([^/]+)/T:(\d+)", name):
        return attention_peer(torch, found[1], found[2], int(found[3]))
    return None


def seconds_of(work, min_time):
    """Mean of as many calls as fill min_time, as Google Benchmark does it; two calls beforehand warm up."""
    work()
    work()
    start, calls = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < min_time or calls == 0:
        work()
        calls += 1
    return elapsed / calls


def main():
    args = arguments()
    common.need(args.bench, "qfid_bench")
    common.set_threads(args.threads)
    (torch,) = common.import_or_stop("torch")
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    context, first = run_bench(args)
    labels = {}

    def theirs():
        times = {}
        with torch.inference_mode():
            for name in first:  # operands live for one shape only
                if peer := peer_of(torch, name):
                    labels[name] = peer[0]
                    times[name] = seconds_of(peer[1], args.min_time)
        return times

    ours, peers, load = common.rounds(args.rounds, lambda: run_bench(args)[1], theirs)
    results, rows = {}, []
    for name in sorted(labels):
        mine, other = [r[name] for r in ours], [r[name] for r in peers]
        entry = {"peer": labels[name], "qfid_seconds": common.summary(mine), "torch_seconds": common.summary(other)}
        entry["ratio"] = common.ratios(other, mine)
        results[name] = entry
        rows.append(
            [
                name,
                f"{entry['qfid_seconds']['median'] * 1e6:.0f}",
                f"{entry['torch_seconds']['median'] * 1e6:.0f}",
                common.spread(entry["ratio"]),
                labels[name],
            ]
        )
    common.print_table(["benchmark", "qfid us", "torch us", "torch/qfid", "peer"], rows)
    left_out = sorted({"/".join(name.split("/")[:3]) for name in set(first) - set(labels)})
    if left_out:
        print(f"without a peer in this PyTorch: {', '.join(left_out)}")
    record = {"threads": args.threads, "machine": common.machine(torch, load), "context": context, "results": results}
    common.write_json(args.json, record)


if __name__ == "__main__":
    main()

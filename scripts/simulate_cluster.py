#!/usr/bin/env python3
"""How a run of qfid on many workers would fare: static shards beside units handed out as they are asked for.

    scripts/simulate_cluster.py                           the tables of docs/cluster-simulation.md
    scripts/simulate_cluster.py --measure build/release/bin/qfid MODEL TOKENS      what a unit costs, measured here

A discrete-event simulation of units, workers and failures; the standard library alone, and one seed: the same call prints
the same bytes. What is assumed stands in docs/cluster-simulation.md.
"""
import argparse
import heapq
import json
import random
import resource
import statistics
import struct
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Costs:
    """Of the model that is simulated; seconds on a worker of speed 1."""
    parameters: float = 70e9
    layers: int = 80
    hidden: int = 8192
    context: int = 2048
    targets: int = 30
    # docs/results/gpu-h200.md, lm-softmax (17.5 M parameters), INT8 per token with measures: 792,971 tokens a second.
    flops: float = 792_971 * 2 * 17.5e6
    read_bytes_per_second: float = 1e9  # of the checkpoint, per worker; read twice: hashed, loaded
    bytes_per_parameter: float = 2
    # --measure on lm-softmax: a start's CPU time, spread over 16 cores; a window's journal, sampled windows left out.
    start_seconds_per_byte: float = 8.0e-9 / 16
    journal_layer_bytes: float = 4448
    journal_token_bytes: float = 72

    def window_seconds(self):
        products = 2 * self.parameters * self.context
        attention = 4 * self.layers * self.hidden * self.context ** 2
        return (1 + self.targets) * (products + attention) / self.flops

    def load_seconds(self):
        return self.parameters * self.bytes_per_parameter * (2 / self.read_bytes_per_second + self.start_seconds_per_byte)

    def window_bytes(self):
        return (1 + self.targets) * (self.layers * self.journal_layer_bytes + self.context * self.journal_token_bytes)


@dataclass(frozen=True)
class Case:
    mode: str  # shards, ranks (a lost rank stays lost), job (a lost rank ends the job, which is started again)
    workers: int = 1000
    windows: int = 16384
    chunk: int = 1
    spread: float = 0.1  # sigma of the lognormal of a worker's seconds
    stragglers: float = 0.05
    straggler_factor: float = 3.0
    mtbf: float = 0  # seconds of one worker; 0 = nothing fails
    restart: float = 300  # seconds until a failed process is there again
    notice: float = 60  # seconds of silence after which a rank is lost
    seed: int = 1


@dataclass
class Result:
    makespan: float = 0
    useful: float = 0  # worker seconds in units that counted
    lost: float = 0  # in units that did not
    failures: int = 0

    def efficiency(self, workers):
        return self.useful / (workers * self.makespan)


class Workers:
    """How slow each is, and when it fails next. Drawn in the same order whatever the mode."""

    def __init__(self, case):
        draw = random.Random(case.seed)
        self.case = case
        self.slowness = [draw.lognormvariate(0, case.spread) for _ in range(case.workers)]
        for worker in draw.sample(range(case.workers), round(case.stragglers * case.workers)):
            self.slowness[worker] *= case.straggler_factor
        self.draws = [random.Random(case.seed * 1_000_003 + worker) for worker in range(case.workers)]

    def until_failure(self, worker):
        return self.draws[worker].expovariate(1 / self.case.mtbf) if self.case.mtbf else float("inf")


def unit_windows(case):
    whole, rest = divmod(case.windows, case.chunk)
    return [case.chunk] * whole + ([rest] if rest else [])


def shards(case, costs):
    """Worker i computes every N-th unit; after a failure it starts again, and goes on after its last finished unit."""
    workers, units, result = Workers(case), unit_windows(case), Result()
    for worker in range(case.workers):
        now, fails = 0.0, workers.until_failure(worker)
        mine = units[worker::case.workers]
        load = costs.load_seconds()  # reading is the storage's speed, not the worker's
        ready = now + load
        done = 0
        while done < len(mine):
            seconds = mine[done] * costs.window_seconds() * workers.slowness[worker]
            if ready + seconds > fails:
                result.failures += 1
                result.lost += max(0.0, fails - ready)
                restarted = fails + case.restart
                fails = restarted + workers.until_failure(worker)
                ready = restarted + load
                continue
            ready += seconds
            result.useful += seconds
            done += 1
        if mine:
            result.makespan = max(result.makespan, ready)
    return result


def ranks(case, costs):
    """Whoever is free takes the next unit; a lost rank's goes to another after `notice`, and it doesn't come back."""
    workers, result = Workers(case), Result()
    queue = [(0.0, i, windows) for i, windows in enumerate(unit_windows(case))]  # free from, number, size
    heapq.heapify(queue)
    fails = [workers.until_failure(worker) for worker in range(case.workers)]
    free = [(costs.load_seconds(), worker) for worker in range(case.workers)]
    heapq.heapify(free)
    while queue:
        if not free:
            return None  # every rank was lost: the job is started again by hand
        at, worker = heapq.heappop(free)
        since, number, windows = queue[0]
        if since > at:
            heapq.heappush(free, (since, worker))
            continue
        heapq.heappop(queue)
        seconds = windows * costs.window_seconds() * workers.slowness[worker]
        if at + seconds > fails[worker]:
            result.failures += 1
            result.lost += max(0.0, fails[worker] - at)
            heapq.heappush(queue, (max(at, fails[worker]) + case.notice, number, windows))
            continue
        result.useful += seconds
        result.makespan = max(result.makespan, at + seconds)
        heapq.heappush(free, (at + seconds, worker))
    return result


def job(case, costs):
    """As ranks, but the first failure ends the job: every unit at hand is lost, and all load again after `restart`."""
    workers, result = Workers(case), Result()
    left = unit_windows(case)[::-1]
    start = 0.0
    while left:
        ends = start + min(workers.until_failure(worker) for worker in range(case.workers))
        free = [(start + costs.load_seconds(), worker) for worker in range(case.workers)]
        heapq.heapify(free)
        finished_at, unfinished = start, []
        while left and free[0][0] < ends:
            at, worker = heapq.heappop(free)
            windows = left.pop()
            seconds = windows * costs.window_seconds() * workers.slowness[worker]
            if at + seconds > ends:
                result.lost += ends - at
                unfinished.append(windows)
                continue_at = ends
            else:
                result.useful += seconds
                finished_at = max(finished_at, at + seconds)
                continue_at = at + seconds
            heapq.heappush(free, (continue_at, worker))
        left += unfinished
        result.makespan = finished_at
        if left:
            result.failures += 1
            start = ends + case.restart
        if result.failures > 10_000:
            return None  # it never gets through
    return result


def simulate(case, costs):
    return {"shards": shards, "ranks": ranks, "job": job}[case.mode](case, costs)


def several(case, costs, seeds=5):
    """Medians over seeds."""
    found = [simulate(replace(case, seed=seed), costs) for seed in range(1, seeds + 1)]
    if any(one is None for one in found):
        return None
    median = lambda take: statistics.median(take(one) for one in found)
    return (median(lambda r: r.makespan), median(lambda r: r.efficiency(case.workers)),
            median(lambda r: r.lost / (r.useful + r.lost)), median(lambda r: r.failures))


def row(case, costs):
    found = several(case, costs)
    if found is None:
        return "never ends | | |"
    makespan, efficiency, lost, failures = found
    return f"{makespan / 3600:.2f} h | {100 * efficiency:.1f} % | {100 * lost:.2f} % | {failures:.0f} |"


def table(title, head, rows):
    print(f"\n### {title}\n\n| {head} | makespan | efficiency | work lost | failures |\n|{'---|' * (head.count('|') + 5)}")
    for line in rows:
        print(line)


MODES = {"shards": "static shards", "ranks": "handed out, ranks live on", "job": "handed out, one failure ends the job"}


def tables(costs, windows):
    base = Case("shards", windows=windows)
    print(f"One window under {costs.targets} targets: {costs.window_seconds():.0f} s; loading: {costs.load_seconds():.0f} s; "
          f"{windows} windows: {windows * costs.window_seconds() / 3600:.0f} worker hours of nominal speed.")
    table("How units are given to 1,000 workers", "how | workers", [
        f"| {MODES[mode]} | {what} | {row(replace(base, mode=mode, **change), costs)}"
        for what, change in (("all alike", dict(spread=0.0, stragglers=0.0)), ("lognormal, sigma 0.1", dict(stragglers=0.0)),
                             ("and 5 % at 3 times", {}), ("and MTBF 1,000 h", dict(mtbf=3.6e6)))
        for mode in ("shards", "ranks")])
    table("Chunk size (spread and stragglers as above, MTBF 1,000 h)", "chunk_windows | units | how", [
        f"| {chunk} | {-(-windows // chunk)} | {MODES[mode]} | {row(replace(base, mode=mode, chunk=chunk, mtbf=3.6e6), costs)}"
        for chunk in (1, 2, 4, 8, 16) for mode in ("shards", "ranks")])
    table("Number of workers (chunk_windows 1, MTBF 1,000 h)", "workers | how", [
        f"| {workers} | {MODES[mode]} | {row(replace(base, mode=mode, workers=workers, mtbf=3.6e6), costs)}"
        for workers in (125, 250, 500, 1000, 2000, 4000) for mode in ("shards", "ranks")])
    table("Failures (1,000 workers, chunk_windows 1)", "MTBF of a worker | how", [
        f"| {mtbf} h | {MODES[mode]} | {row(replace(base, mode=mode, mtbf=mtbf * 3600.0), costs)}"
        for mtbf in (10_000, 1000, 300, 100) for mode in MODES])


def coordinator(costs, windows, workers=1000, beats_per_second=10 / 60):
    print("\n### Rank 0 (1,000 workers at work, nominal speed)\n\n"
          "| chunk_windows | units a second | messages a second | journal MB a unit | MB a second | whole journal |\n"
          "|---|---|---|---|---|---|")
    for chunk in (1, 4, 16):
        units = workers / (chunk * costs.window_seconds())
        messages = 3 * units + 2 * beats_per_second * workers
        size = chunk * costs.window_bytes()
        print(f"| {chunk} | {units:.2f} | {messages:.0f} | {size / 1e6:.1f} | {units * size / 1e6:.1f} | "
              f"{windows * costs.window_bytes() / 1e9:.0f} GB |")


# What a unit costs, measured.

def journal_units(path):
    """(name, bytes) of every unit of a journal (eval/experiment/journal_file.h)."""
    data = path.read_bytes()
    at, units = 16, []
    while at < len(data):
        size = struct.unpack_from("<Q", data, at)[0]
        record = data[at + 32:at + 32 + size]
        at += 32 + size
        if record[0] == 1:
            name = struct.unpack_from("<Q", record, 1)[0]
            units.append((record[9:9 + name].decode(), size + 32))
    return units


def measured(qfid, model, tokens, targets, windows, context, chunk):
    """Bytes of a chunk in the journal (no window is sampled), and the CPU seconds of the process."""
    with tempfile.TemporaryDirectory() as work:
        config = Path(work) / "m.yaml"
        names = "\n".join(f"  t{i}: {{preset: int8-per-token}}" for i in range(targets))
        config.write_text(f"version: 1\nname: m\nmodels: {{m: {{path: {Path(model).resolve()}}}}}\n"
                          f"data: {{tokens: {Path(tokens).resolve()}, windows: {windows}, context: {context}}}\n"
                          f"targets:\n{names}\nmetrics: {{local_windows: 0, sink_windows: 0}}\n"
                          f"run: {{threads: 1, chunk_windows: {chunk}}}\n")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([qfid, "run", str(config), "--out", work + "/o", "--shard", "1/1", "--quiet"], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        units = [u for u in journal_units(Path(work) / "o/run.journal") if "/windows/" in u[0]]
        cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        return statistics.median(size for name, size in units), cpu


def measure(qfid, model, tokens):
    layers = json.loads((Path(model) / "config.json").read_text())["num_hidden_layers"]
    size = sum(file.stat().st_size for file in Path(model).glob("*.safetensors"))
    context = 256
    run = {(targets, windows, tokens_each): measured(qfid, model, tokens, targets, windows, tokens_each, 1)
           for targets in (1, 4) for windows, tokens_each in ((2, context), (10, context), (2, context // 2))}
    # Three targets more, in bytes of one window; eight windows more of three targets, in CPU seconds.
    per_target = {c: (run[4, 2, c][0] - run[1, 2, c][0]) / 3 for c in (context, context // 2)}
    token = (per_target[context] - per_target[context // 2]) / (context // 2)
    print(f"journal: {token:.1f} bytes a token and target, and {(per_target[context] - token * context) / layers:.0f} bytes "
          f"a layer, window and target ({layers} layers)")
    windows = {targets: run[targets, 10, context][1] - run[targets, 2, context][1] for targets in (1, 4)}
    arm = (windows[4] - windows[1]) / 3 / 8
    print(f"a target: {arm / context / layers * 1e6:.1f} us a token and layer, CPU time of one thread, measures included")
    start = run[1, 2, context][1] - windows[1] / 8 * 2
    more = (run[4, 2, context][1] - windows[4] / 8 * 2 - start) / 3
    print(f"start: {start / size * 1e9:.1f} ns a byte of the checkpoint ({size} bytes) with one target, {more / size * 1e9:.1f} "
          "for each other, CPU time")


def check():
    """Cases that a pencil solves."""
    costs = Costs()
    alike = Case("shards", workers=10, windows=95, spread=0, stragglers=0)
    unit, load = costs.window_seconds(), costs.load_seconds()
    for mode in MODES:  # ten rounds, the last one half idle
        result = simulate(replace(alike, mode=mode), costs)
        assert abs(result.makespan - (load + 10 * unit)) < 1e-6, mode
        assert abs(result.useful - 95 * unit) < 1e-6 and result.lost == 0 and result.failures == 0, mode
    # One straggler of ten at 3 times: its shard takes 3 times as long; handed out, the others take its units.
    slow = replace(alike, stragglers=0.1, windows=90)
    assert abs(simulate(slow, costs).makespan - (load + 27 * unit)) < 1e-6
    assert abs(simulate(replace(slow, mode="ranks", windows=84), costs).makespan - (load + 9 * unit)) < 1e-6
    # What failures cost only adds, and without any the three agree on who does what.
    for mode in MODES:
        calm, rough = (simulate(replace(alike, mode=mode, mtbf=mtbf), costs) for mtbf in (0, 20 * unit))
        assert rough is None or (rough.failures > 0 and rough.lost > 0 and rough.makespan >= calm.makespan), mode
    print("all as expected")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", nargs=3, metavar=("QFID", "MODEL", "TOKENS"), help="measure instead of simulating")
    parser.add_argument("--check", action="store_true", help="the simulation against cases that a pencil solves")
    parser.add_argument("--windows", type=int, default=16384)
    parser.add_argument("--tflops", type=float, help="of a worker, measures included (default: docs/results/gpu-h200.md's)")
    args = parser.parse_args()
    if args.measure:
        return measure(*args.measure)
    if args.check:
        return check()
    costs = Costs() if args.tflops is None else Costs(flops=args.tflops * 1e12)
    tables(costs, args.windows)
    coordinator(costs, args.windows)


if __name__ == "__main__":
    main()

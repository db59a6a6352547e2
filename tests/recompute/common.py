"""What the scripts share: reading results and dumped tensors, agreement, statistics from their definitions (NumPy alone)."""
import json
import math
import pathlib

import numpy as np


class Weights:
    """The bf16 tensors of a checkpoint's model.safetensors: a length, a JSON header of that length, then the data."""

    def __init__(self, directory):
        data = (pathlib.Path(directory) / "model.safetensors").read_bytes()
        size = int.from_bytes(data[:8], "little")
        self.entries = {name.removeprefix("model."): entry for name, entry in json.loads(data[8:8 + size]).items() if name != "__metadata__"}
        self.data = data[8 + size:]

    def has(self, name):
        return name in self.entries

    def tensor(self, name):
        entry = self.entries[name]
        begin, end = entry["data_offsets"]
        assert entry["dtype"] == "BF16", f"{name} is {entry['dtype']}; the built-in models are bf16"
        bits = np.frombuffer(self.data[begin:end], "<u2").astype(np.uint32) << 16  # the upper half of f32's
        return bits.view(np.float32).reshape(entry["shape"])


class Run:
    """One run of a results directory and what `qfid run --dump` left of it."""

    def __init__(self, results, dump, model, target):
        self.record = json.loads((pathlib.Path(results) / "results.json").read_text())
        self.model, self.target, self.folder = model, target, pathlib.Path(dump) / model
        self.weights = Weights(next(m["path"] for m in self.record["models"] if m["name"] == model))
        self.run = next(r for r in self.record["runs"] if (r["model"], r["target"]) == (model, target))

    def tensor(self, name, target=None):
        return np.load(self.folder / (target or self.target) / f"{name}.npy", mmap_mode="r")

    def has(self, name, target=None):
        return (self.folder / (target or self.target) / f"{name}.npy").exists()


class Agreement:
    """Counts what agrees and keeps what doesn't."""

    def __init__(self, relative):
        self.relative, self.checked, self.wrong, self.worst = relative, 0, [], 0.0

    def check(self, name, found, expected, scale=0.0):
        """`scale`: what rounding is measured in where the number itself may cancel to almost nothing."""
        self.checked += 1
        if found is None or expected is None:
            if (found is None) != (expected is None):
                self.wrong.append((name, found, expected))
            return
        error = abs(found - expected) / max(abs(expected), scale, 1e-300) if found != expected else 0.0
        self.worst = max(self.worst, error)
        if not error <= self.relative:
            self.wrong.append((name, found, expected))


def log_softmax(logits):
    x = logits.astype(np.float64)
    x -= x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def divergence(lp, lq):
    """KL(p||q) of each row, as sum of p (e^d - 1 - d): where d is small the difference is replaced by its series."""
    d = lq - lp
    tangent = np.where(np.abs(d) < 1e-3, d * d / 2 * (1 + d / 3 * (1 + d / 4 * (1 + d / 5))), np.expm1(d) - d)
    return (np.exp(lp) * tangent).sum(axis=-1)


def student_quantile(p, degrees):
    """By bisection on Simpson's rule over the density: independent of the incomplete beta function that qfid uses."""
    log_norm = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - 0.5 * math.log(degrees * math.pi)

    def cdf(t):
        x = np.linspace(0, t, 20001)
        y = np.exp(log_norm - (degrees + 1) / 2 * np.log1p(x * x / degrees))
        return 0.5 + (y[0] + y[-1] + 4 * y[1:-1:2].sum() + 2 * y[2:-1:2].sum()) * (x[1] - x[0]) / 3

    low, high = 0.0, 1000.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if cdf(middle) < p else (low, middle)
    return (low + high) / 2


def clustered(sums, counts, confidence):
    """Mean and half width of its interval, windows being the units (docs/metrics.md, "Intervals")."""
    n, mean = len(sums), sums.sum() / counts.sum()
    if n < 16:
        return mean, None
    error = math.sqrt(n / (n - 1) * ((sums - mean * counts) ** 2).sum()) / counts.sum()
    return mean, student_quantile(0.5 + confidence / 2, n - 1) * error

#!/usr/bin/env python3
"""qfid attention against NumPy: full-precision outputs of many problems, within 1e-6 of arithmetic in double.
usage: recompute.py QFID WORK_DIRECTORY"""
import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np

QFID, WORK = sys.argv[1], Path(sys.argv[2])
TYPES = {"float32": "F32", "float16": "F16", "bool": "BOOL", "uint8": "U8"}


def save(path, tensors):
    header, data = {}, b""
    for name, x in tensors.items():
        raw = np.ascontiguousarray(x).tobytes()
        header[name] = {"dtype": TYPES[str(x.dtype)], "shape": list(x.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def load(path):
    raw = path.read_bytes()
    size, = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8:8 + size])
    return {k: np.frombuffer(raw[8 + size + v["data_offsets"][0]:8 + size + v["data_offsets"][1]], np.float32).reshape(v["shape"])
            for k, v in header.items()}


def attention(t, causal, scale, site):
    q, k, v = (t[n].astype(np.float64) for n in "qkv")
    group = q.shape[1] // k.shape[1]
    gate = 1 / (1 + np.exp(-t["gate"].astype(np.float64))) if "gate" in t else None
    if gate is not None and site == "value":
        v = v * gate[..., None]
    k, v = np.repeat(k, group, 1), np.repeat(v, group, 1)
    s = np.einsum("bhid,bhjd->bhij", q, k) * (scale or 1 / np.sqrt(q.shape[-1]))
    q_len, kv_len = s.shape[2:]
    if "mask" in t:
        m = t["mask"]
        s = np.where(m != 0, s, -np.inf) if m.dtype in (np.bool_, np.uint8) else s + m.astype(np.float64)
    if causal:
        s = np.where(np.arange(kv_len)[None, :] <= np.arange(q_len)[:, None] + kv_len - q_len, s, -np.inf)
    top = s.max(-1, keepdims=True)
    if "sink" in t:
        top = np.maximum(top, t["sink"].astype(np.float64)[None, :, None, None])
    top = np.where(np.isfinite(top), top, 0)
    e = np.exp(s - top)
    total = e.sum(-1, keepdims=True)
    if "sink" in t:
        total = total + np.exp(t["sink"].astype(np.float64)[None, :, None, None] - top)
    out = np.einsum("bhij,bhjd->bhid", e / np.where(total == 0, 1, total), v)
    return out * gate[..., None] if gate is not None and site == "output" else out


def problems():
    rng = np.random.default_rng(7)
    normal = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    qkv = lambda b, h, kv, i, j, d, dv: {"q": normal(b, h, i, d), "k": normal(b, kv, j, d), "v": normal(b, kv, j, dv)}
    yield "bidirectional", qkv(2, 3, 3, 33, 33, 16, 16), False, None, None
    yield "causal", qkv(2, 2, 2, 40, 40, 32, 32), True, None, None
    yield "GQA, causal, fewer queries than keys", qkv(1, 6, 2, 9, 31, 16, 16), True, None, None
    yield "scale given, another value size", qkv(1, 2, 2, 17, 17, 24, 8), False, 0.3, None
    half = qkv(1, 2, 2, 20, 20, 16, 16)
    yield "f16 inputs", {n: x.astype(np.float16) for n, x in half.items()}, True, None, None
    one = qkv(2, 2, 2, 12, 18, 16, 16)
    one["mask"] = rng.random((2, 1, 12, 18)) < 0.7
    one["mask"][0, 0, 3] = False  # a row with nothing to see is 0
    yield "boolean mask by batch", one, False, None, None
    two = qkv(2, 4, 2, 12, 18, 16, 16)
    two["mask"] = np.where(rng.random((4, 12, 18)) < 0.2, -np.inf, normal(4, 12, 18)).astype(np.float32)
    yield "additive mask by head, causal", two, True, None, None
    three = qkv(1, 2, 2, 12, 18, 16, 16)
    three["mask"] = (rng.random(18) < 0.8).astype(np.uint8)
    yield "byte mask by key", three, False, None, None
    four = qkv(2, 3, 3, 21, 21, 16, 16)
    four["sink"] = normal(3)
    yield "learnable sink", four, True, None, None
    five = qkv(2, 4, 2, 21, 21, 16, 16)
    five["gate"] = normal(2, 4, 21)
    yield "output gate", five, True, None, "output"
    six = qkv(2, 4, 2, 21, 21, 16, 16)
    six["gate"] = normal(2, 2, 21)
    yield "value gate", six, True, None, "value"
    seven = qkv(1, 2, 2, 5, 19, 16, 16)
    seven["gate"] = normal(1, 2, 5)
    yield "output gate, fewer queries than keys", seven, True, None, "output"


WORK.mkdir(parents=True, exist_ok=True)
worst = 0.0
for name, tensors, causal, scale, site in problems():
    save(WORK / "in.safetensors", tensors)
    command = [QFID, "attention", str(WORK / "in.safetensors"), "--save-outputs", str(WORK / "out.safetensors")]
    command += (["--causal"] if causal else []) + (["--scale", str(scale)] if scale else []) + (["--gate-site", site] if site else [])
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{name}: exit code {result.returncode}\n{result.stdout}{result.stderr}")
    outputs, expected = load(WORK / "out.safetensors"), attention(tensors, causal, scale, site)
    if len(outputs) < 9:
        sys.exit(f"{name}: only {sorted(outputs)} ran")
    error = np.abs(outputs["baseline"] - expected).max()
    print(f"{name}: {error:.1e}; int8-per-token {np.abs(outputs['int8-per-token'] - expected).max():.1e}")
    if not error < 1e-6 or not 1e-6 < np.abs(outputs["int8-per-token"] - expected).max() < 0.2:
        sys.exit(f"{name}: full precision is off by {error}")
    worst = max(worst, error)
# The check can fail: another scale is another result.
if not np.abs(outputs["baseline"] - attention(tensors, causal, 0.5, site)).max() > 1e-3:
    sys.exit("a wrong scale went unseen")
print(f"all agree, largest difference {worst:.1e}")

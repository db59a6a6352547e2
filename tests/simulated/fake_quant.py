"""Simulated W8A8 post-training quantization (Bondarenko et al. 2023, arXiv 2306.12929) in PyTorch, independent of qfid, and
its perplexities beside those of `qfid run`: within 1e-3 relative for every variant of attention and every way to find ranges.

Free-running 8-bit networks part ways: PyTorch itself moves by up to 1 % when its sums run in another order, because a code
that flips moves every range behind it. So both sides round at the same places: products and norms' moments are summed in
double and rounded to f32 once, as qfid's reference backend does.

    fake_quant.py QFID SOURCE WORK_DIRECTORY [SHARED]

Decoders are the built-in tiny-* models; encoders (mlm-*) are compared where SHARED holds them.
"""
import json
import math
import pathlib
import subprocess
import sys

import numpy
import torch

TOLERANCE = 1e-3  # relative, in perplexity
WAYS = {"minmax": {}, "percentile": {"percentile": 99.999}, "mse": {"weights": "mse"}}


def load(directory):
    """config.json and the tensors, bf16 or f32, by name."""
    config = json.loads((directory / "config.json").read_text())
    tensors = {}
    for file in sorted(directory.glob("*.safetensors")):
        raw = file.read_bytes()
        size = int.from_bytes(raw[:8], "little")
        for name, info in json.loads(raw[8:8 + size]).items():
            if name == "__metadata__":
                continue
            begin, end = (8 + size + at for at in info["data_offsets"])
            if info["dtype"] == "BF16":
                bits = numpy.frombuffer(raw[begin:end], numpy.uint16).astype(numpy.uint32) << 16
                values = bits.view(numpy.float32)
            else:
                values = numpy.frombuffer(raw[begin:end], numpy.float32)
            tensors[name] = torch.from_numpy(values.copy()).reshape(info["shape"])
    return config, tensors


def weight_grid(w, way):
    """One symmetric grid a tensor, unsigned where no weight is negative."""
    signed = bool((w < 0).any())
    steps, low, high = (127, -128, 127) if signed else (255, 0, 255)
    top = w.abs().max()
    if top == 0:
        return w
    candidates = [100] if way.get("weights") != "mse" else range(1, 101)
    best = None
    for i in candidates:
        scale = top * i / 100 / steps
        q = torch.clamp(torch.round(w / scale), -127 if signed else 0, high) * scale
        error = float(((q.double() - w.double()) ** 2).sum())
        if best is None or error <= best[0]:
            best = (error, scale)
    return torch.clamp(torch.round(w / best[1]), low, high) * best[1]


def product(x, y):
    """Summed in double, rounded once."""
    return (x.double() @ y.double()).float()


class Quantizers:
    """Affine uint8 grids of activations with running ranges."""

    def __init__(self, way):
        self.percentile, self.ranges, self.estimating = way.get("percentile"), {}, True

    def __call__(self, site, x):
        if self.estimating:
            if self.percentile:
                both = numpy.percentile(x.double().numpy(), (100 - self.percentile, self.percentile))
                low, high = (float(numpy.float32(end)) for end in both)
            else:
                low, high = float(x.min()), float(x.max())
            if site in self.ranges:
                old = self.ranges[site]
                low, high = 0.9 * old[0] + (1 - 0.9) * low, 0.9 * old[1] + (1 - 0.9) * high
            self.ranges[site] = (float(numpy.float32(low)), float(numpy.float32(high)))
        low, high = torch.tensor(self.ranges[site], dtype=torch.float32).clamp(max=torch.tensor([0, math.inf]),
                                                                                min=torch.tensor([-math.inf, 1e-8]))
        scale = (high - low) / 255
        zero = torch.clamp(torch.round(-low / scale), 0, 255)
        return (torch.clamp(torch.round(x / scale) + zero, 0, 255) - zero) * scale


class Model:
    """Either family; `way` None = full precision."""

    def __init__(self, config, tensors, way):
        self.c, self.t, self.way = config, tensors, way
        self.bert = config["model_type"] == "bert"
        self.heads, self.layers = config["num_attention_heads"], config["num_hidden_layers"]
        self.q = Quantizers(way) if way is not None else (lambda site, x: x)
        attention = config.get("attention", {})
        self.gate, self.has_sink = attention.get("gate"), "sink" in attention
        self.cache = {}

    def w(self, name, exact=False):
        """A weight on its grid, or as it is."""
        if name.startswith("bert.") is False and self.bert and not name.startswith("cls."):
            name = "bert." + name
        if exact or self.way is None:
            return self.t[name]
        if name not in self.cache:
            self.cache[name] = weight_grid(self.t[name], self.way)
        return self.cache[name]

    def linear(self, name, x, exact=False):
        return product(x, self.w(name + ".weight", exact).T) + self.w(name + ".bias", True)

    def norm(self, name, x, exact=False):
        eps = float(numpy.float32(self.c.get("layer_norm_eps", 1e-12) if self.bert else 1e-5))
        mean = x.double().mean(-1, keepdim=True)
        scale = (1 / torch.sqrt(((x.double() - mean) ** 2).mean(-1, keepdim=True) + eps)).float()
        return (x - mean.float()) * scale * self.w(name + ".weight", exact) + self.w(name + ".bias", True)

    def act(self, x):
        kind = self.c["hidden_act" if self.bert else "activation_function"]
        return {"relu": torch.relu, "gelu": torch.nn.functional.gelu}[kind](x.double()).float()

    def attention(self, p, prefix, x, names):
        batch, length, hidden = x.shape
        split = lambda y: y.reshape(batch, length, self.heads, -1).transpose(1, 2)
        q, k, v = (self.q(p + n, self.linear(prefix + n, x)) for n in names)
        gate = None
        if self.gate:
            gate = self.linear(prefix + "gate_proj", v if self.gate["input"] == "value" else x, True)
            gate = torch.sigmoid(gate.double()).float()
            gate = gate.transpose(1, 2).unsqueeze(-1)
        v = split(v)
        if self.gate and self.gate["site"] == "value":
            v = v * gate
        s = self.q(p + "scores", product(split(q), split(k).transpose(2, 3)) * numpy.float32(1 / math.sqrt(hidden // self.heads)))
        if not self.bert:
            s = s.masked_fill(torch.ones(length, length, dtype=torch.bool).triu(1), -math.inf)
        if self.has_sink:
            sink = self.w(prefix + "sink", True).reshape(1, self.heads, 1, 1).expand(batch, -1, length, 1)
            probs = torch.softmax(torch.cat([s, sink], -1).double(), -1)[..., :-1].float()
        else:
            probs = torch.softmax(s.double(), -1).float()
        context = product(self.q(p + "probs", probs), v)
        if not self.bert:
            context = self.q(p + "context", context)
        if self.gate and self.gate["site"] == "output":
            context = context * gate
        if self.bert:
            context = self.q(p + "context", context)
        return context.transpose(1, 2).reshape(batch, length, hidden)

    def opt(self, ids):
        d = "model.decoder."
        table = self.w(d + "embed_tokens.weight")
        x = table[ids] + self.w(d + "embed_positions.weight")[2:2 + ids.shape[1]]
        x = self.q("embed_sum", x)
        for l in range(self.layers):
            n, p = f"{d}layers.{l}.", f"{l}."
            h = self.q(p + "norm1", self.norm(n + "self_attn_layer_norm", x))
            h = self.attention(p, n + "self_attn.", h, ("q_proj", "k_proj", "v_proj"))
            x = self.q(p + "sum1", x + self.q(p + "out", self.linear(n + "self_attn.out_proj", h)))
            h = self.q(p + "norm2", self.norm(n + "final_layer_norm", x))
            h = self.q(p + "fc1", self.act(self.linear(n + "fc1", h)))
            x = self.q(p + "sum2", x + self.q(p + "fc2", self.linear(n + "fc2", h)))
        x = self.q("final_norm", self.norm(d + "final_layer_norm", x))
        return x @ self.t[d + "embed_tokens.weight"].T

    def bert_logits(self, ids):
        e = "embeddings."
        x = self.w(e + "word_embeddings.weight")[ids] + self.w(e + "token_type_embeddings.weight")[0]
        x = self.q("type_sum", x) + self.w(e + "position_embeddings.weight")[:ids.shape[1]]
        x = self.q("embed_norm", self.norm(e + "LayerNorm", self.q("embed_sum", x)))
        for l in range(self.layers):
            n, p = f"encoder.layer.{l}.", f"{l}."
            h = self.attention(p, n + "attention.self.", x, ("query", "key", "value"))
            h = x + self.q(p + "out", self.linear(n + "attention.output.dense", h))
            x = self.q(p + "norm1", self.norm(n + "attention.output.LayerNorm", self.q(p + "sum1", h)))
            h = self.q(p + "fc1", self.act(self.linear(n + "intermediate.dense", x)))
            h = x + self.q(p + "fc2", self.linear(n + "output.dense", h))
            x = self.q(p + "norm2", self.norm(n + "output.LayerNorm", self.q(p + "sum2", h)))
        x = self.act(self.linear("cls.predictions.transform.dense", x, True))
        x = self.norm("cls.predictions.transform.LayerNorm", x, True)
        return x @ self.t["bert.embeddings.word_embeddings.weight"].T + self.t["cls.predictions.bias"]

    def logits(self, ids):
        return self.bert_logits(ids) if self.bert else self.opt(ids)


def perplexity(directory, windows, calibration, way):
    """windows, calibration: [n, T] inputs and targets (-100 = not scored)."""
    model = Model(*load(directory), way)
    with torch.no_grad():
        if way is not None:
            for ids in calibration:
                model.logits(ids[None])
            model.q.estimating = False
        loss, count = 0.0, 0
        for ids, targets in zip(*windows):
            scored = targets != -100
            logits = model.logits(ids[None])[0][scored].double()
            loss += float(torch.nn.functional.cross_entropy(logits, targets[scored], reduction="sum"))
            count += int(scored.sum())
    return math.exp(loss / count)


def blocks(path, first, count, context, bos=2):
    tokens = torch.from_numpy(numpy.load(path).astype(numpy.int64))
    rows = tokens[first:first + count * context].reshape(count, context)
    return torch.cat([torch.full((count, 1), bos), rows[:, :-1]], 1), rows


def ran(qfid, work, name, models, data):
    """Perplexities of qfid by (model, way)."""
    config = work / f"{name}.yaml"
    targets = {way: {"simulated": keys, "backend": "reference"} for way, keys in WAYS.items()}
    metrics = {"local_windows": 0, "sink_windows": 0}
    config.write_text(json.dumps({"version": 1, "name": name, "models": {m: {"path": str(p)} for m, p in models.items()},
                                  "data": data, "targets": targets, "metrics": metrics}))
    subprocess.run([qfid, "run", str(config), "--quiet", "--restart", "--out", str(work / name)], check=True, stdout=subprocess.DEVNULL)
    runs = json.loads((work / name / "results.json").read_text())["runs"]
    return {(run["model"], run["target"]): run["metrics"]["perplexity"]["value"] for run in runs}


def compare(theirs, models, windows, calibration):
    worst = 0
    for model, directory in models.items():
        for way, keys in {"baseline": None, **WAYS}.items():
            mine, qfids = perplexity(directory, windows, calibration, keys), theirs[model, way]
            difference = abs(qfids / mine - 1)
            worst = max(worst, difference) if difference == difference else math.inf
            print(f"{model:16} {way:12} PyTorch {mine:.6f}  qfid {qfids:.6f}  relative difference {difference:.1e}")
    return worst


def main():
    qfid, source, work = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    tiny = source / "configs"
    names = ["softmax", "vga-output", "vga-value", "iga-output", "iga-value", "sink"]
    models = {name: tiny / "models" / f"tiny-{name}" for name in names}
    tokens = tiny / "data" / "tiny-tokens.npy"
    data = {"tokens": str(tokens), "windows": 16, "calibration": {"first_token": 262144, "windows": 16}}
    worst = compare(ran(qfid, work, "decoders", models, data), models, blocks(tokens, 0, 16, 256),
                    blocks(tokens, 262144, 16, 256)[0])
    shared = pathlib.Path(sys.argv[4]) if len(sys.argv) > 4 else source.parent / "shared"
    if (shared / "models" / "mlm-softmax").is_dir():
        models = {name: shared / "models" / name for name in ("mlm-softmax", "mlm-vga-output")}
        files = [shared / "data" / "mlm" / f"{part}.npy" for part in ("input", "target")]
        inputs, targets = (torch.from_numpy(numpy.load(file).astype(numpy.int64)) for file in files)
        data = {"tokens": str(files[0]), "targets": str(files[1]), "protocol": "mlm", "windows": 64,
                "calibration": {"first_token": 128 * 128, "windows": 16}}
        worst = max(worst, compare(ran(qfid, work, "encoders", models, data), models, (inputs[:64], targets[:64]),
                                   inputs[128:144]))
    else:
        print("encoders not compared: no models/mlm-softmax in " + str(shared))
    print(f"worst relative difference {worst:.1e}, allowed {TOLERANCE:.0e}")
    if not worst <= TOLERANCE:
        sys.exit("FAILED")


main()

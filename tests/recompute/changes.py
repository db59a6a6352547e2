"""The noise floor and the interventions of a run in full precision, by a forward pass in double that shares nothing with the
program: OPT, softmax attention or a gate from the values on the output. NumPy alone.

changes.py RESULTS MODEL TOKENS.npy: protocol window, all entries of `noise` (module outputs) and of `interventions` on the
baseline. Exit code 1 where window sums disagree."""
import json
import pathlib
import sys

import numpy as np

from common import Agreement, Weights

MODULES = ["q_proj", "k_proj", "v_proj", "gate_proj", "attention", "out_proj", "fc1", "fc2"]
SEED, NOISE = 2026, 2.0**-9


def counter_random(key, n):
    """SplitMix64's output number n of the stream seeded with key."""
    with np.errstate(over="ignore"):
        z = np.uint64(key) + (np.asarray(n, np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


class Model:
    def __init__(self, directory):
        self.config = json.loads((pathlib.Path(directory) / "config.json").read_text())
        self.weights = Weights(directory)
        self.heads = self.config["num_attention_heads"]
        self.layers = self.config["num_hidden_layers"]
        self.gated = "gate" in self.config.get("attention", {})

    def w(self, name):
        return self.weights.tensor("decoder." + name).astype(np.float64)

    def linear(self, x, name):
        return x @ self.w(name + ".weight").T + self.w(name + ".bias")

    def norm(self, x, name):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * self.w(name + ".weight") + self.w(name + ".bias")

    def attention(self, l, q, k, v, gates, change):
        n, size = q.shape
        d = size // self.heads
        split = lambda x: x.reshape(n, self.heads, d).transpose(1, 0, 2)
        scores = split(q) @ split(k).transpose(0, 2, 1) / np.sqrt(d)
        hidden = np.triu(np.ones((n, n), bool), 1)
        if change == "mask_key_0":
            hidden[1:, 0] = True
        scores[:, hidden] = -np.inf
        p = np.exp(scores - scores.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        v = v.copy()
        if change == "zero_v_0":
            v[0] = 0
        out = (p @ split(v)).transpose(1, 0, 2)
        return (out if gates is None else out * gates[:, :, None]).reshape(n, size)

    def logits(self, ids, change=None, window=0, means=None, seen=None):
        def module(l, name, y):
            if change != "noise":
                return y
            key = np.uint64(SEED)
            for part in (window, l, MODULES.index(name)):
                key = counter_random(key, part)
            u = (counter_random(key, np.arange(y.size)) >> np.uint64(11)).astype(np.float64) * 2.0**-53
            return y * (1 + NOISE * (2 * u - 1)).reshape(y.shape)

        x = self.w("embed_tokens.weight")[ids] + self.w("embed_positions.weight")[np.arange(len(ids)) + 2]
        for l in range(self.layers):
            at = f"layers.{l}."
            h = self.norm(x, at + "self_attn_layer_norm")
            q, k, v = (module(l, name, self.linear(h, at + "self_attn." + name)) for name in ("q_proj", "k_proj", "v_proj"))
            gates = None
            if self.gated:
                gates = 1 / (1 + np.exp(-module(l, "gate_proj", self.linear(v, at + "self_attn.gate_proj"))))
                if seen is not None:
                    seen.append(gates)
                if change == "gate_one":
                    gates = np.ones_like(gates)
                if change == "gate_mean":
                    gates = np.broadcast_to(means[l], gates.shape)
            out = module(l, "attention", self.attention(l, q, k, v, gates, change))
            x = x + module(l, "out_proj", self.linear(out, at + "self_attn.out_proj"))
            h = np.maximum(module(l, "fc1", self.linear(self.norm(x, at + "final_layer_norm"), at + "fc1")), 0)
            x = x + module(l, "fc2", self.linear(h, at + "fc2"))
        scores = self.norm(x, "final_layer_norm") @ self.w("embed_tokens.weight").T
        scores -= scores.max(-1, keepdims=True)
        return scores - np.log(np.exp(scores).sum(-1, keepdims=True))


def main():
    results, name, tokens = sys.argv[1:]
    record = json.loads((pathlib.Path(results) / "results.json").read_text())
    model = Model(next(m["path"] for m in record["models"] if m["name"] == name))
    length, tokens = record["provenance"]["context"], np.load(tokens).astype(int)
    blocks = tokens[:len(tokens) // length * length].reshape(-1, length)
    inputs = np.concatenate([np.full((len(blocks), 1), model.config["bos_token_id"]), blocks[:, :-1]], axis=1)
    entries = [("noise", e) for e in record["noise"] if e["name"].startswith("module")]
    entries += [(e["name"], e) for e in record["interventions"] if e["target"] == "baseline"]
    entries = [(change, e) for change, e in entries if e["model"] == name and not e["message"]]
    means = np.zeros((model.layers, model.heads))
    windows = max(len(e["kl"]) for _, e in entries)
    plain = []
    for w in range(windows):
        seen = []
        plain.append(model.logits(inputs[w], seen=seen))
        if model.gated:
            means += np.array([g.mean(0) for g in seen]) / windows
    # The program's passes are f32. Another backend's f32 is off by KL 3e-12 where the noise makes 4e-5: a share of
    # sqrt(3e-12 / 4e-5) = 2.6e-4 of the noise itself, twice that in its square.
    agree = Agreement(1e-3)
    for change, entry in entries:
        for w in range(len(entry["kl"])):
            changed = model.logits(inputs[w], change, w, means)
            at = np.arange(length), blocks[w]
            rise = (plain[w][at] - changed[at]).sum()
            kl = (np.exp(plain[w]) * (plain[w] - changed)).sum()
            agree.check(f"{change}, window {w}: KL", entry["kl"][w], kl)
            agree.check(f"{change}, window {w}: NLL difference", entry["nll_difference"][w], rise, scale=np.sqrt(kl * length))
    print(f"{name}: {agree.checked} window sums of {len(entries)} changes, worst relative difference {agree.worst:.2g}")
    for wrong in agree.wrong[:10]:
        print("  ", *wrong)
    sys.exit(1 if agree.wrong or not entries else 0)


main()

"""The layer level (docs/metrics.md) from dumped taps: (layer, tap, error, head) -> column -> number."""
import numpy as np

TINY = float(np.finfo(np.float32).tiny)


def distortion(x, y):
    x, y = np.asarray(x, np.float64).ravel(), np.asarray(y, np.float64).ravel()
    e = y - x
    xx, xy, yy, ee = x @ x, x @ y, y @ y, e @ e
    return {
        "gain": xy / xx, "sqnr_db": 10 * np.log10(xx / ee) if ee > 0 else None, "nmse": ee / xx,
        "relative_l1": np.abs(e).sum() / np.abs(x).sum(), "cosine": xy / np.sqrt(xx * yy),
        "max_abs": float(np.abs(y.astype(np.float32) - x.astype(np.float32)).max()), "mean_signed_error": e.mean(),
        "share_exact": (x == y).mean(), "share_sign_flips": (x * y < 0).mean(),
        "share_flushed": ((y == 0) & (x != 0)).mean(), "nan": 0.0}


def lacking(rows):
    """What rows of f32 probabilities lack to 1: a learnable sink's mass, down to what they can't tell from 0."""
    return np.maximum(1 - rows.sum(-1), 1e-5)


def row_divergence(p, q, sink):
    """Rows [..., keys]; probabilities below the smallest normal f32 count as that, rows that are all zero don't count."""
    p, q = np.asarray(p, np.float64), np.asarray(q, np.float64)
    seen = (p != 0).any(-1) | (q != 0).any(-1)
    a, b = np.maximum(p, TINY), np.maximum(q, TINY)
    kl = (a * ((b - a) / a - np.log1p((b - a) / a))).sum(-1)
    tv = np.abs(p - q).sum(-1) / 2
    if sink:
        s, t = lacking(p), lacking(q)
        kl, tv = kl + s * ((t - s) / s - np.log(t / s)), tv + np.abs(s - t) / 2
    kl, tv = kl[seen], tv[seen]
    return {"kl": kl.mean(), "total_variation": tv.mean(), "kl_max": kl.max(), "kl_p99": np.quantile(kl, 0.99),
            "total_variation_p99": np.quantile(tv, 0.99)}


def coded_weights(probs, codes, sink):
    """uint8 codes of P as the weights that the product used, in f32: E is 1 where a row's probability is largest."""
    p = np.asarray(probs, np.float64)
    largest = p.max(-1)
    if sink:
        largest = np.maximum(largest, lacking(p))
    return (np.asarray(codes, np.float64) * largest[..., None] / 255).astype(np.float32).astype(np.float64)


def coded_divergence(base, test, weights, sink):
    p, t = np.asarray(base, np.float64), np.asarray(test, np.float64)
    tv, flushed = np.abs(p - weights).sum(-1), np.where(weights == 0, p, 0).sum(-1)
    if sink:
        p, w = (np.concatenate([x, lacking(y)[..., None]], -1) for x, y in ((p, p), (weights, t)))
        tv = tv + np.abs(p[..., -1] - w[..., -1])
    else:
        w = weights
    p, w = p / p.sum(-1, keepdims=True), w / w.sum(-1, keepdims=True)
    # p ln(p/m) + w ln(w/m) - (p - m) - (w - m), which adds the same and doesn't cancel
    m = (p + w) / 2
    safe = np.where(m > 0, m, 1)
    side = lambda x: np.where(x > 0, x * np.log(np.where(x > 0, x, 1) / safe), 0) - (x - m)
    jsd = ((side(p) + side(w)) / 2).sum(-1)
    out = {}
    for name, values in (("total_variation", tv / 2), ("jsd", jsd), ("flushed_mass", flushed)):
        out[name], out[name + "_p99"] = values.mean(), np.quantile(values, 0.99)
    return out


def output_parts(p, w, v, coded):
    """One head's error: (P^ - P) V and P^ (V^ - V), of key 0 and of the others; [w, q, k], [w, k, d]."""
    p, v, coded = (np.asarray(x, np.float64) for x in (p, v, coded))
    square = lambda x: (x * x).sum()
    by_p = [(w - p)[..., keys] @ v[:, keys] for keys in (slice(0, 1), slice(1, None))]
    by_v = [w[..., keys] @ (coded - v)[:, keys] for keys in (slice(0, 1), slice(1, None))]
    return {"output": square(p @ v), "nmse": square(w @ coded - p @ v), "nmse_p": square(sum(by_p)),
            "nmse_p_first": square(by_p[0]), "nmse_p_others": square(by_p[1]), "nmse_v": square(sum(by_v)),
            "nmse_v_first": square(by_v[0]), "nmse_v_others": square(by_v[1])}


def magnitudes(x):
    sizes = np.sort(np.abs(np.asarray(x, np.float64)).reshape(len(x), -1), axis=-1)
    median = np.median(sizes, axis=-1)
    massive = ((sizes > 100) & (sizes > 1000 * median[:, None])).sum(-1)
    return {**{f"magnitude_{i}": sizes[:, -i].mean() for i in (1, 2, 3)}, "magnitude_median": median.mean(),
            "massive": massive.mean()}


def outlier_split(x, y):
    """Where the error of [w, t, channels] lies: beside values six deviations from their window's mean, in the first token."""
    x, y = (np.asarray(t, np.float64).reshape(*t.shape[:2], -1) for t in (x, y))
    error = (y - x) ** 2
    far = np.abs(x - x.mean((1, 2), keepdims=True)) > 6 * x.std((1, 2), keepdims=True)
    tokens, channels = far.any(2), far.any(1)
    rest = (x[:, 1:] ** 2).sum()
    return {"outlier_tokens": tokens.mean(), "outlier_token_error": error[tokens].sum() / error.sum(),
            "outlier_channels": channels.mean(), "outlier_channel_error": (error.sum(1) * channels).sum() / error.sum(),
            "nmse_but_first": error[:, 1:].sum() / rest, "gain_but_first": (x * y)[:, 1:].sum() / rest}


def outliers(x):
    x = np.asarray(x, np.float64).reshape(-1, x.shape[-1])
    d = x - x.mean(-1, keepdims=True)
    s2 = (d * d).sum(-1) / (x.shape[-1] - 1)
    return {"inf_norm": np.abs(x).max(), "inf_norm_row_mean": np.abs(x).max(-1).mean(),
            "kurtosis": ((d ** 4).mean(-1) / (s2 * s2 + 1e-6)).mean(), "non_finite": 0.0}


def int8_cast(x, axes):
    """The dynamic int8 cast, one scale over `axes`, in f32 as the program rounds: codes before they are clamped, scales."""
    x = np.asarray(x, np.float32)
    scale = np.abs(x).max(axis=axes, keepdims=True) / np.float32(127)
    scale = np.where(scale == 0, np.float32(1), np.maximum(scale, np.float32(TINY)))
    return np.rint(x / scale), scale


def int8_codes(x, axes):
    code, x = int8_cast(x, axes)[0], np.asarray(x)
    return {"saturated_share": (np.abs(code) > 127).mean(), "flushed_share": ((code == 0) & (x != 0)).mean(), "nan": 0.0}


def drains_of(v, v_gated, out_weight):
    """Norm of the first token's over the mean of the others', [w, heads]: v, gated v, what the output projection makes of it."""
    heads, d = v.shape[2:]
    slices = np.asarray(out_weight, np.float64).reshape(-1, heads, d)
    out = np.einsum("ohd,wthd->wtho", slices, np.asarray(v_gated, np.float64))
    norms = [np.linalg.norm(np.asarray(t, np.float64), axis=-1) for t in (v, v_gated, out)]
    return [n[:, 0] / n[:, 1:].mean(1) for n in norms]


def attention(probs, v, v_gated, out_weight, gate):
    """Attention to the first key and drains, by head; probs [w, h, q, k], v [w, t, h, d], gate [w, t, h] or None."""
    p, rows = np.asarray(probs, np.float64), []
    drains = drains_of(v, v_gated, out_weight)
    for h in range(p.shape[1]):
        rows.append({"alpha0.q64": p[:, h, 64:, 0].mean(1).mean() if p.shape[2] > 64 else None,
                     "alpha0.T64": p[:, h, :64, 0].mean(1).mean() if p.shape[2] >= 64 else None,
                     **{f"drain_{name}": x[:, h].mean() for name, x in zip(("v", "v_gated", "out"), drains)},
                     **summary(p[:, h])})
        if gate is not None:
            rows[-1]["gate_at_first"] = np.asarray(gate, np.float64)[:, 0, h].mean()
    return rows


def summary(p):
    """One head's attention in each window, [w, q, k], averaged over windows."""
    logs, n = np.log(np.maximum(p, TINY)), p.shape[-1]
    missing = 1 - p.sum(-1)
    missing = np.where(missing > 1e-5, missing, 0)
    entropy = -(p * logs).sum(-1) - missing * np.log(np.where(missing > 0, missing, 1))
    gap = np.stack([logs[:, q, 0] - logs[:, q, 1:q].mean(-1) for q in range(2, n)], -1)
    given = p.sum(1)
    return {"entropy": entropy.mean(), "sink_mass": missing.mean(), "delta_logit": gap.mean(),
            "first_is_top": (given.argmax(-1) == 0).mean(), "top_key_share": (given.max(-1) / given.sum(-1)).mean()}


def outlier_free(run):
    """Bondarenko et al.'s largest means over rows: a row is a window, but a token for ffn_in and ffn_out."""
    norms, kurtoses = [], []
    modules = [f"layer{l}.{tap}" for l in range(run.layers) for tap in ("attn_in", "attn_out", "ffn_in", "ffn_out", "residual")]
    for name in [*modules, "final_norm"]:
        x = np.asarray(run.tensor(name), np.float64)
        x = x.reshape(-1, x.shape[-1]) if ".ffn" in name else x.reshape(x.shape[0], -1)
        norms.append(np.abs(x).max(-1).mean())
        d = x - x.mean(-1, keepdims=True)
        s2 = (d * d).sum(-1) / (x.shape[-1] - 1)
        kurtoses.append(((d ** 4).mean(-1) / (s2 * s2 + 1e-6)).mean())  # 64 windows: all are among the first 101
    return {"inf_norm.outlier_free": max(norms), "kurtosis.outlier_free": max(kurtoses)}


def spearman(x, y):
    rank = lambda v: np.array([(np.sum(v < a) + np.sum(v <= a) - 1) / 2 for a in v])
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return np.corrcoef(rank(np.array(x)), rank(np.array(y)))[0, 1]


def outlier_error(rows, base, layers, heads):
    out = {}
    for outlier in ("kurtosis", "inf_norm"):
        value = lambda l, tap: base[l, tap, "none", None][outlier]
        pairs = [(value(l, "ffn_in" if tap == "ffn_act" else "attn_in"), rows[l, tap, "local", None]["nmse"])
                 for l in range(layers) for tap in ("q", "k", "v", "ffn_act")]
        out[f"outlier_error.{outlier}.nmse"] = spearman(*zip(*pairs))
        pairs = [(value(l, "attn_in"), rows[l, "probs", "local", None]["kl"]) for l in range(layers)]
        out[f"outlier_error.{outlier}.kl"] = spearman(*zip(*pairs))
    for name, tap, column in (("nmse", "output", "nmse"), ("kl", "probs", "kl")):
        pairs = [(base[l, "attention_to_first", "none", h]["alpha0.q64"], rows[l, tap, "local", h][column])
                 for l in range(layers) for h in range(heads)]
        out[f"outlier_error.sink.{name}"] = spearman(*zip(*pairs))
    return out


class Layers:
    def __init__(self, run, layers, heads, int8):
        self.run, self.heads, self.int8, self.rows = run, heads, int8, {}
        self.paired = run.target != "baseline"
        self.sink = run.weights.has("decoder.layers.0.self_attn.sink")
        self.one_tensor(-1, "embedding", run.tensor("embedding"))
        self.one_tensor(-1, "final_norm", run.tensor("final_norm"))
        for l in range(layers):
            self.layer(l)

    def split(self, x):
        return np.asarray(x).reshape(*x.shape[:2], self.heads, -1)

    def compare(self, l, tap, error, x, y):
        x, y = np.asarray(x[:len(y)]).reshape(y.shape), np.asarray(y)
        self.rows[l, tap, error, None] = distortion(x, y)
        if tap in ("q", "k", "v", "output"):
            for h in range(self.heads):
                self.rows[l, tap, error, h] = distortion(self.split(x)[:, :, h], self.split(y)[:, :, h])

    def diverge(self, l, error, p, q):
        p = p[:len(q)]
        for h, head in self.by_head():
            self.rows[l, "probs", error, h] = row_divergence(p[:, head], q[:, head], self.sink)

    def by_head(self):
        return [(None, slice(None)), *((h, slice(h, h + 1)) for h in range(self.heads))]

    def code(self, l, error, p, q, codes):
        p, codes = p[:len(q)], codes[:len(q)]
        weights = coded_weights(q, codes, self.sink)
        for h, head in self.by_head():
            self.rows[l, "p_codes", error, h] = coded_divergence(p[:, head], q[:, head], weights[:, head], self.sink)
        return weights

    def recode(self, l, real, emulated):
        """Nonzero codes of the kernel that would have to change to be distributed as its twin's."""
        visible = np.tril(np.ones(real.shape[-2:], bool))
        for h, head in self.by_head():
            n, twin = (np.bincount(np.asarray(c)[:, head][..., visible].astype(np.uint8).ravel(), minlength=256)
                       for c in (real, emulated))
            self.rows[l, "p_codes", "kernel", h] = {
                "histogram_distance": np.abs(n - twin).sum() / 2 / max(n[1:].sum(), twin[1:].sum())}

    def parts(self, l, p, weights, v):
        """The local error of attention before its gate; V's codes are int8/channel."""
        code, scale = int8_cast(v, 1)
        coded, total = np.clip(code, -127, 127) * scale, {}
        for h in range(self.heads):
            part = output_parts(p[:, h], weights[:, h], v[:, :, h], coded[:, :, h])
            total = {name: total.get(name, 0) + value for name, value in part.items()}
            output = part.pop("output")
            self.rows[l, "context", "local", h] = {name: value / output for name, value in part.items()}
        output = total.pop("output")
        self.rows[l, "context", "local", None] = {name: value / output for name, value in total.items()}

    def one_tensor(self, l, tap, x):
        self.rows[l, tap, "none", None] = outliers(x)
        if tap in ("residual", "embedding"):
            self.rows[l, tap, "none", None].update(magnitudes(np.asarray(x)[:self.run.sampled]))

    def layer(self, l):
        own = lambda tap: self.run.tensor(f"layer{l}.{tap}")
        for tap in ("attn_in", "attn_out", "ffn_in", "ffn_out", "residual"):
            self.one_tensor(l, tap, own(tap))
        codes = np.asarray(own("p_codes"))
        visible = np.tril(np.ones(codes.shape[-2:], bool))
        for h in [None, *range(self.heads)]:
            part = codes if h is None else codes[:, h]
            self.rows[l, "p_codes", "none", h] = {"zero_share": (part == 0)[..., visible].mean(), "masked_rows": 0.0}
        probs = own("probs")
        v = self.split(own("v"))[:len(probs)]
        gated = self.split(own("v_gated")) if self.run.has(f"layer{l}.v_gated") else v
        gate = own("gate") if self.run.has(f"layer{l}.gate") else None
        if gate is not None:
            g = np.asarray(gate, np.float64)
            self.rows[l, "gate", "none", None] = {"mean": g.mean(), "share_below_0.1": (np.asarray(gate) < np.float32(0.1)).mean(),
                                                  "share_above_0.9": (np.asarray(gate) > np.float32(0.9)).mean()}
        first = None if gate is None else gate[:len(probs)]
        for h, row in enumerate(attention(probs, v, gated, self.out_weight(l), first)):
            self.rows[l, "attention_to_first", "none", h] = row
        if not self.paired:
            return
        if self.int8:
            for site, tap in (("q_proj", "attn_in"), ("k_proj", "attn_in"), ("v_proj", "attn_in"), ("out_proj", "output"),
                              ("fc1", "ffn_in"), ("fc2", "ffn_act")):
                x = own(tap)
                self.rows[l, site, "none", None] = int8_codes(x.reshape(*x.shape[:2], -1), -1)
            value_gate = gate is not None and not np.array_equal(gated, v)
            values = self.split(own("v")) * (np.asarray(gate)[..., None] if value_gate else np.float32(1))
            for site, x, axes in (("q", self.split(own("q")), -1), ("k", self.split(own("k")), -1), ("v", values, 1)):
                self.rows[l, f"attention.{site}", "none", None] = int8_codes(x, axes)
        self.comparisons(l, own, probs)

    def out_weight(self, l):
        return self.run.weights.tensor(f"decoder.layers.{l}.self_attn.out_proj.weight")

    def comparisons(self, l, own, probs):
        base = lambda tap: self.run.tensor(f"layer{l}.{tap}", "baseline")
        local = lambda tap: self.run.tensor(f"layer{l}.local.{tap}")
        emulated = lambda tap: self.run.tensor(f"layer{l}.emulated.{tap}")
        twin = self.run.has(f"layer{l}.emulated.q")
        for tap in ("q", "k", "v", "output", "attn_out", "ffn_out", "residual"):
            self.compare(l, tap, "cumulative", base(tap), own(tap))
        self.diverge(l, "cumulative", base("probs"), probs)
        self.code(l, "cumulative", base("probs"), probs, own("p_codes"))
        for tap in ("q", "k", "v", "output", "attn_out", "ffn_act", "ffn_out"):
            self.compare(l, tap, "local", base(tap), local(tap))
            if twin:
                self.compare(l, tap, "format", base(tap), emulated(tap))
                self.compare(l, tap, "kernel", emulated(tap), local(tap)[:len(emulated(tap))])
        for tap in ("q", "k", "v", "output", "attn_out", "ffn_act", "ffn_out"):
            x = np.asarray(base(tap)[:len(local(tap))]).reshape(local(tap).shape)
            self.rows[l, tap, "local", None].update(outlier_split(x, local(tap)))
        self.diverge(l, "local", base("probs"), local("probs"))
        weights = self.code(l, "local", base("probs"), local("probs"), local("p_codes"))
        v = base("v_gated") if self.run.has(f"layer{l}.v_gated", "baseline") else base("v")
        n = len(weights)
        self.parts(l, base("probs")[:n], weights, self.split(v[:n]))
        if twin:
            self.diverge(l, "format", base("probs"), emulated("probs"))
            self.code(l, "format", base("probs"), emulated("probs"), emulated("p_codes"))
            self.diverge(l, "kernel", emulated("probs"), local("probs")[:len(emulated("probs"))])
            self.recode(l, local("p_codes")[:len(emulated("p_codes"))], emulated("p_codes"))


def summaries(layers, run, threshold):
    """The model-level numbers that are made of the tables: name -> value."""
    rows, out = layers.rows, {}
    residual = [r for (l, tap, error, _), r in rows.items() if tap in ("residual", "embedding") and error == "none"]
    out["residual.inf_norm.max"] = max(r["inf_norm"] for r in residual)
    out["residual.kurtosis.token.max"] = max(r["kurtosis"] for r in residual)
    zero = [r["zero_share"] for (_, tap, error, head), r in rows.items() if (tap, error, head) == ("p_codes", "none", None)]
    out["residual.massive.max"] = max(r["massive"] for r in residual)
    out["residual.magnitude.ratio.max"] = max(r["magnitude_1"] / r["magnitude_median"] for r in residual)
    coded = [r for (_, tap, error, head), r in rows.items() if (tap, error, head) == ("p_codes", "local", None)]
    for name in ("total_variation", "jsd", "flushed_mass") if coded else ():
        out["p_codes." + name] = np.mean([r[name] for r in coded])  # every layer has as many rows
    gates = [r for (_, tap, _, _), r in rows.items() if tap == "gate"]
    for name in ("mean", "share_below_0.1", "share_above_0.9") if gates else ():
        out["gate." + name] = np.mean([r[name] for r in gates])
    out["p_codes.zero_share"] = np.mean(zero)  # every layer has as many
    count = {"q_proj": 1, "k_proj": 1, "v_proj": 1, "out_proj": 1, "fc1": 1, "fc2": run.ffn / run.hidden, "attention.q": 1,
             "attention.k": 1, "attention.v": 1}
    coded = [(count[tap], r) for (_, tap, _, _), r in rows.items() if tap in count]
    if coded:
        for name in ("saturated_share", "flushed_share"):
            out["codes." + name] = sum(n * r[name] for n, r in coded) / sum(n for n, _ in coded)
        out["codes.nan"] = 0.0
    kernel = {k: r for k, r in rows.items() if k[2] == "kernel" and "gain" in r}
    if kernel:
        out["kernel.gain.deviation.max"] = max(abs(r["gain"] - 1) for r in kernel.values())
        ratios = []
        for (l, tap, _, head), r in kernel.items():
            form = rows[l, tap, "format", head]
            if form["nmse"] > 1e-10:
                # |real - emulated|^2 = nmse |emulated|^2, and |emulated|^2 / |full|^2 = (gain / cosine)^2
                ratios.append(np.sqrt(r["nmse"] / form["nmse"]) * form["gain"] / form["cosine"])
        out["kernel.damage.share.max"] = max(ratios)
    out.update(outlier_free(run))
    for name in ("entropy", "sink_mass", "delta_logit", "first_is_top", "top_key_share"):
        out["attention." + name] = np.mean([r[name] for (_, tap, _, _), r in rows.items() if tap == "attention_to_first"])
    out.update(sinks(layers, run, threshold))
    return out


def sinks(layers, run, threshold):
    alphas = {"q64": [], "T64": []}
    drain = {"drain.v": [], "drain.v_gated": [], "drain.out": []}
    sink_heads = []
    for l in range(run.layers):
        p, base = (np.asarray(run.tensor(f"layer{l}.probs", t), np.float64)[:, :, :, 0] for t in (None, "baseline"))
        base = base[:len(p)]
        sink_heads.append(base[:, :, 64:].mean(2).mean(0) > threshold)
        alphas["q64"].append(p[:, :, 64:].mean(2))
        alphas["T64"].append(p[:, :, :64].mean(2))
        v = layers.split(run.tensor(f"layer{l}.v"))[:len(p)]
        gated = layers.split(run.tensor(f"layer{l}.v_gated")) if run.has(f"layer{l}.v_gated") else v
        for name, x in zip(("v", "v_gated", "out"), drains_of(v, gated, layers.out_weight(l))):
            drain["drain." + name].append(x)
        if run.has(f"layer{l}.gate"):
            first = np.asarray(run.tensor(f"layer{l}.gate")[:len(p)], np.float64)[:, 0]
            drain.setdefault("gate.at_first", []).append(first)
    out = {f"sink_rate.q64.t{threshold:g}": (np.array(alphas["q64"]) > threshold).mean(),
           f"sink_rate.T64.q0.t{threshold:g}": (np.array(alphas["T64"]) > threshold).mean()}
    heads = np.array(sink_heads)
    for name, parts in drain.items():
        all_heads = np.array(parts).transpose(0, 2, 1)  # layer, head, window
        out[name] = all_heads.mean()
        out[f"{name}.sinks"] = all_heads[heads].mean() if heads.any() else None
    return out

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


def row_divergence(p, q):
    """Rows [..., keys]; probabilities below the smallest normal f32 count as that, rows that are all zero don't count."""
    p, q = np.asarray(p, np.float64), np.asarray(q, np.float64)
    seen = (p != 0).any(-1) | (q != 0).any(-1)
    a, b = np.maximum(p, TINY), np.maximum(q, TINY)
    kl = (a * ((b - a) / a - np.log1p((b - a) / a))).sum(-1)[seen]
    tv = (np.abs(p - q).sum(-1) / 2)[seen]
    return {"kl": kl.mean(), "total_variation": tv.mean(), "kl_max": kl.max()}


def outliers(x):
    x = np.asarray(x, np.float64).reshape(-1, x.shape[-1])
    d = x - x.mean(-1, keepdims=True)
    s2 = (d * d).sum(-1) / (x.shape[-1] - 1)
    return {"inf_norm": np.abs(x).max(), "inf_norm_row_mean": np.abs(x).max(-1).mean(),
            "kurtosis": ((d ** 4).mean(-1) / (s2 * s2 + 1e-6)).mean(), "non_finite": 0.0}


def int8_codes(x, axes):
    """What the dynamic int8 cast does, one scale over `axes`, in f32 as the program rounds."""
    x = np.asarray(x, np.float32)
    scale = np.abs(x).max(axis=axes, keepdims=True) / np.float32(127)
    scale = np.where(scale == 0, np.float32(1), np.maximum(scale, np.float32(TINY)))
    code = np.rint(x / scale)
    return {"saturated_share": (np.abs(code) > 127).mean(), "flushed_share": ((code == 0) & (x != 0)).mean(), "nan": 0.0}


def attention(probs, v, v_gated):
    """Attention to the first key and drains, by head; probs [w, h, q, k], v [w, t, h, d]."""
    p, rows = np.asarray(probs, np.float64), []
    norms = [np.linalg.norm(np.asarray(t, np.float64), axis=-1) for t in (v, v_gated)]
    drains = [n[:, 0] / n[:, 1:].mean(1) for n in norms]
    for h in range(p.shape[1]):
        rows.append({"alpha0.q64": p[:, h, 64:, 0].mean(1).mean() if p.shape[2] > 64 else None,
                     "alpha0.T64": p[:, h, :64, 0].mean(1).mean() if p.shape[2] >= 64 else None,
                     "drain_v": drains[0][:, h].mean(), "drain_v_gated": drains[1][:, h].mean(), **summary(p[:, h])})
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
    for l in range(run.layers):
        for tap in ("attn_in", "attn_out", "ffn_in", "ffn_out", "residual"):
            x = np.asarray(run.tensor(f"layer{l}.{tap}"), np.float64)
            x = x.reshape(-1, x.shape[-1]) if tap.startswith("ffn") else x.reshape(x.shape[0], -1)
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
        self.one_tensor(-1, "embedding", run.tensor("embedding"))
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
        self.rows[l, "probs", error, None] = row_divergence(p, q)
        for h in range(self.heads):
            self.rows[l, "probs", error, h] = row_divergence(p[:, h], q[:, h])

    def one_tensor(self, l, tap, x):
        self.rows[l, tap, "none", None] = outliers(x)

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
        for h, row in enumerate(attention(probs, v, gated)):
            self.rows[l, "attention_to_first", "none", h] = row
        if not self.paired:
            return
        if self.int8:
            for site, tap in (("q_proj", "attn_in"), ("k_proj", "attn_in"), ("v_proj", "attn_in"), ("out_proj", "output"),
                              ("fc1", "ffn_in"), ("fc2", "ffn_act")):
                x = own(tap)
                self.rows[l, site, "none", None] = int8_codes(x.reshape(*x.shape[:2], -1), -1)
            for site, axes in (("q", -1), ("k", -1), ("v", 1)):
                self.rows[l, f"attention.{site}", "none", None] = int8_codes(self.split(own(site)), axes)
        self.comparisons(l, own, probs)

    def comparisons(self, l, own, probs):
        base = lambda tap: self.run.tensor(f"layer{l}.{tap}", "baseline")
        local = lambda tap: self.run.tensor(f"layer{l}.local.{tap}")
        emulated = lambda tap: self.run.tensor(f"layer{l}.emulated.{tap}")
        twin = self.run.has(f"layer{l}.emulated.q")
        for tap in ("q", "k", "v", "output", "attn_out", "ffn_out", "residual"):
            self.compare(l, tap, "cumulative", base(tap), own(tap))
        self.diverge(l, "cumulative", base("probs"), probs)
        for tap in ("q", "k", "v", "output", "attn_out", "ffn_act", "ffn_out"):
            self.compare(l, tap, "local", base(tap), local(tap))
            if twin:
                self.compare(l, tap, "format", base(tap), emulated(tap))
                self.compare(l, tap, "kernel", emulated(tap), local(tap)[:len(emulated(tap))])
        self.diverge(l, "local", base("probs"), local("probs"))
        if twin:
            self.diverge(l, "format", base("probs"), emulated("probs"))
            self.diverge(l, "kernel", emulated("probs"), local("probs")[:len(emulated("probs"))])


def summaries(layers, run, threshold):
    """The model-level numbers that are made of the tables: name -> value."""
    rows, out = layers.rows, {}
    residual = [r for (l, tap, error, _), r in rows.items() if tap in ("residual", "embedding") and error == "none"]
    out["residual.inf_norm.max"] = max(r["inf_norm"] for r in residual)
    out["residual.kurtosis.token.max"] = max(r["kurtosis"] for r in residual)
    zero = [r["zero_share"] for (_, tap, _, head), r in rows.items() if tap == "p_codes" and head is None]
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
    drain = {"v": [], "v_gated": []}
    sink_heads = []
    for l in range(run.layers):
        p, base = (np.asarray(run.tensor(f"layer{l}.probs", t), np.float64)[:, :, :, 0] for t in (None, "baseline"))
        base = base[:len(p)]
        sink_heads.append(base[:, :, 64:].mean(2).mean(0) > threshold)
        alphas["q64"].append(p[:, :, 64:].mean(2))
        alphas["T64"].append(p[:, :, :64].mean(2))
        v = layers.split(run.tensor(f"layer{l}.v"))[:len(p)]
        gated = layers.split(run.tensor(f"layer{l}.v_gated")) if run.has(f"layer{l}.v_gated") else v
        for name, x in (("v", v), ("v_gated", gated)):
            norm = np.linalg.norm(np.asarray(x, np.float64), axis=-1)
            drain[name].append(norm[:, 0] / norm[:, 1:].mean(1))
    out = {f"sink_rate.q64.t{threshold:g}": (np.array(alphas["q64"]) > threshold).mean(),
           f"sink_rate.T64.q0.t{threshold:g}": (np.array(alphas["T64"]) > threshold).mean()}
    heads = np.array(sink_heads)
    for name, parts in drain.items():
        all_heads = np.array(parts).transpose(0, 2, 1)  # layer, head, window
        out[f"drain.{name}"] = all_heads.mean()
        out[f"drain.{name}.sinks"] = all_heads[heads].mean() if heads.any() else None
    return out

"""The model level (docs/metrics.md) from two sets of logits."""
import numpy as np

from common import clustered, divergence, log_softmax

EDGES = [0, 0.25, 0.5, 0.75, 0.95, 1]


class Tokens:
    """Every scored token's comparison, window by window."""

    def __init__(self, base, test, targets, scored):
        names = "nll_base nll_test kl kl_reverse jsd p_base p_test top_p margin top5 top1_base top1_test target".split()
        self.windows, columns = [], {name: [] for name in names}
        for x, y, ids, mask in zip(base, test, targets, scored):
            keep = np.flatnonzero(mask)
            lp, lq, ids = log_softmax(x[keep]), log_softmax(y[keep]), ids[keep]
            rows = np.arange(len(keep))
            lm = np.logaddexp(lp, lq) - np.log(2.0)
            order_x = np.argsort(-x[keep], axis=-1, kind="stable")[:, :5]
            order_y = np.argsort(-y[keep], axis=-1, kind="stable")[:, :5]
            top = np.take_along_axis(lp, order_x[:, :2], -1)
            values = [
                -lp[rows, ids], -lq[rows, ids], divergence(lp, lq), divergence(lq, lp),
                (divergence(lp, lm) + divergence(lq, lm)) / 2, np.exp(lp[rows, ids]), np.exp(lq[rows, ids]),
                np.exp(top[:, 0]), top[:, 0] - top[:, 1],
                (order_x[:, :, None] == order_y[:, None, :]).any(-1).mean(-1), order_x[:, 0], order_y[:, 0], ids]
            for name, value in zip(names, values):
                columns[name].append(value)
            self.windows.append(len(keep))
        self.windows = np.array(self.windows)
        for name, parts in columns.items():
            setattr(self, name, np.concatenate(parts))

    def sums(self, values):
        return np.add.reduceat(values.astype(np.float64), np.concatenate([[0], np.cumsum(self.windows)[:-1]]))


def measures(t, confidence, paired):
    """Name -> (value, low, high); low is None where there is no interval."""
    out = {}

    def mean(name, values, inside=None):
        counts = t.windows if inside is None else t.sums(inside)
        if counts.sum() == 0:
            out[name] = (None, None, None)
            return
        m, half = clustered(t.sums(values if inside is None else values * inside), counts, confidence)
        few = half is None or (inside is not None and (counts > 0).sum() < 16)
        out[name] = (m, None, None) if few else (m, m - half, m + half)

    def through(name, source, f):
        out[name] = tuple(None if v is None else f(v) for v in out[source])

    def percentiles(name, values):
        for place, q in zip("min p0.1 p1 p5 p10 p25 median p75 p90 p95 p99 p99.9 max".split(),
                            [0, .001, .01, .05, .1, .25, .5, .75, .9, .95, .99, .999, 1]):
            x, ends = np.quantile(values, q), (None, None)
            if 0 < q < 1:  # Woodruff (1952): the share at or below x, plus and minus its error, turned back into values
                _, half = clustered(t.sums(values <= x), t.windows, confidence)
                if half is not None and 0 <= q - half and q + half <= 1:
                    ends = (np.quantile(values, q - half), np.quantile(values, q + half))
            out[f"{name}.{place}"] = (x, *ends)

    mean("nll.mean", t.nll_test)
    through("perplexity", "nll.mean", np.exp)
    if not paired:
        return out
    d, dp, flip = t.nll_test - t.nll_base, t.p_test - t.p_base, t.top1_base != t.top1_test
    mean("nll.difference", d)
    through("perplexity.ratio", "nll.difference", np.exp)
    out["perplexity.difference"] = (np.exp(t.nll_test.mean()) - np.exp(t.nll_base.mean()), None, None)
    out["nll.correlation"] = (np.corrcoef(t.nll_base, t.nll_test)[0, 1], None, None)
    mean("kl.mean", t.kl)
    mean("kl_reverse.mean", t.kl_reverse)
    mean("jsd.mean", t.jsd)
    percentiles("kl", t.kl)
    mean("top1.agreement", ~flip)
    mean("top1.flips", flip)
    mean("top1.decided_flips.m2", flip & (t.margin > np.log(2.0)))
    mean("top1.correct_to_wrong", flip & (t.top1_base == t.target))
    mean("top1.wrong_to_correct", flip & (t.top1_test == t.target))
    mean("top5.overlap", t.top5)
    mean("delta_p.mean", dp)
    mean("delta_p.rms", dp * dp)
    through("delta_p.rms", "delta_p.rms", lambda v: np.sqrt(max(v, 0)))
    percentiles("delta_p", dp)
    for low, high in zip(EDGES, EDGES[1:]):
        inside = (t.top_p >= low) & ((t.top_p < high) | (high == 1))
        mean(f"top_p.{low:g}-{high:g}.share", inside)
        mean(f"top_p.{low:g}-{high:g}.kl", t.kl, inside)
        mean(f"top_p.{low:g}-{high:g}.nll.difference", d, inside)
    return out

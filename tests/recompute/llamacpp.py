"""llama.cpp's --kl-divergence statistics from the same two sets of logits, by the formulas of its tools/perplexity, in f32 as it
computes; beside qfid's numbers.

    llamacpp.py RESULTS DUMP MODEL TARGET       exit code 0: they agree to its rounding; 1: they don't; 77: no NumPy

llama.cpp keeps the baseline's log-probabilities as 16-bit codes: from the largest logit down to the smallest or to 16 below the
largest, in 65535 steps. So every statistic is computed twice: without the codes, which must agree to f32 rounding, and with them,
which must agree to half a step (at most 16/65535/2 = 1.2e-4 nats a token) and what the floor hides.
"""
import sys

try:
    import numpy as np
except ImportError:
    print("NumPy isn't here: nothing was compared")
    sys.exit(77)

from common import Run

f32 = np.float32


def log_probabilities(x):
    top = x.max(-1, keepdims=True)
    total = np.exp(x - top).astype(np.float64).sum(-1, keepdims=True)
    return x - (top + np.log(total).astype(f32))


def coded(x):
    """What is read back of the stored baseline, and the largest half step."""
    top, low = x.max(-1, keepdims=True), x.min(-1, keepdims=True)
    low = np.maximum(low, top - f32(16))
    log_sum = np.log(np.exp(x - top).astype(np.float64).sum(-1, keepdims=True)).astype(f32)
    step = (top - low) / f32(65535)
    code = np.where(x > low, np.rint((x - low) / step), 0).astype(np.uint16)
    return step * code.astype(f32) + (low - top - log_sum), float(step.max()) / 2


def percentile(sorted_values, fraction):
    place = fraction * (len(sorted_values) - 1)
    i = int(place)
    part = place - i
    return (1 - part) * sorted_values[i] + part * sorted_values[min(i + 1, len(sorted_values) - 1)]


def statistics(base, test, ids):
    """Name in docs/metrics.md -> number. base, test: log-probabilities in f32."""
    rows = np.arange(len(ids))
    nll_base, nll = -base[rows, ids].astype(np.float64), -test[rows, ids].astype(np.float64)
    terms = np.where(base > f32(-16), np.exp(base) * (base - test), f32(0)).astype(np.float64)
    kl = terms.sum(-1)
    dp = (np.exp(-nll.astype(f32)) - np.exp(-nll_base.astype(f32))).astype(np.float64)
    n, out = len(ids), {}
    covariance = (nll * nll_base).mean() - nll.mean() * nll_base.mean()
    variances = [(v * v).mean() - v.mean() ** 2 for v in (nll, nll_base)]
    out["perplexity"], out["nll.difference"] = np.exp(nll.mean()), nll.mean() - nll_base.mean()
    out["perplexity.ratio"] = np.exp(out["nll.difference"])
    out["perplexity.difference"] = np.exp(nll.mean()) - np.exp(nll_base.mean())
    out["nll.correlation"] = covariance / np.sqrt(variances[0] * variances[1])
    out["kl.mean"], out["delta_p.mean"], out["delta_p.rms"] = kl.mean(), dp.mean(), np.sqrt((dp * dp).mean())
    for name, values in (("kl", np.sort(kl)), ("delta_p", np.sort(dp))):
        out[name + ".min"], out[name + ".max"] = values[0], values[-1]
        out[name + ".median"] = values[n // 2] if n % 2 else 0.5 * (values[n // 2] + values[n // 2 - 1])
        for place in (0.1, 1, 5, 10, 25, 75, 90, 95, 99, 99.9):
            if name == "kl" and place in (25, 75):
                continue
            out[f"{name}.p{place:g}"] = percentile(values, place / 100)
    out["top1.agreement"] = (base.argmax(-1) == test.argmax(-1)).mean()
    return out, (nll_base, kl)


def main():
    run = Run(*sys.argv[1:5])
    mask = np.asarray(run.tensor("scored", "baseline")).ravel() != 0
    flat = lambda x: np.asarray(x).reshape(-1, x.shape[-1])[mask]
    x, y = flat(run.tensor("logits", "baseline")), flat(run.tensor("logits"))
    ids = np.asarray(run.tensor("targets", "baseline")).ravel()[mask]
    test, exact = log_probabilities(y), log_probabilities(x)
    stored, half_step = coded(x)
    plain, (nll_plain, kl_plain) = statistics(exact, test, ids)
    codes, (nll_codes, kl_codes) = statistics(stored, test, ids)
    # f32: each log-probability is off by its rounding (about 16 * 2^-24), and so is a mean of them weighted by p; what llama.cpp
    # leaves out lies below e^-16: at most that much a token of the vocabulary, times the difference of logarithms there.
    rounding = 4e-6
    hidden = float(np.where(exact <= -16, np.exp(exact) * np.abs(exact - test), 0).astype(np.float64).sum(-1).max())
    # A token's own NLL below the floor is stored as the floor: felt by the means of NLL, not by probabilities.
    below = np.maximum(np.abs(nll_codes - nll_plain) - half_step, 0)
    floor = float(below.mean())
    failed, worst = [], [0.0, 0.0]
    # Codes shift log p by up to half a step, p by that share, and the mean of ln p - ln q over p by (1 + |ln p - ln q|) of it.
    tilt = 1 + float((np.exp(exact) * np.abs(exact - test)).sum(-1).max())
    print(f"{len(ids)} tokens; half a step of the stored baseline {half_step:.3g}, {(below > 1e-5).sum()} below its floor, "
          f"by up to {below.max():.3g} nats, left out of KL "
          f"{hidden:.3g}\n{'':24} {'qfid':>14} {'formulas':>14} {'16-bit codes':>14}")
    for name, value in plain.items():
        ours = run.run["metrics"][name]["value"]
        scale = run.run["metrics"]["perplexity"]["value"] if name.startswith("perplexity") and name != "perplexity.ratio" else 1
        print(f"{name:24} {ours:14.9f} {value:14.9f} {codes[name]:14.9f}")
        bounds = (scale * (rounding + hidden), scale * (rounding + hidden + half_step * tilt * 1.01 + (floor if name[:3] in ("nll", "per") else 0)))
        if name == "top1.agreement":
            ties = (np.sort(stored, -1)[:, -1] == np.sort(stored, -1)[:, -2]).mean()
            bounds = (0.0, float(ties))
        for i, (got, bound) in enumerate(zip((value, codes[name]), bounds)):
            worst[i] = max(worst[i], abs(got - ours) / scale)
            if not abs(got - ours) <= bound:
                failed.append(f"{name}: qfid {ours}, {('formulas', 'codes')[i]} {got}, further apart than {bound:.3g}")
    print(f"largest difference: {worst[0]:.2g} by the formulas, {worst[1]:.2g} with codes; of one token's KL with codes "
          f"{np.abs(kl_codes - kl_plain).max():.2g}; KL below 0: {(kl_plain < 0).mean():.2%} and {(kl_codes < 0).mean():.2%} of tokens")
    print("\n".join(failed) if failed else "all agree")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

"""Every model-level and layer-level number of a run, computed again from dumped logits and taps with NumPy alone.

    recompute.py RESULTS DUMP MODEL HEADS       exit code 0: everything agrees; 1: something doesn't; 77: no NumPy

RESULTS and DUMP are what `qfid run CONFIG --out RESULTS --dump DUMP` wrote. Nothing here is shared with qfid: the definitions
are those of docs/metrics.md. A number that no rule here covers is an error, so a new measure can't go unchecked. Codes of
linear inputs are recomputed for int8/token and, in attention, int8/token (q, k) and int8/channel (v).
"""
import csv
import pathlib
import sys

try:
    import numpy as np
except ImportError:
    print("NumPy isn't here: nothing was recomputed")
    sys.exit(77)

from common import Agreement, Run
from layer_level import Layers, outlier_error, summaries
from model_level import Tokens, measures

RELATIVE = 1e-6
SIZES = {"weights.bytes", "kv_cache.bytes_per_token"}  # of formats, not of tensors that ran: nothing to recompute here


def scale_of(column, row):
    """What the rounding of a number is measured in where the number itself cancels."""
    if column in ("mean_signed_error",):
        return row["max_abs"]
    if column in ("kl", "kl_max", "kl_p99", "jsd", "jsd_p99"):
        return 1e-7  # sums of f32 probabilities' roundings
    if column in ("flushed_mass", "flushed_mass_p99"):
        return 1e-6  # a percentile may be 0 by a row
    return 0.0


def check_model_level(run, layers, base_rows, agree):
    base, test = run.tensor("logits", "baseline"), run.tensor("logits")
    tokens = Tokens(base, test, run.tensor("targets", "baseline"), run.tensor("scored", "baseline"))
    found = measures(tokens, run.record["confidence"], run.target != "baseline")
    for name, value in summaries(layers, run, 0.3).items():
        found[name] = (value, None, None)
    if run.target != "baseline":
        for name, value in outlier_error(layers.rows, base_rows, run.layers, layers.heads).items():
            found[name] = (value, None, None)
    for name, metric in run.run["metrics"].items():
        if name in SIZES:
            continue
        if name not in found:
            agree.wrong.append((name, metric["value"], "no rule here recomputes it"))
            continue
        value, low, high = found.pop(name)
        # A probability is kept as f32 and so known to 6e-8; NLL differences cancel against NLLs of about 5.
        scale = 0.1 if name.startswith("delta_p") else 0.01 if "difference" in name else 0.0
        agree.check(name, metric["value"], None if value is None else float(value), scale)
        for end, mine in zip(metric.get("ci", [None, None]), (low, high)):
            agree.check(name + ".ci", end, None if mine is None else float(mine), scale or abs(value or 0))
    for name in found:
        agree.wrong.append((name, "recomputed, but not in results.json", ""))
    for name, values in (("nll", tokens.nll_test), ("kl", tokens.kl), ("kl_reverse", tokens.kl_reverse),
                         ("top1_agree", tokens.top1_base == tokens.top1_test)):
        if run.target == "baseline" and name.startswith("kl"):
            continue
        for w, (a, b) in enumerate(zip(run.run["windows"][name], tokens.sums(values))):
            agree.check(f"windows.{name}[{w}]", a, float(b))


def check_layers(run, results, layers, agree):
    seen = set()
    with open(pathlib.Path(results) / "layers.csv", newline="") as file:
        for row in csv.DictReader(file):
            if (row["model"], row["target"]) != (run.model, run.target):
                continue
            key = (int(row["layer"]), row["tap"], row["error"], int(row["head"]) if row["head"] else None)
            if key not in layers.rows:
                agree.wrong.append((key, row, "no rule here recomputes this row"))
                continue
            seen.add(key)
            mine = dict(layers.rows[key])
            for column in list(row)[6:]:
                if row[column] == "" and column not in mine:
                    continue
                value = mine.pop(column, None)
                agree.check((*key, column), float(row[column]) if row[column] else None,
                            None if value is None else float(value), scale_of(column, layers.rows[key]))
            for column, value in mine.items():
                agree.check((*key, column), None, value)
    for key in set(layers.rows) - seen:
        agree.wrong.append((key, "recomputed, but not in layers.csv", ""))


def check_histograms(run, layers, agree):
    """runs[].p_codes: how often each code occurs in the sampled windows where the query sees the key."""
    expected = list(range(run.layers)) if layers.paired else []
    agree.check("p_codes: layers", float(len(run.run["p_codes"])), float(len(expected)))
    for l, entry in zip(expected, run.run["p_codes"]):
        codes = np.asarray(run.tensor(f"layer{l}.p_codes"))[:len(run.tensor(f"layer{l}.probs"))]
        visible = np.tril(np.ones(codes.shape[-2:], bool))
        counts = np.bincount(codes[..., visible].ravel(), minlength=256)
        if (entry["layer"], entry["format"], entry["p_scale"]) != (l, "uint8", 255):
            agree.wrong.append((f"p_codes[{l}]", entry, "another layer or format"))
        for code, (found, count) in enumerate(zip(map(int, entry["counts"].split()), counts)):
            agree.check(f"p_codes[{l}].counts[{code}]", float(found), float(count))


def main():
    results, dump, model, heads = sys.argv[1:5]
    failed, base_rows = False, None  # the baseline is each model's first run
    first = Run(results, dump, model, "baseline")
    for entry in [r for r in first.record["runs"] if r["model"] == model]:
        run = Run(results, dump, model, entry["target"])
        run.sampled = len(run.tensor("layer0.probs"))
        run.hidden, run.ffn = run.tensor("layer0.attn_in").shape[-1], run.tensor("layer0.ffn_act").shape[-1]
        run.layers = 1 + max(int(p.name[5:].split(".")[0]) for p in (run.folder / run.target).glob("layer*.q.npy"))
        agree = Agreement(RELATIVE)
        layers = Layers(run, run.layers, int(heads), "int8" in entry["description"])
        check_layers(run, results, layers, agree)
        check_histograms(run, layers, agree)
        base_rows = layers.rows if entry["target"] == "baseline" else base_rows
        check_model_level(run, layers, base_rows, agree)
        print(f"{model} / {run.target}: {agree.checked} numbers, worst relative difference {agree.worst:.2g}")
        for name, found, expected in agree.wrong[:20]:
            print(f"  differs: {name}: qfid {found}, recomputed {expected}")
        print(f"  {len(agree.wrong)} differ" if agree.wrong else "  all agree")
        failed |= bool(agree.wrong) or agree.checked < 100
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

"""What tests/train/sequence.sh checks: `check.py WHAT ARGUMENTS...`, 1 and a sentence where it doesn't hold."""
import json
import pathlib
import re
import sys

import torch


def lines(path):
    """perplexity.py's output: model directory's name -> perplexity."""
    return {pathlib.Path(name).name: float(value) for name, value in (line.split() for line in open(path))}


def known(found, table):
    """Perplexities over 2 windows of the built-in models against docs/results/known-values.md: its last printed digit."""
    rows = re.findall(r"^\| (tiny-[a-z-]+) \| [\d.]+ \| [\d.]+ \| ([\d.]+) \|", open(table).read(), re.M)
    assert len(rows) == 6, f"{table}: expected six rows, found {len(rows)}"
    here = lines(found)
    return [f"{name}: {here[name]} here, {value} in {table}" for name, value in rows if not abs(here[name] - float(value)) <= 1.5e-6]


def agree(found, results):
    """qfid's f32 baseline against double: 1e-5 relative, as tests/eval/experiment/known_values_test.cc."""
    here, record = lines(found), json.load(open(results))
    runs = {r["model"]: r["metrics"]["perplexity"]["value"] for r in record["runs"] if r["target"] == "baseline"}
    assert runs.keys() == here.keys() and runs, f"{sorted(runs)} in {results}, {sorted(here)} in {found}"
    return [f"{name}: {runs[name]} by qfid, {here[name]} here" for name in here if not abs(runs[name] / here[name] - 1) <= 1e-5]


def matched(scripts):
    """Variants of one seed start from the same numbers and see the same windows; other seeds don't."""
    sys.path.insert(0, scripts)
    import data
    from model import VARIANTS, Shape, initial

    shape, wrong = Shape(layers=2, hidden=32, ffn=64, context=16, vocab=64), []
    plain = initial(shape, VARIANTS["softmax"], [3, 4])
    for name, variant in VARIANTS.items():
        other = initial(shape, variant, [4, 5])
        wrong += [f"{name}: {p} differs" for p in plain if not torch.equal(plain[p][1], other[p][0])]
    if torch.equal(plain["model.decoder.embed_tokens.weight"][0], plain["model.decoder.embed_tokens.weight"][1]):
        wrong.append("two seeds start alike")
    a, b = data.starts([3, 4], 5, 2, 1000), data.starts([4], 5, 2, 1000)
    if not torch.equal(a[:, 1], b[:, 0]) or torch.equal(a[:, 0], a[:, 1]):
        wrong.append("windows don't follow from the seed alone")
    return wrong


def alone(stacked, single):
    """A seed trained alone against the same seed in a stack: the library sums in another order, then bf16 rounds."""
    a, b = lines(stacked), lines(single)
    return [f"{name}: {a[name]} in a stack, {b[name]} alone" for name in b if not abs(a[name] / b[name] - 1) <= 1e-4]


wrong = {"known": known, "agree": agree, "matched": matched, "alone": alone}[sys.argv[1]](*sys.argv[2:])
for line in wrong:
    print(line)
sys.exit(1 if wrong else 0)

"""Bigram-backcopy written again in Python: the sequences that qfid generates (counter_random, bits and all), the task's own
losses, and a checkpoint's in double. backcopy.py TABLES MODEL RESULTS SEQUENCES: RESULTS' run of MODEL must agree."""
import json
import pathlib
import sys

import numpy as np
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts" / "train"))
import checkpoint
import model

MASK = (1 << 64) - 1


def counter_random(key, n):
    z = (key + (n + 1) * 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def sequences(tables, seed, count, length):
    """-> ids [count][length + 1], <s> first, and the task's NLL of each token behind it."""
    bigram, first, triggers, bos = tables["bigram"], tables["unigram"].copy(), set(tables["triggers"].tolist()), int(tables["bos"])
    first[list(triggers)] = 0
    first /= np.add.accumulate(first)[-1]
    sums = lambda p: np.add.accumulate(p)
    all_ids, all_nll = [], []
    for s in range(count):
        key, ids, nll = counter_random(seed, s), [bos], []
        for t in range(length):
            if ids[-1] in triggers:
                ids.append(ids[-2])
                nll.append(0.0)
                continue
            p = first if t == 0 else bigram[ids[-1]]
            u = (counter_random(key, t) >> 11) * 2.0**-53
            ids.append(int(np.searchsorted(sums(p), u * sums(p)[-1], side="right")))
            nll.append(-np.log(p[ids[-1]]))
        all_ids.append(ids)
        all_nll.append(nll)
    return torch.tensor(all_ids), torch.tensor(all_nll, dtype=torch.float64), triggers


def main():
    tables_at, model_at, results, count = sys.argv[1:]
    tables = {name: np.load(pathlib.Path(tables_at) / f"{name}.npy") for name in ("bigram", "unigram", "triggers", "bos")}
    parameters, shape, variant = checkpoint.read(model_at)
    ids, oracle, triggers = sequences(tables, 7, int(count), shape.context)
    stacked = {name: p.double().unsqueeze(0) for name, p in parameters.items()}
    with torch.no_grad():
        losses = model.losses(stacked, ids[None, :, :-1], ids[None, :, 1:], shape, variant).view(ids.shape[0], -1)
    copy = torch.isin(ids[:, :-1], torch.tensor(sorted(triggers)))
    expected = {"nll.mean": losses.mean(), "backcopy.excess_risk.bigram": (losses - oracle)[~copy].mean(),
                "backcopy.excess_risk.copy": (losses - oracle)[copy].mean()}
    runs = json.loads(pathlib.Path(results).read_text())["runs"]
    metrics = runs[0]["metrics"]
    wrong = 0
    for name, value in expected.items():
        found = metrics[name]["value"]
        print(f"{name}: {found:.9f}, PyTorch in double {value.item():.9f}")
        # f32 against double: 64 tokens through one layer stay within 1e-5 nats; another token costs hundredths.
        wrong += not abs(found - value.item()) < 1e-5
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()

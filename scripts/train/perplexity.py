#!/usr/bin/env python3
"""Perplexity of checkpoints in double precision under protocol `window`, or of encoders under `mlm`: what `qfid run` must find.

    perplexity.py TOKENS.npy MODEL_DIR... [--windows 32] [--first-token 0]
    perplexity.py INPUTS.npy MODEL_DIR... --targets TARGETS.npy [--windows 32]

One line a model: its directory and the perplexity. Weights as stored, arithmetic in double.
"""
import argparse
import math

import numpy as np
import torch

import checkpoint
import data
import encoder
import model


def in_double(directory):
    parameters, shape, variant = checkpoint.read(directory)
    return {name: p.double().unsqueeze(0) for name, p in parameters.items()}, shape, variant


def masked_perplexity(directory, inputs, targets, rows):
    """Of the targets that aren't -100, row by row, since rows may have different numbers of them."""
    stacked, shape, variant = in_double(directory)
    total, scored = 0.0, 0
    with torch.no_grad():
        for ids, wanted in zip(inputs[:rows], targets[:rows]):
            where = (wanted != -100).nonzero().view(1, 1, -1)
            ids = ids.view(1, 1, -1)
            total += encoder.losses(stacked, ids, (where, wanted[where[0]].view(1, 1, -1)), shape, variant).sum().item()
            scored += where.numel()
    return math.exp(total / scored)


def perplexity(directory, all_tokens, windows, first_token=0):
    stacked, shape, variant = in_double(directory)
    first = first_token + shape.context * torch.arange(windows)
    if first[-1] + shape.context > len(all_tokens):
        raise SystemExit(f"{windows} windows of {shape.context} from token {first_token} end behind the last of {len(all_tokens)}")
    total, batches = 0.0, model.Batches([0], "cpu")
    with torch.no_grad():
        for chunk in first.split(8):
            ids, targets = batches(all_tokens, chunk.unsqueeze(0), shape)
            total += model.losses(stacked, ids, targets, shape, variant).sum().item()
    return math.exp(total / (windows * shape.context))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tokens")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--windows", type=int, default=32)
    parser.add_argument("--first-token", type=int, default=0)
    parser.add_argument("--targets", help="2-D .npy of what stood where TOKENS is masked, -100 elsewhere")
    arguments = parser.parse_args()
    if arguments.targets:
        inputs, targets = (torch.from_numpy(np.load(f).astype(np.int64)) for f in (arguments.tokens, arguments.targets))
        of = lambda directory: masked_perplexity(directory, inputs, targets, arguments.windows)
    else:
        all_tokens = data.tokens(arguments.tokens, "cpu")
        of = lambda directory: perplexity(directory, all_tokens, arguments.windows, arguments.first_token)
    for directory in arguments.models:
        print(f"{directory} {of(directory):.9f}")


if __name__ == "__main__":
    main()

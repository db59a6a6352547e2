#!/usr/bin/env python3
"""Masked rows for protocol `mlm` from a file of tokens, as encoder.py masks them for training, drawn once and kept.

    masked_rows.py TOKENS.npy --rows 128 --out PREFIX      # writes PREFIX-input.npy (uint16), PREFIX-target.npy (int32)

Rows follow each other from the start of the file.
"""
import argparse

import numpy as np
import torch

import data
from encoder import Shape, masked_rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tokens")
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--context", type=int, default=Shape.context)
    parser.add_argument("--vocab", type=int, default=Shape.vocab)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--out", required=True, metavar="PREFIX")
    options = parser.parse_args()
    shape = Shape(context=options.context, vocab=options.vocab)
    text = data.tokens(options.tokens, "cpu")[: options.rows * (shape.context - 1)].long().view(options.rows, shape.context - 1)
    ids, where, tokens = masked_rows(text, torch.Generator().manual_seed(options.seed), shape)
    targets = torch.full_like(ids, -100).scatter(1, where, tokens)
    np.save(options.out + "-input.npy", ids.numpy().astype(np.uint16))
    np.save(options.out + "-target.npy", targets.numpy().astype(np.int32))


if __name__ == "__main__":
    main()

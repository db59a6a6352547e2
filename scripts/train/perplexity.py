#!/usr/bin/env python3
"""Perplexity of checkpoints in double precision under protocol `window`: what `qfid run` must find.

    perplexity.py TOKENS.npy MODEL_DIR... [--windows 32] [--first-token 0]

One line a model: its directory and the perplexity. Weights as stored, arithmetic in double.
"""
import argparse
import math

import torch

import checkpoint
import data
from model import losses


def perplexity(directory, all_tokens, windows, first_token=0):
    parameters, shape, variant = checkpoint.read(directory)
    stacked = {name: p.double().unsqueeze(0) for name, p in parameters.items()}
    first = first_token + shape.context * torch.arange(windows)
    if first[-1] + shape.context > len(all_tokens):
        raise SystemExit(f"{windows} windows of {shape.context} from token {first_token} end behind the last of {len(all_tokens)}")
    total = 0.0
    with torch.no_grad():
        for chunk in first.split(8):
            ids, targets = data.windows(all_tokens, chunk.unsqueeze(0), shape)
            total += losses(stacked, ids, targets, shape, variant).sum().item()
    return math.exp(total / (windows * shape.context))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tokens")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--windows", type=int, default=32)
    parser.add_argument("--first-token", type=int, default=0)
    arguments = parser.parse_args()
    all_tokens = data.tokens(arguments.tokens, "cpu")
    for model in arguments.models:
        print(f"{model} {perplexity(model, all_tokens, arguments.windows, arguments.first_token):.9f}")


if __name__ == "__main__":
    main()

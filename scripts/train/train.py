#!/usr/bin/env python3
"""Trains one attention variant with several seeds side by side, and writes a checkpoint for each (scripts/train/README.md).

    train.py --tokens train.npy --variant vga-output --seeds 0-4 --out models

AdamW (0.9, 0.95), weight decay on matrices, warm-up then cosine to a tenth, gradients clipped to norm 1 for each seed alone;
bf16 autocast over f32 parameters on a GPU, f32 on a CPU. Checkpoints: OUT/VARIANT-sSEED.
"""
import argparse
import contextlib
import dataclasses
import math
import pathlib
import sys
import time

import torch

import checkpoint
import data
from checkpoint import FAMILIES
from model import VARIANTS


def learning_rate(step, options):
    if step < options.warmup:
        return options.lr * (step + 1) / options.warmup
    done = (step - options.warmup) / max(1, options.steps - options.warmup)
    return options.lr * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done)))


def optimizer(parameters, options):
    matrices = [p for p in parameters.values() if p.dim() == 3]
    vectors = [p for p in parameters.values() if p.dim() < 3]
    return torch.optim.AdamW([{"params": matrices, "weight_decay": options.weight_decay},
                              {"params": vectors, "weight_decay": 0.0}],
                             lr=options.lr, betas=(0.9, 0.95), fused=options.device.startswith("cuda"))


def clip(parameters, most):
    """Scales each seed's gradient to norm at most `most`. -> norms [seeds]."""
    gradients = [p.grad for p in parameters.values()]
    norms = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0).sqrt()
    factors = (most / (norms + 1e-6)).clamp(max=1.0)
    for g in gradients:
        g.mul_(factors.view(-1, *[1] * (g.dim() - 1)))
    return norms


def train(parameters, family, shape, variant, options, say):
    """Changes `parameters` in place. -> mean loss of the last steps, by seed."""
    device = torch.device(options.device)
    all_tokens = data.tokens(options.tokens, device)
    first = data.starts(options.seeds, options.steps, options.batch, len(all_tokens) - shape.context)
    compiled = (lambda f: torch.compile(f, dynamic=False)) if options.compile else (lambda f: f)
    layer_fn, loss_fn = compiled(family.layer), compiled(family.token_losses)
    batches = family.Batches(options.seeds, device)
    precision = torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else contextlib.nullcontext()
    adam = optimizer(parameters, options)
    recent, began = [], time.monotonic()
    for step in range(options.steps):
        for group in adam.param_groups:
            group["lr"] = learning_rate(step, options)
        ids, targets = batches(all_tokens, first[step].to(device), shape)
        with precision:
            mean = family.losses(parameters, ids, targets, shape, variant, layer_fn, loss_fn).mean(1)
        mean.sum().backward()
        clip(parameters, 1.0)
        adam.step()
        adam.zero_grad(set_to_none=True)
        recent = (recent + [mean.detach()])[-100:]
        if step % options.log == options.log - 1 or step == options.steps - 1:
            shown = torch.stack(recent).mean(0).tolist()
            say(f"step {step + 1} loss {' '.join(f'{x:.4f}' for x in shown)} seconds {time.monotonic() - began:.1f}")
    return torch.stack(recent).mean(0).tolist()


def seed_list(text):
    seeds = []
    for part in text.split(","):
        low, _, high = part.partition("-")
        seeds += range(int(low), int(high or low) + 1)
    return seeds


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", required=True, help="1-D .npy of token ids")
    parser.add_argument("--variant", required=True, choices=VARIANTS)
    parser.add_argument("--seeds", type=seed_list, default=seed_list("0-4"), help="such as 0-4 or 1,7")
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=128, help="windows a step, of each seed")
    parser.add_argument("--family", choices=FAMILIES, default="opt", help="decoder of the OPT shape, encoder of the BERT shape")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--warmup", type=int, default=300)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true", help="torch.compile; worth it for more than a few hundred steps")
    parser.add_argument("--log", type=int, default=500, help="steps between lines on stderr")
    for field in {f.name: f for family in FAMILIES.values() for f in dataclasses.fields(family.Shape)}.values():
        parser.add_argument("--" + field.name, type=int, help="as the family has it unless given")
    return parser.parse_args()


def main():
    options = parse()
    family = FAMILIES[options.family]
    given = {f.name: getattr(options, f.name) for f in dataclasses.fields(family.Shape)}
    shape = family.Shape(**{name: value for name, value in given.items() if value is not None})
    variant = VARIANTS[options.variant]
    say = lambda text: print(f"{options.variant}: {text}", file=sys.stderr, flush=True)
    parameters = {name: p.to(options.device).requires_grad_() for name, p in family.initial(shape, variant, options.seeds).items()}
    final = train(parameters, family, shape, variant, options, say)
    settings = {name: getattr(options, name) for name in ("steps", "batch", "lr", "warmup", "weight_decay")}
    for i, seed in enumerate(options.seeds):
        about = {"variant": options.variant, "seed": seed, "training_loss": final[i], **settings, "torch": torch.__version__,
                 "device": torch.cuda.get_device_name() if options.device.startswith("cuda") else "cpu"}
        checkpoint.write(options.out / f"{options.variant}-s{seed}", {n: p[i] for n, p in parameters.items()}, shape, variant, about)


if __name__ == "__main__":
    main()

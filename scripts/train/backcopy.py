#!/usr/bin/env python3
"""Trains one layer with one head on bigram-backcopy (Guo et al. 2024, arXiv 2410.13835) and keeps checkpoints on the way
(scripts/train/README.md).

    backcopy.py --tables configs/data/bigram-backcopy --variant softmax --seeds 0 --out out/backcopy

The task: a sequence is <s>, a first token from the unigram table without the triggers, then after a token that is no trigger
one from its row of the bigram table, after a trigger a copy of the token before it. New sequences at every step. The shape:
pre-norm, learned positions, feed-forward block, untied head, as Guo et al.'s in small, and no biases where they have none (in
q, k, v and out_proj). Two things differ: their feed-forward block reads what comes into the layer, ours the sum that the
attention leaves, as OPT's does; and their first token is uniform. Checkpoints: OUT/VARIANT-sSEED/step-N.
"""
import argparse
import dataclasses
import math
import pathlib
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

import checkpoint
import model
from model import VARIANTS, Shape, layer_parameters, linear, norm, stacked_lookup, stream, token_losses


@dataclasses.dataclass(frozen=True)
class Tables:
    bigram: torch.Tensor  # [tokens, tokens], row = the token before
    first: torch.Tensor  # [tokens], of the first token: the unigram table without the triggers
    triggers: torch.Tensor
    bos: int

    def is_trigger(self, ids):
        return torch.isin(ids, self.triggers)


def read_tables(directory, device):
    load = lambda name: torch.from_numpy(np.load(pathlib.Path(directory) / f"{name}.npy")).to(device)
    first = load("unigram").clone()
    first[load("triggers")] = 0
    return Tables(load("bigram"), first / first.sum(), load("triggers"), int(load("bos")))


def sequences(tables, draws):
    """draws [count, length], uniform in [0, 1) -> ids [count, length + 1]: <s> and `length` tokens."""
    count, length = draws.shape
    cumulative, first = tables.bigram.cumsum(1), tables.first.cumsum(0)
    ids = torch.empty(count, length + 1, dtype=torch.long, device=draws.device)
    ids[:, 0] = tables.bos
    pick = lambda rows, u: (rows <= (rows[..., -1] * u).unsqueeze(1)).sum(1).clamp(max=len(first) - 1)
    ids[:, 1] = pick(first.expand(count, -1), draws[:, 0])
    for t in range(2, length + 1):
        before = ids[:, t - 1]
        ids[:, t] = torch.where(tables.is_trigger(before), ids[:, t - 2], pick(cumulative[before], draws[:, t - 1]))
    return ids


def oracle_losses(tables, ids):
    """NLL of ids[:, 1:] under the task itself, [count, length]."""
    before, after = ids[:, :-1], ids[:, 1:]
    rows = torch.cat([tables.bigram, tables.first.unsqueeze(0)])  # <s> is the last token
    nll = -torch.log(rows[before, after])
    return torch.where(tables.is_trigger(before), torch.zeros_like(nll), nll)


def initial(shape, variant, seeds):
    """model.initial's numbers and the head's, which is not tied here."""
    parameters = model.initial(shape, variant, seeds)
    name, size = "lm_head.weight", (shape.vocab, shape.hidden)
    parameters[name] = torch.stack([0.02 * torch.randn(size, generator=stream(s, name)) for s in seeds])
    return parameters


def is_trained(name):
    return not name.endswith(tuple(f".{projection}_proj.bias" for projection in ("q", "k", "v", "out")))


def attention_only(x, p, shape, variant, probe=None):
    """model.layer up to its feed-forward block, the probabilities written out. probe(v, scores) -> v, scores may change what
    is inside. -> the residual stream; scores, probabilities, V as projected, gate [seeds, sequences, ...]."""
    normed = norm(x, p, "self_attn_layer_norm")
    q, k, v = (linear(normed, p, f"self_attn.{name}_proj").unflatten(1, (-1, shape.context)) for name in "qkv")
    scores = q @ k.transpose(-1, -2) / math.sqrt(shape.hidden)
    if probe:
        v, scores = probe(v, scores)
    future = torch.ones(shape.context, shape.context, dtype=torch.bool, device=x.device).triu(1)
    probs = torch.softmax(scores.masked_fill(future, -math.inf), -1)
    gate = torch.ones_like(v[..., :1])
    if variant.gate_input:
        gate = torch.sigmoid(linear((v.flatten(1, 2) if variant.gate_input == "value" else normed), p, "self_attn.gate_proj"))
        gate = gate.unflatten(1, (-1, shape.context))
    output = probs @ (v * gate) if variant.gate_site == "value" else (probs @ v) * gate
    return x + linear(output.flatten(1, 2), p, "self_attn.out_proj"), (scores, probs, v, gate)


def head_losses(parameters, x, targets):
    """NLL [seeds, rows] of targets given the last residual stream."""
    final = {n: parameters["model.decoder." + n] for n in ("final_layer_norm.weight", "final_layer_norm.bias")}
    return token_losses(x, final, parameters["lm_head.weight"], targets)


def gradients(parameters, ids, targets, tables, shape, variant):
    """On a batch, by seed: the value of <s>, the gradient of the mean loss with respect to it (summed over sequences, since
    one vector is meant), and the mean over non-trigger queries of the gradient of a query's loss with respect to its logit of <s>."""
    seeds, device = ids.shape[0], ids.device
    on_value = torch.zeros(seeds, 1, shape.hidden, device=device, requires_grad=True)
    on_logit = torch.zeros(seeds, 1, 1, device=device, requires_grad=True)
    bigram = ~tables.is_trigger(ids)
    bigram[..., 0] = False  # <s> itself sees nothing else

    def probe(v, scores):
        first = torch.zeros(shape.context, 1, device=device)
        first[0] = 1
        v = v + first * on_value.unsqueeze(1)
        return v, scores + first.T * (on_logit * bigram).unsqueeze(3)

    x = embedded(parameters, ids, shape)
    x, (_, _, v, _) = attention_only(x, layer_parameters(parameters, 0), shape, variant, probe)
    token_loss = head_losses(parameters, feed_forward(x, parameters, shape), targets.flatten(1))
    value, = torch.autograd.grad(token_loss.mean(1).sum(), on_value, retain_graph=True)
    logit, = torch.autograd.grad((token_loss * bigram.flatten(1)).sum(), on_logit)
    counts = bigram.flatten(1).sum(1)
    return v[:, 0, 0].detach(), value[:, 0], logit[:, 0, 0] / counts


def embedded(parameters, ids, shape):
    tokens = stacked_lookup(parameters["model.decoder.embed_tokens.weight"], ids)
    positions = parameters["model.decoder.embed_positions.weight"][:, None, 2:]
    return (tokens + positions).reshape(ids.shape[0], -1, shape.hidden)


def feed_forward(x, parameters, shape):
    """The feed-forward block."""
    p = layer_parameters(parameters, 0)
    return x + linear(F.relu(linear(norm(x, p, "final_layer_norm"), p, "fc1")), p, "fc2")


def forward_losses(parameters, ids, targets, shape, variant):
    x, inside = attention_only(embedded(parameters, ids, shape), layer_parameters(parameters, 0), shape, variant)
    return head_losses(parameters, feed_forward(x, parameters, shape), targets.flatten(1)), inside


@torch.no_grad()
def measures(parameters, sample, tables, shape, variant):
    """What qfid measures too, by seed."""
    ids, targets = sample[:, :, :-1], sample[:, :, 1:]
    token_loss, (scores, probs, v, gate) = forward_losses(parameters, ids, targets, shape, variant)
    excess = token_loss.unflatten(1, ids.shape[1:]).double() - torch.stack([oracle_losses(tables, s) for s in sample])
    trigger = tables.is_trigger(ids)
    mean = lambda values, mask: (values * mask).flatten(1).sum(1) / mask.flatten(1).sum(1)
    bigram = ~trigger
    bigram[..., 0] = False
    norms = v.norm(dim=-1)
    gated = (v * gate if variant.gate_site == "value" else v).norm(dim=-1)
    return {"excess_bigram": mean(excess, ~trigger), "excess_copy": mean(excess, trigger),
            "attention_bigram": mean(probs[..., 0], bigram), "attention_copy": mean(probs[..., 0], trigger),
            "value_ratio": norms[..., 0].mean(1) / norms[..., 1:].mean((1, 2)),
            "gated_value_ratio": gated[..., 0].mean(1) / gated[..., 1:].mean((1, 2)),
            "delta_logit": mean(delta_logits(scores), bigram)}


def delta_logits(scores):
    """Logit of key 0 less the mean of those of keys 1 ... q - 1; 0 for q < 2."""
    length = scores.shape[-1]
    others = torch.ones(length, length, device=scores.device).tril(-1)
    others[:, 0] = 0
    return torch.where(others.sum(1) > 0, scores[..., 0] - (scores * others).sum(-1) / others.sum(1).clamp(min=1), 0.0)


def kept_steps(steps, count):
    """0 and `count` - 1 steps up to the last, evenly on a logarithmic scale from 10 on."""
    first = min(10, steps)
    return sorted({0} | {round(first * (steps / first) ** (i / max(1, count - 2))) for i in range(count - 1)})


def learning_rate(step, options):
    rise = min(1.0, (step + 1) / max(1, options.warmup))
    fall = 1.0 if options.schedule == "constant" else 0.5 * (1 + math.cos(math.pi * step / options.steps))
    return options.lr * rise * fall


class Training:
    def __init__(self, options, say):
        self.options, self.say = options, say
        self.shape = Shape(layers=1, hidden=options.hidden, heads=1, ffn=options.ffn, context=options.length)
        self.tables = read_tables(options.tables, options.device)
        self.shape = dataclasses.replace(self.shape, vocab=self.tables.bos + 1, bos=self.tables.bos)
        self.variant = VARIANTS[options.variant]
        started = initial(self.shape, self.variant, options.seeds)
        self.parameters = {name: p.to(options.device).requires_grad_(is_trained(name)) for name, p in started.items()}
        self.sample = self.draw("sample", 256)

    def draw(self, name, count):
        """[seeds, count, length + 1]: each seed's from the stream that it and `name` name, whatever else was drawn."""
        size = (count, self.shape.context)
        draws = torch.stack([torch.rand(size, generator=stream(s, name), dtype=torch.float64) for s in self.options.seeds])
        return sequences(self.tables, draws.flatten(0, 1).to(self.options.device)).unflatten(0, (-1, count))

    def batches(self, at_once=50):
        """One [seeds, batch, length + 1] a step; drawn for several steps at once, since a sequence is drawn token by token."""
        batch = self.options.batch
        for begin in range(0, self.options.steps, at_once):
            yield from self.draw(f"batches/{begin}", at_once * batch).unflatten(1, (at_once, batch)).unbind(1)

    def loss(self, batch):
        losses, _ = forward_losses(self.parameters, batch[:, :, :-1], batch[:, :, 1:], self.shape, self.variant)
        return losses.mean(1)

    def run(self):
        options = self.options
        trained = [p for p in self.parameters.values() if p.requires_grad]
        adam = torch.optim.AdamW(trained, lr=options.lr, betas=(0.9, 0.99), weight_decay=options.weight_decay,
                                 fused=options.device.startswith("cuda"))
        kept, began = set(kept_steps(options.steps, options.checkpoints)), time.monotonic()
        for step, batch in zip(range(options.steps), self.batches()):
            if step in kept:
                self.keep(step, began)
            for group in adam.param_groups:
                group["lr"] = learning_rate(step, options)
            self.loss(batch).sum().backward()
            adam.step()
            adam.zero_grad(set_to_none=True)
        self.keep(options.steps, began)

    def keep(self, step, began):
        options, found = self.options, measures(self.parameters, self.sample, self.tables, self.shape, self.variant)
        ids, targets = self.sample[:, :, :-1], self.sample[:, :, 1:]
        value, on_value, on_logit = gradients(self.parameters, ids, targets, self.tables, self.shape, self.variant)
        along = (value * on_value).sum(1) / value.norm(dim=1)
        for i, seed in enumerate(options.seeds):
            shown = {name: numbers[i].item() for name, numbers in found.items()}
            shown |= {"gradient_value_norm": on_value[i].norm().item(), "gradient_value_along": along[i].item(),
                      "gradient_logit": on_logit[i].item(), "value_norm": value[i].norm().item()}
            if options.log:
                self.say(f"seed {seed} step {step} " + " ".join(f"{n} {x:.4g}" for n, x in shown.items()) +
                         f" seconds {time.monotonic() - began:.1f}")
            settings = {n: getattr(options, n) for n in ("steps", "batch", "lr", "schedule", "warmup", "weight_decay")}
            about = {"variant": options.variant, "seed": seed, "step": step, **shown, **settings,
                     "torch": torch.__version__,
                     "device": torch.cuda.get_device_name() if options.device.startswith("cuda") else "cpu"}
            checkpoint.write(options.out / f"{options.variant}-s{seed}" / f"step-{step}",
                             {n: p[i] for n, p in self.parameters.items()}, self.shape, self.variant, about)


def seed_list(text):
    low, _, high = text.partition("-")
    return list(range(int(low), int(high or low) + 1))


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tables", required=True, type=pathlib.Path, help="directory of bigram, unigram, triggers and bos .npy")
    parser.add_argument("--variant", required=True, choices=[v for v in VARIANTS if v != "sink"])
    parser.add_argument("--seeds", type=seed_list, default=[0], help="such as 0 or 0-4")
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=10000)
    parser.add_argument("--batch", type=int, default=512, help="sequences a step, of each seed")
    parser.add_argument("--length", type=int, default=64, help="tokens of a sequence behind <s>")
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--ffn", type=int, default=64, help="width of the feed-forward block after the attention")
    parser.add_argument("--lr", type=float, default=2e-2)
    parser.add_argument("--schedule", choices=["constant", "cosine"], default="cosine")
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--weight-decay", type=float, default=1e-4)
    parser.add_argument("--checkpoints", type=int, default=20, help="kept on the way, the start and the end among them")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--log", action="store_true", help="a line on stderr for each checkpoint")
    return parser.parse_args()


def main():
    options = parse()
    say = lambda text: print(f"{options.variant} {text}", file=sys.stderr, flush=True)
    Training(options, say).run()


if __name__ == "__main__":
    main()

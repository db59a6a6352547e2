"""An encoder of the BERT shape with qfid's attention variants, several training seeds stacked as in model.py.

What it computes is Hugging Face's BertForMaskedLM and what eval/model reads: post-norm, erf GELU, learned positions (row =
index), token type 0, layer norm epsilon 1e-12, a head of dense, GELU, norm, and the token embedding with a bias; scores scaled
by 1 / sqrt(head_dim), every position seen by all (rows are full, there is no padding). Gates and sinks as in model.py, the
gate's hidden state being what the projections read.
"""
from dataclasses import dataclass

import torch
import torch.nn.functional as F

import model
from model import VARIANTS, linear, stacked_lookup, stream

NORM_EPS = 1e-12
MASKED_SHARE = 0.15


@dataclass(frozen=True)
class Shape(model.Shape):
    context: int = 128
    cls: int = 0
    pad: int = 1
    mask: int = 3

    @property
    def masked(self):
        """Tokens of a row that are masked or replaced, and scored."""
        return round(MASKED_SHARE * (self.context - 1))


def parameter_shapes(shape, variant, tied=True):
    """Hugging Face's names (BertForMaskedLM) and shapes, without the axis of seeds."""
    h, shapes = shape.hidden, {}
    if not tied:
        raise SystemExit("encoders here have the token embedding as their head, tie_word_embeddings true")

    def linear_(name, rows, columns):
        shapes[name + ".weight"], shapes[name + ".bias"] = (rows, columns), (rows,)

    def norm_(name):
        shapes[name + ".weight"], shapes[name + ".bias"] = (h,), (h,)

    embeddings = "bert.embeddings."
    shapes[embeddings + "word_embeddings.weight"] = (shape.vocab, h)
    shapes[embeddings + "position_embeddings.weight"] = (shape.context, h)
    shapes[embeddings + "token_type_embeddings.weight"] = (2, h)
    norm_(embeddings + "LayerNorm")
    for l in range(shape.layers):
        p = f"bert.encoder.layer.{l}."
        for projection in ("query", "key", "value"):
            linear_(p + "attention.self." + projection, h, h)
        if variant.gate_input:
            linear_(p + "attention.self.gate_proj", shape.heads, h)
        if variant.sink:
            shapes[p + "attention.self.sink"] = (shape.heads,)
        linear_(p + "attention.output.dense", h, h)
        norm_(p + "attention.output.LayerNorm")
        linear_(p + "intermediate.dense", shape.ffn, h)
        linear_(p + "output.dense", h, shape.ffn)
        norm_(p + "output.LayerNorm")
    linear_("cls.predictions.transform.dense", h, h)
    norm_("cls.predictions.transform.LayerNorm")
    shapes["cls.predictions.bias"] = (shape.vocab,)
    return shapes


def initial(shape, variant, seeds):
    return model.drawn(parameter_shapes(shape, variant), seeds)


def norm(x, p, name):
    return model.norm(x, p, name, NORM_EPS)


def layer(x, p, shape, variant):
    """x [seeds, rows * context, hidden]; `p`: this layer's parameters by their short names."""
    mixed = model.attention(x, p, "attention.self.", ("query", "key", "value"), shape, variant, causal=False)
    x = norm(x + linear(mixed, p, "attention.output.dense"), p, "attention.output.LayerNorm")
    return norm(x + linear(F.gelu(linear(x, p, "intermediate.dense")), p, "output.dense"), p, "output.LayerNorm")


def token_losses(x, p, embed_tokens, targets):
    """NLL of targets [seeds, n] given the hidden states there, [seeds, n, hidden]; `p`: the head's parameters."""
    x = norm(F.gelu(linear(x, p, "transform.dense")), p, "transform.LayerNorm")
    logits = torch.baddbmm(p["bias"].unsqueeze(1), x, embed_tokens.transpose(1, 2))
    kept = logits if logits.dtype == torch.float64 else logits.float()
    return torch.logsumexp(kept, -1) - kept.gather(-1, targets.unsqueeze(-1)).squeeze(-1)


def losses(parameters, ids, targets, shape, variant, layer_fn=layer, loss_fn=token_losses):
    """ids [seeds, rows, context], targets: (where [seeds, rows, n], which tokens stood there). -> NLL [seeds, rows * n]."""
    where, tokens = targets
    embeddings = {name.removeprefix("bert.embeddings."): p for name, p in parameters.items() if name.startswith("bert.embeddings.")}
    x = stacked_lookup(embeddings["word_embeddings.weight"], ids) + embeddings["position_embeddings.weight"][:, None]
    x = (x + embeddings["token_type_embeddings.weight"][:, None, None, 0]).reshape(ids.shape[0], -1, shape.hidden)
    x = norm(x, embeddings, "LayerNorm")
    for l in range(shape.layers):
        x = layer_fn(x, model.layer_parameters(parameters, l, "bert.encoder.layer."), shape, variant)
    rows = shape.context * torch.arange(ids.shape[1], device=ids.device).view(1, -1, 1)
    at = (where + rows).reshape(ids.shape[0], -1, 1).expand(-1, -1, shape.hidden)
    head = {name.removeprefix("cls.predictions."): p for name, p in parameters.items() if name.startswith("cls.predictions.")}
    return loss_fn(x.gather(1, at), head, embeddings["word_embeddings.weight"], tokens.reshape(ids.shape[0], -1))


class Batches:
    """Rows of a step: <cls> and text from anywhere, `masked` of its tokens chosen; of these 80 % become the mask, 10 % another
    token, 10 % stay (Devlin et al. 2019). Which rows and masks follows from the seed alone, not from the variant."""

    def __init__(self, seeds, device):
        self.generators = [torch.Generator(device).manual_seed(stream(seed, "masks").initial_seed()) for seed in seeds]

    def __call__(self, all_tokens, first, shape):
        """first [seeds, rows] -> ids [seeds, rows, context], (where, tokens) [seeds, rows, masked]."""
        text = all_tokens[first.unsqueeze(-1) + torch.arange(shape.context - 1, device=first.device)].long()
        rows = [masked_rows(own, g, shape) for own, g in zip(text, self.generators)]
        ids, where, tokens = (torch.stack(part) for part in zip(*rows))
        return ids, (where, tokens)


def masked_rows(text, generator, shape):
    """text [rows, context - 1] -> ids [rows, context], where and tokens [rows, masked]."""
    def uniform(*size):
        return torch.rand(size, generator=generator, device=text.device)

    chosen = uniform(*text.shape).topk(shape.masked).indices
    tokens, kind = text.gather(1, chosen), uniform(len(text), shape.masked)
    other = (uniform(len(text), shape.masked) * (shape.vocab - 4)).long() + 4  # behind the special tokens
    written = torch.where(kind < 0.8, shape.mask, torch.where(kind < 0.9, other, tokens))
    ids = torch.cat([torch.full_like(text[:, :1], shape.cls), text.scatter(1, chosen, written)], 1)
    return ids, chosen + 1, tokens


def config(shape, variant):
    return {"model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": shape.vocab, "hidden_size": shape.hidden,
            "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads, "intermediate_size": shape.ffn,
            "hidden_act": "gelu", "max_position_embeddings": shape.context, "type_vocab_size": 2, "layer_norm_eps": NORM_EPS,
            "pad_token_id": shape.pad, "cls_token_id": shape.cls, "mask_token_id": shape.mask, "tie_word_embeddings": True,
            "torch_dtype": "bfloat16"}


def shape_of(values):
    return Shape(values["num_hidden_layers"], values["hidden_size"], values["num_attention_heads"], values["intermediate_size"],
                 values["max_position_embeddings"], values["vocab_size"], cls=values["cls_token_id"], pad=values["pad_token_id"],
                 mask=values["mask_token_id"])

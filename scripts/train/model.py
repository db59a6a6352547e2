"""A decoder of the OPT shape with qfid's attention variants, several training seeds stacked in one set of tensors.

What it computes is docs/numerics.md's full precision and what eval/model reads: pre-norm, ReLU, learned positions (row =
index + 2), the head tied to the token embedding, layer norm epsilon 1e-5, scores scaled by 1 / sqrt(head_dim); a gate
sigma(W x + b), one per head, from the value projection as it is or from the normed hidden state, on V by key position or on
the head's output by query position; a learnable sink, one logit per head that joins each row's softmax and carries no value.

Every parameter has a leading axis of seeds, [seeds, ...], and every product is a batched one over it: S models train in the
time that one alone would spend mostly on launching kernels. Nothing crosses that axis, so a model of a stack is the model
that its seed gives alone (up to the order of sums inside a library's batched product). encoder.py is its sibling of the BERT shape.
"""
import hashlib
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

POSITION_OFFSET = 2
NORM_EPS = 1e-5


@dataclass(frozen=True)
class Shape:
    layers: int = 6
    hidden: int = 128
    heads: int = 2
    ffn: int = 512
    context: int = 256
    vocab: int = 2048
    bos: int = 2


@dataclass(frozen=True)
class Variant:
    gate_input: str | None = None  # "value" or "hidden"
    gate_site: str | None = None  # "value" or "output"
    sink: bool = False


VARIANTS = {
    "softmax": Variant(),
    "vga-output": Variant("value", "output"),
    "vga-value": Variant("value", "value"),
    "iga-output": Variant("hidden", "output"),
    "iga-value": Variant("hidden", "value"),
    "sink": Variant(sink=True),
}


def parameter_shapes(shape, variant, tied=True):
    """Hugging Face's names (OPTForCausalLM) and shapes, without the axis of seeds. `tied`: the head is the embedding."""
    h, top = shape.hidden, "model.decoder."
    shapes = {top + "embed_tokens.weight": (shape.vocab, h),
              top + "embed_positions.weight": (shape.context + POSITION_OFFSET, h)}

    def linear(name, rows, columns):
        shapes[name + ".weight"], shapes[name + ".bias"] = (rows, columns), (rows,)

    def norm(name):
        shapes[name + ".weight"], shapes[name + ".bias"] = (h,), (h,)

    for l in range(shape.layers):
        p = f"{top}layers.{l}."
        norm(p + "self_attn_layer_norm")
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear(p + "self_attn." + projection, h, h)
        if variant.gate_input:
            linear(p + "self_attn.gate_proj", shape.heads, h)
        if variant.sink:
            shapes[p + "self_attn.sink"] = (shape.heads,)
        norm(p + "final_layer_norm")
        linear(p + "fc1", shape.ffn, h)
        linear(p + "fc2", h, shape.ffn)
    norm(top + "final_layer_norm")
    if not tied:
        shapes["lm_head.weight"] = (shape.vocab, h)
    return shapes


def initial(shape, variant, seeds):
    return drawn(parameter_shapes(shape, variant), seeds, 1 / math.sqrt(2 * shape.layers))


def drawn(shapes, seeds, into_residual=1.0):
    """name -> [seeds, ...], f32, of tensors named and sized by `shapes`. Each tensor is drawn from its own stream, named by seed and tensor, so that variants of one
    seed start from the same numbers wherever they have the same tensor. Normal(0, 0.02), the two projections into the
    residual stream times `into_residual` (GPT-2: 1 / sqrt(2 layers)); biases and sinks 0, so gates start half open; norms 1."""
    parameters = {}
    for name, size in shapes.items():
        if name.lower().endswith("norm.weight"):
            parameters[name] = torch.ones(len(seeds), *size)
        elif name.endswith((".bias", ".sink")):
            parameters[name] = torch.zeros(len(seeds), *size)
        else:
            std = 0.02 * into_residual if name.endswith(("out_proj.weight", "fc2.weight")) else 0.02
            parameters[name] = torch.stack([std * torch.randn(size, generator=stream(seed, name)) for seed in seeds])
    return parameters


def stream(seed, name):
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


def linear(x, p, name):
    """x [seeds, rows, in] -> [seeds, rows, out]."""
    return torch.baddbmm(p[name + ".bias"].unsqueeze(1), x, p[name + ".weight"].transpose(1, 2))


def norm(x, p, name, eps=NORM_EPS):
    normed = F.layer_norm(x, x.shape[-1:], eps=eps)
    return normed * p[name + ".weight"].unsqueeze(1) + p[name + ".bias"].unsqueeze(1)


def attend(q, k, v, sink, causal=True):
    """q, k, v [seeds * windows, heads, length, d]; sink [seeds * windows, heads] or None."""
    if sink is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    length = q.shape[2]
    scores = (q @ k.transpose(2, 3) / math.sqrt(q.shape[3])).to(sink.dtype)
    if causal:
        future = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(future, -math.inf)
    denominator = torch.logaddexp(torch.logsumexp(scores, -1), sink.unsqueeze(2))
    return torch.exp(scores - denominator.unsqueeze(3)).to(v.dtype) @ v


def attention(x, p, prefix, projections, shape, variant, causal):
    """x [seeds, windows * context, hidden], what the projections read -> the heads' outputs, same shape. `p`: this layer's
    parameters; those of attention begin with `prefix`, `projections` names its three."""
    seeds, d = x.shape[0], shape.hidden // shape.heads

    def heads(y):
        return y.reshape(-1, shape.context, shape.heads, d).transpose(1, 2)

    q, k, v = (linear(x, p, prefix + name) for name in projections)
    gate = None
    if variant.gate_input:
        gate = torch.sigmoid(linear(v if variant.gate_input == "value" else x, p, prefix + "gate_proj"))
        gate = gate.reshape(-1, shape.context, shape.heads).transpose(1, 2).unsqueeze(3)
    sink = None
    if variant.sink:
        windows = x.shape[1] // shape.context
        sink = p[prefix + "sink"].unsqueeze(1).expand(seeds, windows, shape.heads).reshape(-1, shape.heads)
    v = heads(v) if variant.gate_site != "value" else heads(v) * gate
    output = attend(heads(q), heads(k), v, sink, causal)
    if variant.gate_site == "output":
        output = output * gate
    return output.transpose(1, 2).reshape(x.shape)


def layer(x, p, shape, variant):
    """x [seeds, windows * context, hidden]; `p`: this layer's parameters by their short names."""
    normed = norm(x, p, "self_attn_layer_norm")
    mixed = attention(normed, p, "self_attn.", ("q_proj", "k_proj", "v_proj"), shape, variant, causal=True)
    x = x + linear(mixed, p, "self_attn.out_proj")
    return x + linear(F.relu(linear(norm(x, p, "final_layer_norm"), p, "fc1")), p, "fc2")


def stacked_lookup(table, rows):
    """table [seeds, n, hidden], rows [seeds, ...] of that table -> [seeds, ..., hidden]."""
    seeds, n, hidden = table.shape
    offset = n * torch.arange(seeds, device=rows.device).view(-1, *[1] * (rows.dim() - 1))
    return F.embedding(rows + offset, table.view(seeds * n, hidden))


def layer_parameters(parameters, l, layers="model.decoder.layers."):
    prefix = f"{layers}{l}."
    return {name.removeprefix(prefix): p for name, p in parameters.items() if name.startswith(prefix)}


def hidden_states(parameters, ids, shape, variant, layer_fn=layer):
    """ids [seeds, windows, context] -> the last layer's residual stream [seeds, windows * context, hidden]."""
    tokens = stacked_lookup(parameters["model.decoder.embed_tokens.weight"], ids)
    positions = parameters["model.decoder.embed_positions.weight"][:, None, POSITION_OFFSET:]
    x = (tokens + positions).reshape(ids.shape[0], -1, shape.hidden)
    for l in range(shape.layers):
        x = layer_fn(x, layer_parameters(parameters, l), shape, variant)
    return x


def token_losses(x, final_norm, lm_head, targets):
    """NLL of targets [seeds, windows * context] given the last residual stream, same shape."""
    logits = norm(x, final_norm, "final_layer_norm") @ lm_head.transpose(1, 2)
    kept = logits if logits.dtype == torch.float64 else logits.float()
    return torch.logsumexp(kept, -1) - kept.gather(-1, targets.unsqueeze(-1)).squeeze(-1)


def losses(parameters, ids, targets, shape, variant, layer_fn=layer, loss_fn=token_losses):
    x = hidden_states(parameters, ids, shape, variant, layer_fn)
    top = "model.decoder."
    final_norm = {name: parameters[top + name] for name in ("final_layer_norm.weight", "final_layer_norm.bias")}
    head = parameters.get("lm_head.weight", parameters[top + "embed_tokens.weight"])
    return loss_fn(x, final_norm, head, targets.reshape(ids.shape[0], -1))


class Batches:
    """Windows of a step: qfid's, from anywhere (data.py). A seed has nothing more to draw."""

    def __init__(self, seeds, device):
        pass

    def __call__(self, all_tokens, first, shape):
        """first [seeds, windows] -> ids and targets [seeds, windows, context]."""
        targets = all_tokens[first.unsqueeze(-1) + torch.arange(shape.context, device=first.device)].long()
        return torch.cat([torch.full_like(targets[..., :1], shape.bos), targets[..., :-1]], -1), targets


def config(shape, variant):
    return {"model_type": "opt", "architectures": ["OPTForCausalLM"], "vocab_size": shape.vocab, "hidden_size": shape.hidden,
            "word_embed_proj_dim": shape.hidden, "num_hidden_layers": shape.layers, "ffn_dim": shape.ffn,
            "num_attention_heads": shape.heads, "max_position_embeddings": shape.context, "do_layer_norm_before": True,
            "activation_function": "relu", "bos_token_id": shape.bos, "eos_token_id": shape.bos, "pad_token_id": 1,
            "tie_word_embeddings": True, "enable_bias": True, "layer_norm_elementwise_affine": True,
            "torch_dtype": "bfloat16"}


def shape_of(values):
    return Shape(values["num_hidden_layers"], values["hidden_size"], values["num_attention_heads"], values["ffn_dim"],
                 values["max_position_embeddings"], values["vocab_size"], values["bos_token_id"])

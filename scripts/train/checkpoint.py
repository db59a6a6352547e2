"""Checkpoints in qfid's layout: config.json and model.safetensors, bf16, one directory a model (docs: configs/models)."""
import json
import pathlib

import torch
from safetensors.torch import load_file, save_file

from model import Shape, Variant, parameter_shapes


def write(directory, parameters, shape, variant, about=None):
    """`parameters`: name -> tensor of one model, without the axis of seeds. `about` goes into training.json."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    save_file({name: p.detach().to("cpu", torch.bfloat16).contiguous() for name, p in parameters.items()},
              directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "config.json").write_text(json.dumps(config(shape, variant), indent=1) + "\n")
    if about is not None:
        (directory / "training.json").write_text(json.dumps(about, indent=1) + "\n")


def config(shape, variant):
    values = {
        "model_type": "opt",
        "architectures": ["OPTForCausalLM"],
        "vocab_size": shape.vocab,
        "hidden_size": shape.hidden,
        "word_embed_proj_dim": shape.hidden,
        "num_hidden_layers": shape.layers,
        "ffn_dim": shape.ffn,
        "num_attention_heads": shape.heads,
        "max_position_embeddings": shape.context,
        "do_layer_norm_before": True,
        "activation_function": "relu",
        "bos_token_id": shape.bos,
        "eos_token_id": shape.bos,
        "pad_token_id": 1,
        "tie_word_embeddings": True,
        "enable_bias": True,
        "layer_norm_elementwise_affine": True,
        "torch_dtype": "bfloat16",
    }
    attention = {}
    if variant.gate_input:
        attention["gate"] = {"input": variant.gate_input, "site": variant.gate_site}
    if variant.sink:
        attention["sink"] = "learnable"
    return {**values, "attention": attention} if attention else values


def read(directory):
    """-> parameters as stored, shape, variant."""
    directory = pathlib.Path(directory)
    values = json.loads((directory / "config.json").read_text())
    gate = values.get("attention", {}).get("gate", {})
    variant = Variant(gate.get("input"), gate.get("site"), "sink" in values.get("attention", {}))
    shape = Shape(values["num_hidden_layers"], values["hidden_size"], values["num_attention_heads"], values["ffn_dim"],
                  values["max_position_embeddings"], values["vocab_size"], values["bos_token_id"])
    parameters = load_file(directory / "model.safetensors")
    expected = parameter_shapes(shape, variant)
    found = {name: tuple(p.shape) for name, p in parameters.items()}
    if found != expected:
        wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        raise SystemExit(f"{directory}: tensors other than config.json says: {', '.join(wrong)}")
    return parameters, shape, variant

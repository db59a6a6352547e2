"""Checkpoints in qfid's layout: config.json and model.safetensors, bf16, one directory a model (docs: configs/models)."""
import json
import pathlib

import torch
from safetensors.torch import load_file, save_file

import encoder
import model
from model import Variant

FAMILIES = {"opt": model, "bert": encoder}


def write(directory, parameters, shape, variant, about=None):
    """`parameters`: name -> tensor of one model, without the axis of seeds. `about` goes into training.json."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    save_file({name: p.detach().to("cpu", torch.bfloat16).contiguous() for name, p in parameters.items()},
              directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "config.json").write_text(json.dumps(config(shape, variant, "lm_head.weight" not in parameters), indent=1) + "\n")
    if about is not None:
        (directory / "training.json").write_text(json.dumps(about, indent=1) + "\n")


def config(shape, variant, tied=True):
    values = (encoder if isinstance(shape, encoder.Shape) else model).config(shape, variant)
    values["tie_word_embeddings"] = tied
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
    family = FAMILIES[values["model_type"]]
    shape = family.shape_of(values)
    parameters = load_file(directory / "model.safetensors")
    expected = family.parameter_shapes(shape, variant, values["tie_word_embeddings"])
    found = {name: tuple(p.shape) for name, p in parameters.items()}
    if found != expected:
        wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        raise SystemExit(f"{directory}: tensors other than config.json says: {', '.join(wrong)}")
    return parameters, shape, variant

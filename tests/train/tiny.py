"""A data set and models that train in a moment, for tests of the trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from fxbio.train.config import Recipe, recipe_from
from fxbio.train.data import DataSource

__all__ = ["MODELS", "Stripes", "recipe", "source"]

MODELS = Path(__file__).parent / "tiny_models.py"


class Stripes(Dataset[Any]):
    """Noisy stripes, down or across; training images are shifted at random."""

    def __init__(self, size: int, augment: bool) -> None:
        generator = torch.Generator().manual_seed(size)
        self.labels = torch.arange(size) % 2
        stripes = (torch.arange(8) % 2).float().expand(8, 8)
        clean = torch.stack([stripes if label else stripes.T for label in self.labels])
        noise = torch.randn(size, 8, 8, generator=generator)
        self.images = (clean + 0.3 * noise).unsqueeze(1)
        self.augment = augment

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index]
        if self.augment:
            image = image.roll(int(torch.randint(8, ())), dims=-1) + 0.1 * torch.randn(1, 8, 8)
        return image, int(self.labels[index])


def source(train: int = 40, val: int = 21) -> DataSource:
    """Stripes of both kinds."""
    return DataSource(
        Stripes(train, True), Stripes(val, False), ("across", "down"), "classification"
    )


def recipe(*overrides: str, model: str = "conv", rule: str = "brsf") -> Recipe:
    """Three epochs of five steps, under a rule that redraws its feedback after each of them."""
    sections = {
        "model": {"reference": f"{MODELS}:{model}"},
        "policy": {"rule": rule},
        "data": {"workers": 0},
        "optim": {"lr": 0.05, "weight_decay": 1e-3, "options": {"momentum": 0.9}},
        "schedule": {"name": "cosine", "warmup_steps": 3},
        "train": {"epochs": 3, "batch_size": 8, "device": "cpu", "sanity_batches": 1},
        "log": {"every_steps": 2},
    }
    return recipe_from(sections, overrides)

"""A small convolutional network. Change it as you like: fxbio reads its graph anew each time."""

import torch
from torch import Tensor, nn


def build_model(classes: int = 5) -> nn.Module:
    """Takes (N, 3, 48, 48) images and gives (N, classes) logits."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, classes),
    )


def example_inputs() -> Tensor:
    """A batch of two images, with which the model is captured."""
    return torch.rand(2, 3, 48, 48)

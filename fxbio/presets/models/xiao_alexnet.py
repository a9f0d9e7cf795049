"""AlexNet as Xiao et al. 2018 (arXiv 1811.03567) changed it, after their code.

The widths are torchvision's. Batch normalisation stands before every ReLU, also in the classifier;
layers before it have no bias; there is no dropout. The last layer keeps its bias.
"""

import torch
from torch import Tensor, nn


class AlexNetBN(nn.Module):
    """Takes (N, 3, 224, 224) images and gives (N, classes) logits."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *convolution(3, 64, 11, stride=4, padding=2),
            nn.MaxPool2d(3, 2),
            *convolution(64, 192, 5, padding=2),
            nn.MaxPool2d(3, 2),
            *convolution(192, 384, 3, padding=1),
            *convolution(384, 256, 3, padding=1),
            *convolution(256, 256, 3, padding=1),
            nn.MaxPool2d(3, 2),
        )
        self.classifier = nn.Sequential(
            *linear(256 * 6 * 6, 4096),
            *linear(4096, 4096),
            nn.Linear(4096, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


def convolution(channels: int, wider: int, kernel: int, **options: int) -> list[nn.Module]:
    """A convolution, its normalisation and ReLU."""
    layer = nn.Conv2d(channels, wider, kernel, bias=False, **options)
    return [layer, nn.BatchNorm2d(wider), nn.ReLU()]


def linear(features: int, wider: int) -> list[nn.Module]:
    """A linear layer, its normalisation and ReLU."""
    return [nn.Linear(features, wider, bias=False), nn.BatchNorm1d(wider), nn.ReLU()]


def example_inputs() -> Tensor:
    """A batch of two images."""
    return torch.rand(2, 3, 224, 224)

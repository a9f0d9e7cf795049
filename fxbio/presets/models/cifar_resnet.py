"""The CIFAR ResNets of He et al. 2016 (arXiv 1512.03385), which BioTorch's benchmarks use.

    fxbio inspect examples/models/cifar_resnet.py:resnet20

Shortcuts are of option A: where a block halves the size, every second pixel is taken and the new
channels are zeros, so that no shortcut has a weight.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Two 3×3 convolutions and a shortcut without weights."""

    def __init__(self, channels: int, wider: int) -> None:
        super().__init__()
        self.stride = 1 if channels == wider else 2
        self.conv1 = nn.Conv2d(channels, wider, 3, self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(wider)
        self.conv2 = nn.Conv2d(wider, wider, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(wider)
        self.padding = (wider - channels) // 2

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn1(self.conv1(x)))
        h = self.bn2(self.conv2(h))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        return F.relu(h + F.pad(shortcut, (0, 0, 0, 0, self.padding, self.padding)))


class CifarResNet(nn.Module):
    """Takes (N, 3, 32, 32) images and gives (N, 10) logits; has ``6 · blocks + 2`` layers."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = stage(16, 16, blocks)
        self.layer2 = stage(16, 32, blocks)
        self.layer3 = stage(32, 64, blocks)
        self.fc = nn.Linear(64, 10)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn1(self.conv1(x)))
        h = self.layer3(self.layer2(self.layer1(h)))
        return self.fc(h.mean(dim=(2, 3)))


def stage(channels: int, wider: int, blocks: int) -> nn.Sequential:
    """Blocks of one width, the first of which widens."""
    return nn.Sequential(Block(channels, wider), *(Block(wider, wider) for _ in range(blocks - 1)))


def resnet20() -> CifarResNet:
    """Three blocks in each stage."""
    return CifarResNet(3)


def resnet56() -> CifarResNet:
    """Nine blocks in each stage."""
    return CifarResNet(9)


def example_inputs() -> Tensor:
    """A batch of two images."""
    return torch.rand(2, 3, 32, 32)

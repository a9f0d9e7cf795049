"""The nets of Bartunov et al. 2018 (arXiv 1807.04587) for MNIST, CIFAR-10 and ImageNet.

    fxbio inspect examples/models/bartunov.py:mnist_lc

From the paper: the layers with their sizes and strides, tanh everywhere, strides in place of
pooling, zero padding, no average before the classifier, Glorot initialisation. Choices made here:
padding on both sides alike, which gives the output sizes that strides ask for; stride 1 in the
third layer of the CIFAR net; and for a locally connected layer the Glorot bound of the
convolution with the same kernel.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fxbio.nn import LocallyConnected2d

Spec = tuple[int, int, int]
"""Kernel, channels, stride."""

MNIST: tuple[Spec, ...] = ((3, 32, 2), (3, 64, 2))
CIFAR: tuple[Spec, ...] = ((5, 64, 2), (5, 128, 2), (3, 256, 1))
IMAGENET: tuple[Spec, ...] = (
    (9, 48, 4),
    (3, 48, 2),
    (5, 96, 1),
    (3, 96, 2),
    (3, 192, 1),
    (3, 192, 2),
    (3, 384, 1),
)


class Net(nn.Sequential):
    """``hidden1``, ``hidden2``, … and ``output``; takes images (N, *shape), gives logits."""

    shape: tuple[int, ...]

    def example_inputs(self) -> Tensor:
        """A batch of two images."""
        return torch.rand(2, *self.shape)


def mnist_fc() -> Net:
    """Five hidden layers of 256."""
    return build((1, 28, 28), (), False, (256,) * 5, 10)


def mnist_lc() -> Net:
    """Two locally connected layers and one of 1,024."""
    return build((1, 28, 28), MNIST, False, (1024,), 10)


def mnist_conv() -> Net:
    """As ``mnist_lc`` with shared weights."""
    return build((1, 28, 28), MNIST, True, (1024,), 10)


def cifar_fc() -> Net:
    """Three hidden layers of 1,024."""
    return build((3, 32, 32), (), False, (1024,) * 3, 10)


def cifar_lc() -> Net:
    """Three locally connected layers and one of 1,024."""
    return build((3, 32, 32), CIFAR, False, (1024,), 10)


def cifar_conv() -> Net:
    """As ``cifar_lc`` with shared weights."""
    return build((3, 32, 32), CIFAR, True, (1024,), 10)


def imagenet_lc(size: int = 224) -> Net:
    """Seven locally connected layers; 260 million parameters at 224²."""
    return build((3, size, size), IMAGENET, False, (), 1000)


def imagenet_conv(size: int = 224) -> Net:
    """As ``imagenet_lc`` with shared weights."""
    return build((3, size, size), IMAGENET, True, (), 1000)


def build(
    shape: tuple[int, int, int],
    local: Sequence[Spec],
    shared: bool,
    dense: Sequence[int],
    classes: int,
) -> Net:
    """Stack the layers.

    Args:
        shape: (channels, height, width) of an image, which is square.
        local: locally connected layers, or convolutions if ``shared``.
        shared: whether all positions share a weight.
        dense: sizes of the fully connected layers.
        classes: number of logits.
    """
    net = Net()
    net.shape = shape
    channels, size, _ = shape
    for kernel, wider, stride in local:
        layer = _local(channels, wider, size, kernel, stride, shared)
        net.add_module(f"hidden{len(net) + 1}", nn.Sequential(layer, nn.Tanh()))
        channels, size = wider, -(-size // stride)
    features = channels * size * size
    for wider in dense:
        layer = nn.Sequential(nn.Flatten(), _glorot(nn.Linear(features, wider)), nn.Tanh())
        net.add_module(f"hidden{len(net) + 1}", layer)
        features = wider
    net.add_module("output", nn.Sequential(nn.Flatten(), _glorot(nn.Linear(features, classes))))
    return net


def _local(
    channels: int, wider: int, size: int, kernel: int, stride: int, shared: bool
) -> nn.Module:
    padding = kernel // 2
    if shared:
        return _glorot(nn.Conv2d(channels, wider, kernel, stride, padding))
    layer = LocallyConnected2d(channels, wider, size, kernel, stride, padding)
    bound = math.sqrt(6.0 / ((channels + wider) * kernel**2))
    nn.init.uniform_(layer.weight, -bound, bound)
    nn.init.zeros_(layer.bias)
    return layer


def _glorot(layer: nn.Linear | nn.Conv2d) -> nn.Module:
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer

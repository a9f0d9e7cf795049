"""The nets of the source papers: whole in capture, of the right size, and under a rule."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

import fxbio
from fxbio.models import LoadedModel, load_reference

MODELS = Path(__file__).parents[1] / "examples" / "models"

MNIST_LC = 14 * 14 * (9 + 1) * 32 + 7 * 7 * (32 * 9 + 1) * 64
MNIST_CONV = (9 + 1) * 32 + (32 * 9 + 1) * 64
MNIST_DENSE = (7 * 7 * 64 + 1) * 1024 + 1025 * 10
CIFAR_LC = 16**2 * (75 + 1) * 64 + 8**2 * (64 * 25 + 1) * 128 + 8**2 * (128 * 9 + 1) * 256
CIFAR_CONV = (75 + 1) * 64 + (64 * 25 + 1) * 128 + (128 * 9 + 1) * 256
CIFAR_DENSE = (8 * 8 * 256 + 1) * 1024 + 1025 * 10
KERNELS = (3 * 81 + 1) * 48, (48 * 9 + 1) * 48, (48 * 25 + 1) * 96, (96 * 9 + 1) * 96
KERNELS += (96 * 9 + 1) * 192, (192 * 9 + 1) * 192, (192 * 9 + 1) * 384
POSITIONS = [56**2, 28**2, 28**2, 14**2, 14**2, 7**2, 7**2]
IMAGENET_DENSE = (7 * 7 * 384 + 1) * 1000
ALEXNET = (
    3 * 64 * 121 + 64 * 192 * 25 + 192 * 384 * 9 + 384 * 256 * 9 + 256 * 256 * 9
    + 2 * (64 + 192 + 384 + 256 + 256)
    + 9216 * 4096 + 2 * 4096 + 4096 * 4096 + 2 * 4096 + 4097 * 1000
)  # fmt: skip


def cifar_resnet(blocks: int) -> int:
    """Each convolution is followed by a norm with two numbers per channel."""
    stem = 27 * 16 + 32
    first = 2 * blocks * (16 * 16 * 9 + 32)
    second = 16 * 32 * 9 + 64 + (2 * blocks - 1) * (32 * 32 * 9 + 64)
    third = 32 * 64 * 9 + 128 + (2 * blocks - 1) * (64 * 64 * 9 + 128)
    return stem + first + second + third + 65 * 10


SIZES = {
    "bartunov.py:cifar_conv": CIFAR_CONV + CIFAR_DENSE,
    "bartunov.py:cifar_fc": 3073 * 1024 + 2 * 1025 * 1024 + 1025 * 10,
    "bartunov.py:cifar_lc": CIFAR_LC + CIFAR_DENSE,
    "bartunov.py:imagenet_conv": sum(KERNELS) + IMAGENET_DENSE,
    "bartunov.py:imagenet_lc": sum(p * k for p, k in zip(POSITIONS, KERNELS, strict=True))
    + IMAGENET_DENSE,
    "bartunov.py:mnist_conv": MNIST_CONV + MNIST_DENSE,
    "bartunov.py:mnist_fc": 785 * 256 + 4 * 257 * 256 + 257 * 10,
    "bartunov.py:mnist_lc": MNIST_LC + MNIST_DENSE,
    "cifar_resnet.py:resnet20": cifar_resnet(3),
    "cifar_resnet.py:resnet56": cifar_resnet(9),
    "encoder.py": 100 * 64 + 32 * 64
    + 3 * (2 * 128 + 65 * 192 + 65 * 64 + 65 * 256 + 257 * 64) + 128 + 65 * 10,
    "mlp.py": 785 * 512 + 513 * 512 + 513 * 10,
    "mnist_conv.py": 26 * 16 + (16 * 9 + 1) * 32 + (32 * 49 + 1) * 128 + 129 * 10,
    "xiao_alexnet.py": ALEXNET,
}  # fmt: skip

SMALLER = {"bartunov.py:imagenet_lc": {"size": 32}, "bartunov.py:imagenet_conv": {"size": 64}}
"""Arguments with which capture takes no gigabytes."""


def load(name: str, **arguments: object) -> LoadedModel:
    return load_reference(str(MODELS / name), arguments, seed=0)


@pytest.mark.parametrize("name", SIZES)
def test_parameter_counts(name: str) -> None:
    with torch.device("meta"):
        model = load(name).model
    assert sum(p.numel() for p in model.parameters()) == SIZES[name]


@pytest.mark.parametrize("name", SIZES)
def test_captured_whole(name: str) -> None:
    loaded = load(name, **SMALLER.get(name, {}))
    graph = fxbio.capture(loaded.model, loaded.default_inputs)
    assert graph.unreachable == ()
    assert [island.path for island in graph.islands] == [""]
    found = {site.weight for site in graph.sites if site.unreachable is None}
    layers = (nn.Linear, nn.Conv2d, fxbio.nn.LocallyConnected2d)
    named = loaded.model.named_modules()
    assert found >= {f"{path}.weight" for path, module in named if isinstance(module, layers)}


@pytest.mark.parametrize(
    "name",
    ["bartunov.py:mnist_fc", "bartunov.py:mnist_lc", "cifar_resnet.py:resnet20", "encoder.py"],
)
@pytest.mark.parametrize("rule", ["fa", "usf", "brsf"])
def test_transformed_and_verified(name: str, rule: str) -> None:
    loaded = load(name)
    made = fxbio.transform(loaded.model, fxbio.Policy.uniform(rule), loaded.default_inputs)
    found = fxbio.verify(made)
    assert found.ok, found
    assert not found.idle


def test_the_alexnet_has_a_norm_before_every_relu_and_no_bias_before_a_norm() -> None:
    with torch.device("meta"):
        model = load("xiao_alexnet.py").model
    layers = [*model.features, *model.classifier]
    for before, after in pairwise(layers):
        norm = isinstance(after, nn.BatchNorm1d | nn.BatchNorm2d)
        assert isinstance(before, nn.Linear | nn.Conv2d) == norm
        assert not norm or before.bias is None
        assert not isinstance(after, nn.ReLU) or isinstance(before, nn.BatchNorm1d | nn.BatchNorm2d)
    assert sum(isinstance(layer, nn.ReLU) for layer in layers) == 7
    assert not any(isinstance(layer, nn.Dropout) for layer in layers)
    assert layers[-1].bias is not None


def test_outputs_of_strided_layers() -> None:
    """224 → 56 → 28 → 28 → 14 → 14 → 7 → 7, as the strides ask for."""
    with torch.device("meta"):
        model = load("bartunov.py:imagenet_lc").model
    sizes = [layer[0].output_size for layer in list(model)[:-1]]
    assert sizes == [(n, n) for n in (56, 28, 28, 14, 14, 7, 7)]


def test_a_locally_connected_layer_starts_in_the_range_of_its_convolution() -> None:
    shared = load("bartunov.py:mnist_conv").model
    local = load("bartunov.py:mnist_lc").model
    for name in ("hidden1", "hidden2"):
        one, other = (getattr(m, name)[0].weight.detach().abs().max() for m in (shared, local))
        assert float(one) == pytest.approx(float(other), rel=0.05)


@pytest.mark.parametrize("name", ["mlp.py", "mnist_conv.py"])
def test_another_activation(name: str) -> None:
    model = load(name, activation="tanh").model
    assert not any(isinstance(module, nn.ReLU) for module in model.modules())
    assert sum(isinstance(module, nn.Tanh) for module in model.modules()) >= 2

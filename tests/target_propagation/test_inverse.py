"""Inverses have the shapes of what they invert, and their layers are what they say."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxbio.errors import RuleError
from fxbio.nn import LocallyConnected1d, LocallyConnected2d
from fxbio.rules.target_propagation import Placement
from fxbio.target_propagation import inverse as inverse_module
from fxbio.target_propagation.blocks import Block
from fxbio.target_propagation.factory import load_factory
from fxbio.target_propagation.inverse import build_inverse
from fxbio.target_propagation.inverse_layers import ConvInverse, ConvTransposeInverse
from fxbio.target_propagation.operations import Geometry, Operation
from tests.target_propagation.chains import partition_of, tanh_layers

CONVS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
SIZES = (7, 9, 8)


def last_block(model: nn.Module, x: Tensor) -> Block:
    return partition_of(model, x)[-1]


def inverse_of(layer: nn.Module, x: Tensor, placement: Placement = "after") -> nn.Module:
    """Of a layer behind a pointwise one, tried on another batch size."""
    first = CONVS[x.dim() - 2](x.shape[1], x.shape[1], 1)
    block = last_block(nn.Sequential(first, layer), x)
    inverse = build_inverse(block, 0, placement=placement)
    found = inverse(torch.randn(3, *block.output_shape[1:]))
    assert found.shape[1:] == x.shape[1:], (layer, inverse)
    return inverse


GEOMETRIES = [
    g
    for g in itertools.product((1, 2, 3), (1, 2, 3), (0, 1), (1, 2), (1, 2))
    if g[2] <= g[0] // 2 + 1
]
"""Kernel, stride, padding, dilation, groups."""


def operation_of(layer: Any, x: Tensor, kind: Literal["conv", "conv_transpose"]) -> Operation:
    geometry = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups)
    shapes = (tuple(x.shape), tuple(layer(x).shape), None, tuple(layer.weight.shape))
    return Operation(kind, type(layer).__name__, *shapes, Geometry(*geometry))


@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_convolutions_of_every_geometry(spatial: int) -> None:
    x = torch.randn(2, 4, *SIZES[:spatial])
    for geometry in GEOMETRIES:
        layer = CONVS[spatial](4, 6, *geometry)
        assert ConvInverse(operation_of(layer, x, "conv"))(layer(x)).shape == x.shape


@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_transposed_convolutions_of_every_geometry(spatial: int) -> None:
    x = torch.randn(2, 4, *SIZES[:spatial])
    for kernel, stride, padding, dilation, groups in GEOMETRIES:
        extra = max(stride, dilation) - 1
        geometry = (kernel, stride, padding, extra, groups, True, dilation)
        layer = TRANSPOSED[spatial](4, 6, *geometry)
        operation = operation_of(layer, x, "conv_transpose")
        assert ConvTransposeInverse(operation)(layer(x)).shape == x.shape


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("kernel", [2, 3, (4, 1)])
@pytest.mark.parametrize("mode", ["zeros", "circular"])
def test_same_padding(kernel: Any, mode: str) -> None:
    layer = nn.Conv2d(4, 6, kernel, padding="same", padding_mode=mode, dilation=2)
    inverse_of(layer, torch.randn(2, 4, 8, 9))


def test_the_inverse_of_a_convolution_is_its_gradient() -> None:
    layer = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False)
    x = torch.randn(2, 4, 8, 9, requires_grad=True)
    inverse = inverse_of(layer, x.detach())[0]
    with torch.no_grad():
        inverse.weight.copy_(layer.weight)
    error = torch.randn_like(layer(x))
    (expected,) = torch.autograd.grad(layer(x), x, error)
    torch.testing.assert_close(inverse(error), expected)


def test_the_inverse_of_a_transposed_convolution_is_its_gradient() -> None:
    layer = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, bias=False)
    x = torch.randn(2, 4, 5, 4, requires_grad=True)
    inverse = inverse_of(layer, x.detach())[0]
    with torch.no_grad():
        inverse.weight.copy_(layer.weight)
    error = torch.randn_like(layer(x))
    (expected,) = torch.autograd.grad(layer(x), x, error)
    torch.testing.assert_close(inverse(error), expected)


class Locally(nn.Module):
    def __init__(self, first: nn.Module, layer: nn.Module) -> None:
        super().__init__()
        self.first, self.layer = first, layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.tanh(self.first(x)))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (LocallyConnected2d(3, 4, (7, 8), 3, 2, 1, bias=False), (2, 3, 7, 8)),
        (LocallyConnected1d(3, 4, 9, 3, 2, bias=False), (2, 3, 9)),
    ],
    ids=["2d", "1d"],
)
def test_the_inverse_of_a_locally_connected_layer_is_its_gradient(
    layer: nn.Module, shape: tuple[int, ...]
) -> None:
    x = torch.randn(shape, requires_grad=True)
    block = last_block(Locally(CONVS[len(shape) - 2](3, 3, 1), layer), x.detach())
    inverse = build_inverse(block, 0)
    weight = next(p for name, p in inverse.named_parameters() if name.endswith("weight"))
    with torch.no_grad():
        weight.copy_(layer.weight)
    error = torch.randn_like(layer(x))
    (expected,) = torch.autograd.grad(layer(x), x, error)
    torch.testing.assert_close(inverse(error), torch.tanh(expected))


class Einsums(nn.Module):
    """Three sites on raw parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 4)
        self.left = nn.Parameter(torch.randn(6, 3))
        self.right = nn.Parameter(torch.randn(4, 2))
        self.heads = nn.Parameter(torch.randn(2, 2, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(x))  # (N, 3, 4)
        x = torch.tanh(self.left @ x)  # (N, 6, 4)
        x = torch.tanh(x @ self.right)  # (N, 6, 2)
        x = x.reshape(x.shape[0], 3, 2, 2).transpose(1, 2)  # (N, 2, 3, 2)
        return torch.einsum("nhti,hio->nhto", x, self.heads)


def test_matrix_products_on_raw_parameters() -> None:
    blocks = partition_of(Einsums(), torch.randn(2, 3, 5))
    assert [block.sites for block in blocks] == [("first",), ("left",), ("right",), ("heads",)]
    for block in blocks[1:]:
        inverse = build_inverse(block, 0)
        found = inverse(torch.randn(5, *block.output_shape[1:]))
        assert found.shape[1:] == block.input_shape[1:]
        assert not any(isinstance(layer, nn.Linear) for layer in inverse)


POOLED = {
    "max": nn.MaxPool2d(3, 2, 1),
    "average": nn.AvgPool2d(2),
    "adaptive": nn.AdaptiveAvgPool2d(3),
    "global": nn.AdaptiveAvgPool2d(1),
}


@pytest.mark.parametrize("pool", POOLED)
def test_pools_are_upsampled(pool: str) -> None:
    layer = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), POOLED[pool])
    inverse = inverse_of(layer, torch.randn(2, 4, 9, 8))
    assert type(inverse[0]).__name__ == "NearestUpsample"
    h = torch.arange(6.0).reshape(1, 6, 1, 1)
    assert torch.equal(inverse[0](h), h.expand(1, 6, *inverse[0].size))


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def test_a_mean_is_a_pool() -> None:
    layer = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), Mean())
    inverse_of(layer, torch.randn(2, 4, 9, 8))


def names(inverse: nn.Module) -> list[str]:
    return [
        str(layer) if "Elementwise" in str(layer) else type(layer).__name__ for layer in inverse
    ]


def test_where_the_activation_goes() -> None:
    """Lee: the σ that made the input, behind. Ernoult: the σ of the block, in front."""
    model = nn.Sequential(nn.Linear(4, 5), nn.LeakyReLU(0.3), nn.Linear(5, 6), nn.ELU(0.5))
    block = last_block(model, torch.randn(2, 4))
    after = build_inverse(block, 0, placement="after")
    assert names(after) == ["LinearInverse", "Elementwise(leaky_relu(negative_slope=0.3))"]
    before = build_inverse(block, 0, placement="before")
    assert names(before) == ["Elementwise(elu(alpha=0.5))", "LinearInverse"]
    h = torch.randn(3, 6)
    expected = F.leaky_relu(F.linear(h, after[0].weight, after[0].bias), 0.3)
    assert torch.equal(after(h), expected)


def test_the_output_layer_reconstructs_in_the_range_of_its_input() -> None:
    block = last_block(tanh_layers(4, 5, 3), torch.randn(2, 4))
    assert names(build_inverse(block, 0)) == ["LinearInverse", "Elementwise(tanh)"]
    assert names(build_inverse(block, 0, placement="before")) == ["LinearInverse"]


def test_a_chain_of_layers_is_mirrored_with_its_activations() -> None:
    model = nn.Sequential(
        nn.Linear(4, 4),
        nn.Tanh(),
        nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6), nn.GELU()),
    )
    block = partition_of(model, torch.randn(2, 4), ["2"])[-1]
    after = ["LinearInverse", "Elementwise(relu)", "LinearInverse", "Elementwise(tanh)"]
    assert names(build_inverse(block, 0)) == after
    before = ["Elementwise(gelu(approximate=none))", *after[:3]]
    assert names(build_inverse(block, 0, placement="before")) == before


def test_initial_weights_follow_from_the_seed_and_the_name() -> None:
    block = last_block(tanh_layers(4, 5, 3), torch.randn(2, 4))
    before = torch.random.get_rng_state()
    one, again, other = (build_inverse(block, seed)[0].weight for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert one.abs().max() <= (6 / 8) ** 0.5
    assert torch.equal(before, torch.random.get_rng_state())


def test_what_cannot_be_mirrored_gets_a_dense_inverse(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Tanh(), nn.Conv2d(4, 8, 1), nn.PixelShuffle(2))
    block = last_block(model, torch.randn(2, 3, 4, 5))
    inverse = build_inverse(block, 0)
    assert names(inverse) == ["Flatten", "LinearInverse", "Reshape", "Elementwise(tanh)"]
    assert inverse(torch.randn(3, 2, 8, 10)).shape == (3, 4, 4, 5)
    monkeypatch.setattr(inverse_module, "LARGEST_DENSE", 1000)
    with pytest.raises(RuleError, match=r"PixelShuffle\(\) in it cannot be mirrored, and a dense"):
        build_inverse(block, 0)


def test_auxiliary_features_are_one_more_input() -> None:
    block = last_block(tanh_layers(4, 5, 3), torch.randn(2, 4))
    assert build_inverse(block, 0, auxiliary=7)(torch.randn(2, 3 + 7)).shape == (2, 5)


OWN = """
from torch import nn

def make(block):
    return nn.Linear(block.output_shape[-1], block.input_shape[-1], bias=False)

def wrong(block):
    return nn.Linear(block.output_shape[-1], 99)

def nothing(block):
    return 3
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    path = tmp_path / "inverses.py"
    path.write_text(OWN)
    return str(path)


def test_the_users_own_inverse(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    block = last_block(tanh_layers(4, 5, 3), torch.randn(2, 4))
    inverse = build_inverse(block, 0, factory=load_factory(f"{own}:make"))
    assert isinstance(inverse, nn.Linear)
    assert inverse.bias is None
    with pytest.raises(RuleError, match=r"returns the shape \(2, 99\), not \(2, 5\)"):
        build_inverse(block, 0, factory=load_factory(f"{own}:wrong"))
    with pytest.raises(RuleError, match=r"is int, not a torch\.nn\.Module"):
        build_inverse(block, 0, factory=load_factory(f"{own}:nothing"))
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(own).parent)])
    assert load_factory("inverses:make")(block).weight.shape == (5, 3)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("inverse", "'inverse' does not name an inverse"),
        ("{own}:mak", "has no function 'mak'\n  = note: did you mean 'make'?"),
        ("{own}x.py:make", "there is no file"),
        ("no.such.module:make", "importing no.such.module raised ModuleNotFoundError"),
    ],
)
def test_references_that_lead_nowhere(own: str, reference: str, message: str) -> None:
    with pytest.raises(RuleError) as caught:
        load_factory(reference.format(own=own))
    assert message in str(caught.value)

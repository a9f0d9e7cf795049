"""Each projection against its definition, and each convention against its numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fxbio.errors import ModelError, RuleError
from fxbio.rules import make_rule
from fxbio.rules.projection import (
    Channel,
    Conv,
    Dense,
    Shared,
    feature_error,
    parse_projection,
)
from fxbio.rules.routed_rule import ConvGeometry, ReceiverInfo
from tests.routes.nets import Convolutions, Perceptron, images, matrix, rows, transformed

LAYERS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
GEOMETRIES = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 1, "stride": 2},
    {"kernel_size": 3, "stride": 2},
    {"kernel_size": 4, "stride": 3, "padding": 2},
    {"kernel_size": 3, "dilation": 2, "padding": 1},
    {"kernel_size": 2, "stride": 3},
    {"kernel_size": 4, "padding": "same"},
    {"kernel_size": 3, "padding": "valid"},
]


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("dims", LAYERS)
def test_conv_is_the_transpose_of_the_repeated_error(dims: int, geometry: dict[str, Any]) -> None:
    """By autograd through the layer itself, with B in the place of its weight."""
    layer = LAYERS[dims](2, 5, **geometry)
    x = torch.randn(2, 2, *(7, 9, 6)[:dims], requires_grad=True)
    error, feedback = torch.randn(2, 5), torch.randn_like(layer.weight)
    layer.weight = nn.Parameter(feedback)
    out = layer(x)
    repeated = error.reshape(2, 5, *[1] * dims).expand_as(out)
    wanted = torch.autograd.grad(out, x, repeated)[0]
    found = projection_of(layer).project(error, feedback, x.shape)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def projection_of(layer: Any) -> Conv:
    if isinstance(layer.padding, tuple):
        before = after = layer.padding
    else:
        spans = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        spans = spans if layer.padding == "same" else [0 for _ in spans]
        before, after = tuple(s // 2 for s in spans), tuple(s - s // 2 for s in spans)
    return Conv(1, layer.stride, before, after, layer.dilation)


class Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor that was made."""

    entries = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        made = [t.numel() for t in tree_leaves(out) if isinstance(t, Tensor)]
        self.entries = max(self.entries, *made, 0) if made else self.entries
        return out


def test_conv_makes_nothing_of_the_size_of_the_repeated_error() -> None:
    """Batch 256, 1000 classes, 56 x 56: tiled, the error alone would be 3.2 GB."""
    shape = torch.Size((256, 64, 56, 56))
    with FakeTensorMode(), Largest() as seen:
        error, feedback = torch.empty(256, 1000), torch.empty(1000, 64, 3, 3)
        found = Conv(1, (1, 1), (1, 1), (1, 1), (1, 1)).project(error, feedback, shape)
        assert found.shape == shape
    assert seen.entries == shape.numel()


def test_dense_shared_and_channel() -> None:
    error = torch.randn(2, 3)
    shape = torch.Size((2, 4, 5, 6))
    dense, shared, channel = torch.randn(3, 120), torch.randn(3, 150), torch.randn(3, 4)
    by_hand = (error @ dense).reshape(shape)
    torch.testing.assert_close(Dense().project(error, dense, shape), by_hand)
    by_hand = 0.5 * (error @ shared[:, :120]).reshape(shape)
    torch.testing.assert_close(Shared(scale=0.5).project(error, shared, shape), by_hand)
    by_hand = (error @ channel)[:, :, None, None].expand(shape) / 30
    torch.testing.assert_close(Channel(dim=1).project(error, channel, shape), by_hand)


def test_position_by_position() -> None:
    error, shape = torch.randn(2, 7, 3), torch.Size((2, 7, 4))
    feedback = torch.randn(3, 4)
    for projection in (Dense(2), Channel(2, -1), Shared(2)):
        torch.testing.assert_close(projection.project(error, feedback, shape), error @ feedback)


def test_what_the_receiver_does_not_share_is_summed() -> None:
    tokens, maps = torch.randn(2, 7, 3), torch.randn(2, 3, 4, 5)
    assert torch.equal(feature_error(tokens, 2), tokens)
    torch.testing.assert_close(feature_error(tokens, 1), tokens.sum(1))
    torch.testing.assert_close(feature_error(maps, 1), maps.sum((2, 3)))


@pytest.mark.parametrize(
    "projection",
    [Dense(2), Shared(1, 0.25), Channel(1, -1), Conv(1, (1, 2), (0, 1), (1, 1), (1, 1))],
    ids=str,
)
def test_specs_read_back(projection: Any) -> None:
    assert parse_projection(projection.spec()) == projection


def info(shape: tuple[int, ...] = (2, 8, 5, 5), **changed: Any) -> ReceiverInfo:
    given = {"channel_dim": 1 if len(shape) > 2 else -1, "leading": 1, "largest": 900}
    return ReceiverInfo("layer", "", shape, classes=20, **{**given, **changed})


GEOMETRY = ConvGeometry((3, 3), (1, 1), (1, 1), (1, 1), (1, 1))


@pytest.mark.parametrize(
    ("init", "projection", "bound"),
    [
        ("nokland", "dense", 1 / math.sqrt(200)),
        ("nokland", "channel", 1 / math.sqrt(8)),
        ("launay-2020", "dense", 1 / math.sqrt(900)),
        ("launay-2020", "shared", 1 / math.sqrt(900)),
        ("biotorch-xavier", "dense", math.sqrt(6 / 220)),
        ("biotorch-kaiming", "dense", math.sqrt(1 / 200)),
    ],
)
def test_uniform_conventions(init: str, projection: str, bound: float) -> None:
    rule = make_rule("dfa", {"init": init, "projection": projection})
    drawn = rule.matrix(info(), torch.Generator().manual_seed(0))
    assert float(drawn.abs().max()) <= bound
    assert float(drawn.var()) == pytest.approx(bound**2 / 3, rel=0.15)


def test_conventions_of_biotorch_are_those_of_torch() -> None:
    fillers: dict[str, Any] = {
        "biotorch-xavier": nn.init.xavier_uniform_,
        "biotorch-kaiming": lambda weight: nn.init.kaiming_uniform_(weight, 5**0.5),
    }
    for init, filler in fillers.items():
        options = {"init": init, "projection": "conv", "at": "input", "skip": "sum"}
        drawn = make_rule("dfa", options).matrix(info(conv=GEOMETRY), torch.Generator())
        like = filler(torch.empty(20, 8, 3, 3))
        assert drawn.shape == like.shape
        assert float(drawn.var()) == pytest.approx(float(like.var()), rel=0.15)
        assert float(drawn.abs().max()) == pytest.approx(float(like.abs().max()), rel=0.02)


@pytest.mark.parametrize(
    ("init", "deviation"), [("launay-2019", 1 / math.sqrt(200 * 20)), (0.3, 0.3)]
)
def test_normal_conventions(init: str | float, deviation: float) -> None:
    drawn = make_rule("dfa", {"init": init}).matrix(info(), torch.Generator().manual_seed(0))
    assert drawn.shape == (20, 200)
    assert float(drawn.std()) == pytest.approx(deviation, rel=0.05)


def test_sparse_density() -> None:
    options = {"projection": "sparse", "density": 0.25}
    drawn = make_rule("dfa", options).matrix(info(), torch.Generator().manual_seed(0))
    assert float((drawn != 0).float().mean()) == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("init", ["nokland", "launay-2019", "launay-2020"])
def test_a_shared_matrix_is_as_large_for_each_layer_as_its_own_would_be(init: str) -> None:
    rule = make_rule("dfa", {"projection": "shared", "init": init})
    own = make_rule("dfa", {"init": init})
    receiver = info()
    shared = rule.matrix(receiver, torch.Generator().manual_seed(0))
    scale = rule.carrier(receiver).scale
    alone = own.matrix(receiver, torch.Generator().manual_seed(1))
    assert shared.shape == (20, 900)
    assert float((scale * shared).std()) == pytest.approx(float(alone.std()), rel=0.05)


def test_layers_share_one_matrix() -> None:
    model = transformed(Perceptron(), rows(), projection="shared")
    assert matrix(model, "first") is matrix(model, "second")
    assert matrix(model, "first").shape == (3, 8)


def test_a_dense_matrix_fits_one_size() -> None:
    model = transformed(Convolutions(), images())
    model(images(7))
    with pytest.raises(ModelError, match="does not fit what receives there"):
        model(images(size=8))
    transformed(Convolutions(), images(), projection="channel")(images(size=8))


def test_conv_feedback_follows_the_size_of_the_image() -> None:
    model = transformed(Convolutions(), images(), at="input", skip="sum", projection="conv")
    x = images(size=14)
    seen = {}
    h = {}
    model.two.register_forward_pre_hook(lambda m, a: h.update(x=a[0]))
    out = model(x)
    h["x"].register_hook(lambda g: seen.update(g=g))
    error = torch.randn(4, 3)
    out.backward(error)
    twin = nn.Conv2d(4, 3, 3, stride=2)
    twin.weight = nn.Parameter(matrix(model, "two"))
    leaf = h["x"].detach().requires_grad_()
    made = twin(leaf)
    wanted = torch.autograd.grad(made, leaf, error[:, :, None, None].expand_as(made))[0]
    torch.testing.assert_close(seen["g"], wanted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"projection": "matrix"}, "unknown projection 'matrix'"),
        ({"init": "nockland"}, "did you mean 'nokland'"),
        ({"init": -1.0}, "must be a positive number"),
        ({"density": 0.0}, "above 0"),
        ({"at": "input"}, "skip: sum"),
        ({"at": "block"}, "go together"),
        ({"block": "a.*"}, "go together"),
        ({"at": "block", "block": "a", "skip": "sum"}, "everything is cut off"),
        ({"projection": "conv"}, "belongs to the input"),
        ({"source": 3}, "string or a list"),
    ],
)
def test_mistakes_in_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RuleError, match=message):
        make_rule("dfa", options)

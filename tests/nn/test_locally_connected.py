"""Locally connected layers against loops, against convolutions, and under rules."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxbio
from fxbio.errors import ModelError
from fxbio.nn import LocallyConnected1d, LocallyConnected2d

CASES_2D = [
    dict(kernel_size=3),
    dict(kernel_size=3, stride=2, padding=1),
    dict(kernel_size=(2, 3), stride=(2, 1), padding=(0, 2), dilation=(2, 1)),
    dict(kernel_size=1, bias=False),
]
CASES_1D = [dict(kernel_size=3), dict(kernel_size=3, stride=2, padding=2, dilation=2, bias=False)]


def loop(layer: LocallyConnected2d, x: Tensor) -> Tensor:
    """The definition, one position after another."""
    (sh, sw), (ph, pw), (dh, dw) = layer.stride, layer.padding, layer.dilation
    kh, kw = layer.kernel_size
    padded = F.pad(x, (pw, pw, ph, ph))
    out = torch.empty(x.shape[0], layer.out_channels, *layer.output_size, dtype=x.dtype)
    for number, (i, j) in enumerate(itertools.product(*map(range, layer.output_size))):
        rows = [i * sh + a * dh for a in range(kh)]
        columns = [j * sw + b * dw for b in range(kw)]
        patch = padded[:, :, rows][:, :, :, columns].flatten(1)
        out[:, :, i, j] = patch @ layer.weight[number]
    return out if layer.bias is None else out + layer.bias


def share(layer: nn.Module, conv: nn.Module) -> None:
    """Give every position the weight of a convolution."""
    with torch.no_grad():
        layer.weight.copy_(conv.weight.flatten(1).T.expand_as(layer.weight))
        if conv.bias is not None:
            bias = conv.bias.view(-1, *[1] * len(layer.output_size))
            layer.bias.copy_(bias.expand_as(layer.bias))


@pytest.mark.parametrize("options", CASES_2D, ids=str)
def test_it_is_the_loop(options: dict[str, object]) -> None:
    torch.manual_seed(0)
    layer = LocallyConnected2d(2, 4, (6, 7), **options).double()
    x = torch.randn(3, 2, 6, 7, dtype=torch.float64, requires_grad=True)
    error = torch.randn(3, 4, *layer.output_size, dtype=torch.float64)
    wanted = [x, *layer.parameters()]
    torch.testing.assert_close(layer(x), loop(layer, x))
    found = torch.autograd.grad(layer(x), wanted, error)
    expected = torch.autograd.grad(loop(layer, x), wanted, error)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("options", CASES_2D, ids=str)
def test_shared_weights_make_a_convolution(options: dict[str, object]) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 4, **options).double()
    layer = LocallyConnected2d(2, 4, (6, 7), **options).double()
    compare(layer, conv, torch.randn(3, 2, 6, 7, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("options", CASES_1D, ids=str)
def test_shared_weights_make_a_convolution_in_one_dimension(options: dict[str, object]) -> None:
    torch.manual_seed(0)
    conv = nn.Conv1d(2, 4, **options).double()
    layer = LocallyConnected1d(2, 4, 9, **options).double()
    compare(layer, conv, torch.randn(3, 2, 9, dtype=torch.float64, requires_grad=True))


def compare(layer: nn.Module, conv: nn.Module, x: Tensor) -> None:
    """Outputs, errors, and weight gradients: a shared weight's is the sum over positions."""
    share(layer, conv)
    out, expected = layer(x), conv(x)
    torch.testing.assert_close(out, expected)
    error = torch.randn_like(out)
    at_x, at_weight = torch.autograd.grad(out, [x, layer.weight], error)
    conv_x, conv_weight = torch.autograd.grad(expected, [x, conv.weight], error)
    torch.testing.assert_close(at_x, conv_x)
    torch.testing.assert_close(at_weight.sum(0).T, conv_weight.flatten(1))


def test_it_starts_like_a_convolution() -> None:
    torch.manual_seed(0)
    layer, conv = LocallyConnected2d(8, 16, 10, 3), nn.Conv2d(8, 16, 3)
    bound = (8 * 9) ** -0.5
    for parameter in (*layer.parameters(), *conv.parameters()):
        assert parameter.abs().max() <= bound
    assert float(layer.weight.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.01)
    assert float(layer.bias.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.1)


def test_shapes() -> None:
    layer = LocallyConnected2d(3, 5, 8, 3, stride=2, padding=1)
    assert layer.output_size == (4, 4)
    assert layer.weight.shape == (16, 27, 5)
    assert layer.bias.shape == (5, 4, 4)
    assert "input_size=(8, 8), kernel_size=(3, 3), stride=(2, 2)" in repr(layer)


@pytest.mark.parametrize("shape", [(2, 3, 9, 8), (2, 4, 8, 8), (3, 8, 8)], ids=str)
def test_another_input_is_refused(shape: tuple[int, ...]) -> None:
    layer = LocallyConnected2d(3, 5, 8, 3)
    with pytest.raises(ModelError, match=r"was made for inputs \(N, 3, 8, 8\) and got") as caught:
        layer(torch.rand(shape))
    assert "a weight for each position" in str(caught.value)


def test_a_kernel_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ModelError, match="does not fit"):
        LocallyConnected1d(1, 1, 4, 3, dilation=2)


class Net(nn.Module):
    """Both kinds, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.plane = LocallyConnected2d(2, 4, 6, 3, stride=2, padding=1)
        self.line = LocallyConnected1d(4, 3, 9, 3, dilation=2, bias=False)
        self.head = nn.Linear(15, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.plane(x)).flatten(2)
        result: Tensor = self.head(torch.tanh(self.line(h)).flatten(1))
        return result


@pytest.mark.parametrize("rule", ["fa", "usf", "frsf", "brsf", "signed-init"])
def test_every_rule_works(rule: str) -> None:
    torch.manual_seed(0)
    stem = nn.Conv2d(2, 2, 1)  # so that an error is sent below the first locally connected layer
    model = nn.Sequential(stem, Net())
    x = torch.rand(3, 2, 6, 6)
    made = fxbio.transform(model, fxbio.Policy.uniform(rule), x)
    found = fxbio.verify(made)
    assert found.ok, found
    rows = {row.site: row for row in found.rows}
    assert {"1.plane", "1.line"} <= rows.keys()
    assert rows["1.plane"].differs_from_bp
    assert rows["1.line"].differs_from_bp
    assert fxbio.feedback_weights(made)["1.plane.weight"].shape == (9, 18, 4)


def test_fans_are_those_of_one_position() -> None:
    made = fxbio.transform(
        Net(), fxbio.Policy.uniform("usf", magnitude="xiao"), torch.rand(3, 2, 6, 6)
    )
    feedback = fxbio.feedback_weights(made)
    assert float(feedback["plane.weight"].abs().max()) == pytest.approx(18**-0.5)
    assert float(feedback["line.weight"].abs().max()) == pytest.approx(12**-0.5)

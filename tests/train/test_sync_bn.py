"""``train.sync_bn`` on a model: it is reached on CUDA devices only, so it is called here."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxbio
from fxbio.errors import ConfigError
from fxbio.train.build import model as build

CUDA: Any = SimpleNamespace(device=torch.device("cuda"))


class NormAct(nn.BatchNorm2d):
    """A fused layer, as many zoos have them."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).relu()


class Inner(nn.BatchNorm2d):
    """One that adds nothing but a module."""

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.act = nn.ReLU()


def net(norm: nn.Module) -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.Flatten(), nn.LazyLinear(2))
    x = torch.randn(2, 3, 6, 6)
    model(x)
    return fxbio.transform(model, fxbio.Policy.uniform("fa"), x)


def hooked() -> nn.Module:
    norm = nn.BatchNorm2d(4)
    norm.register_forward_hook(lambda module, args, out: out.relu())
    return norm


def own_forward() -> nn.Module:
    norm = nn.BatchNorm2d(4)
    norm.forward = lambda x: x.relu()  # type: ignore[method-assign]
    return norm


def normalised_weight() -> nn.Module:
    return nn.utils.parametrizations.weight_norm(nn.BatchNorm2d(4), dim=None)


class Twice(nn.Module):
    """One layer under two names of one module, of which torch converts the first."""

    def __init__(self) -> None:
        super().__init__()
        self.first = self.second = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x))
        return out


@pytest.mark.parametrize(
    ("norm", "layer", "why"),
    [
        (lambda: NormAct(4), "1", "a NormAct"),
        (lambda: Inner(4), "1", "an? Inner"),
        (lambda: nn.Sequential(NormAct(4)), "1.0", "a NormAct"),
        (normalised_weight, "1", "ParametrizedBatchNorm2d"),
        (hooked, "1", "hooks"),
        (own_forward, "1", "forward of its own"),
        (Twice, "1.first", "it is 1.first and 1.second"),
    ],
)
def test_a_norm_that_torch_would_strip_is_refused(
    norm: Callable[[], nn.Module], layer: str, why: str
) -> None:
    model = net(norm())
    before = dict(model.named_modules())
    with pytest.raises(ConfigError, match=f"cannot convert the normalisation layer '{layer}'") as e:
        build._synchronised(model, CUDA)
    e.match(why)
    assert dict(model.named_modules()) == before


@pytest.mark.parametrize("shared", [False, True])
def test_stock_norms_are_converted_and_give_what_they_gave(shared: bool) -> None:
    norm = nn.BatchNorm2d(4)
    within = nn.Sequential(nn.Sequential(norm), nn.ReLU(), norm if shared else nn.BatchNorm2d(4))
    model = net(within).eval()
    x = torch.randn(2, 3, 6, 6)
    before = model(x)
    converted = build._synchronised(model, CUDA)
    kinds = [type(m) for m in converted.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert kinds == [nn.SyncBatchNorm] * 2
    torch.testing.assert_close(converted(x), before)

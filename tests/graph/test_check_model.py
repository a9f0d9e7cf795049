"""Names that torch itself would not register: no path leads to such a module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxbio
from fxbio.errors import ModelError
from fxbio.policy import Policy

INPUT = torch.rand(2, 4)


class Named(nn.Module):
    """Two layers, the first under a name of choice."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self._modules[name] = nn.Linear(4, 4)
        self.last = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.last(self._modules[self.name](x))  # type: ignore[misc]
        return found


class WithProperty(Named):
    """The same, with a property that gives what was registered."""

    @property
    def first(self) -> nn.Module | None:
        return self._modules["first"]


ROADS: dict[str, Callable[[nn.Module], Any]] = {
    "capture": lambda model: fxbio.capture(model, INPUT),
    "plan": lambda model: fxbio.plan(model, Policy.uniform("fa"), INPUT),
    "transform": lambda model: fxbio.transform(model, Policy.uniform("fa"), INPUT),
    "audit": lambda model: fxbio.audit(model, INPUT),
}


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("name", ["a.b", "", "../x", "training", "forward", "__class__"])
def test_what_no_path_leads_to_is_refused_by_name(name: str, road: str) -> None:
    with pytest.raises(KeyError):
        Named("first").add_module(name, nn.Linear(1, 1))
    with pytest.raises(ModelError, match="by which it cannot be found") as caught:
        ROADS[road](Named(name))
    assert repr(name) in str(caught.value)
    assert "add_module" in str(caught.value)


def test_a_name_deep_inside_is_found_with_its_parent() -> None:
    with pytest.raises(ModelError, match=r"^0 holds a module under the name 'a\.b'"):
        fxbio.capture(nn.Sequential(Named("a.b")), INPUT)


@pytest.mark.parametrize("model", [Named("a b"), Named("0"), Named("<i>"), WithProperty("first")])
def test_names_that_lead_to_their_module_are_kept(model: nn.Module) -> None:
    graph = fxbio.capture(model, INPUT)
    assert [site.path for site in graph.sites] == [next(iter(model._modules)), "last"]

"""``verify`` compares the gradients of learned feedback with the oracle, too."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor

import fxbio
from fxbio.ops import feedback_weight
from tests.runtime.learning import OPTIONS, transformed

OPS: list[Any] = [importlib.import_module(f"fxbio.ops.{n}") for n in ("linear", "convolution")]
"""The files: in the package, the ops stand under their names."""


@pytest.mark.parametrize("rule", OPTIONS)
def test_every_rule_is_confirmed(rule: str) -> None:
    found = fxbio.verify(transformed(rule))
    assert found.ok, str(found)
    assert len(found.rows) == 3


def zeros(*arguments: Any) -> Tensor:
    [feedback] = [a for a in arguments if isinstance(a, Tensor)][:1]
    return torch.zeros_like(feedback)


@pytest.mark.parametrize("rule", ["kp", "pfa"])
def test_a_feedback_that_does_not_get_the_weights_gradient_is_found(
    rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for op in OPS:
        monkeypatch.setattr(op, "feedback_gradient", zeros)
    found = fxbio.verify(transformed(rule))
    assert {row.problem for row in found.rows} == {"gradients differ from the oracle's"}


@pytest.mark.parametrize("rule", ["aa", "ia"])
def test_a_loss_on_the_wrong_activity_is_found(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = feedback_weight.activity_gradient
    monkeypatch.setattr(feedback_weight, "activity_gradient", lambda *a: 2 * right(*a))
    found = fxbio.verify(transformed(rule))
    assert {row.problem for row in found.rows} == {"gradients differ from the oracle's"}

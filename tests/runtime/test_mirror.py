"""``fxbio.mirror``: weight mirrors that learn without data."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import fxbio
from fxbio.errors import ModelError
from tests.runtime.learning import batch, feedback_of, loss_of, train, transformed

FAST = {"alpha": 0.02, "beta": 0.04, "samples": 16}


def degrees(model: nn.Module) -> list[float]:
    """Angles between weights and their feedback."""
    weights = {"0.weight": model[0].weight, "5.weight": model[5].weight}
    found = fxbio.feedback_weights(model)

    def angle(a: Tensor, b: Tensor) -> float:
        return math.degrees(math.acos(float((a * b).sum() / (a.norm() * b.norm()))))

    return [angle(found[name], weight.detach()) for name, weight in weights.items()]


@pytest.mark.parametrize("growth", ["decay", "norm"])
def test_mirrors_align_without_data(growth: str) -> None:
    model = transformed("wm", phase="mirror", growth=growth, **FAST)
    assert min(degrees(model)) > 60
    fxbio.mirror(model, steps=150)
    assert max(degrees(model)) < 15


def test_only_calls_teach_in_the_mirror_phase() -> None:
    model = transformed("wm", phase="mirror", **FAST)
    before = feedback_of(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    train(model, optimizer, steps=2)
    assert all(torch.equal(b, before[n]) for n, b in feedback_of(model).items())
    loss_of(model(batch())).backward()
    assert all(p.grad is None for n, p in model.named_parameters() if "fxbio" in n)
    fxbio.mirror(model)
    assert not any(torch.equal(b, before[n]) for n, b in feedback_of(model).items())


def test_the_noise_depends_on_the_updates_so_far() -> None:
    one, other = (transformed("wm", phase="mirror", **FAST) for _ in range(2))
    for model in (one, other):
        fxbio.mirror(model, steps=3)
    assert all(torch.equal(b, feedback_of(other)[n]) for n, b in feedback_of(one).items())
    fxbio.set_redraw_counts(other, dict.fromkeys(fxbio.redraw_counts(other), 1))
    for model in (one, other):
        fxbio.mirror(model)
    assert not any(torch.equal(b, feedback_of(other)[n]) for n, b in feedback_of(one).items())


def test_growth_by_norm_follows_the_weight() -> None:
    model = transformed("wm", phase="mirror", growth="norm", **FAST)
    fxbio.mirror(model, steps=5)
    torch.testing.assert_close(model[0].fxbio_feedback_0.norm(), model[0].weight.detach().norm())


def test_a_model_without_mirrors_is_refused() -> None:
    with pytest.raises(ModelError, match="Sequential has no weight mirrors"):
        fxbio.mirror(transformed("kp"))

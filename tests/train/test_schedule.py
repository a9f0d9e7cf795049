from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LinearLR,
    MultiStepLR,
    SequentialLR,
    StepLR,
)

from fxbio.train.build.schedule import Schedule
from fxbio.train.config.sections import ScheduleConfig

STEPS_PER_EPOCH, EPOCHS = 7, 12
STEPS = STEPS_PER_EPOCH * EPOCHS


def factors(**settings: Any) -> list[float]:
    schedule = Schedule(ScheduleConfig(**settings), STEPS_PER_EPOCH, STEPS)
    return [schedule.factor(step) for step in range(STEPS)]


def of_torch(make: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)
    found = []
    for _ in range(STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_constant_is_constant() -> None:
    assert factors() == [1.0] * STEPS


def test_step_is_that_of_torch() -> None:
    mine = factors(name="step", every=3.0, gamma=0.1)
    assert mine == pytest.approx(of_torch(lambda o: StepLR(o, 3 * STEPS_PER_EPOCH, 0.1)))


def test_multistep_is_that_of_torch_and_takes_fractions() -> None:
    mine = factors(name="multistep", milestones=(2.0, 5.0), gamma=0.2)
    expected = of_torch(lambda o: MultiStepLR(o, [2 * STEPS_PER_EPOCH, 5 * STEPS_PER_EPOCH], 0.2))
    assert mine == pytest.approx(expected)
    half = factors(name="multistep", milestones=(1 / STEPS_PER_EPOCH,))
    assert half[:3] == pytest.approx([1.0, 0.1, 0.1])


def test_warm_up_is_that_of_torch() -> None:
    mine = factors(warmup_steps=10, warmup_start=0.001)
    assert mine == pytest.approx(of_torch(lambda o: LinearLR(o, 0.001, 1.0, 10)))
    assert factors(warmup_epochs=10 / STEPS_PER_EPOCH) == mine


def test_cosine_begins_after_the_warm_up_as_in_torch() -> None:
    def make(optimizer: Any) -> Any:
        parts = [LinearLR(optimizer, 0.01, 1.0, 14), CosineAnnealingLR(optimizer, STEPS - 14)]
        return SequentialLR(optimizer, parts, [14])

    mine = factors(name="cosine", warmup_epochs=2.0, warmup_start=0.01)
    assert mine == pytest.approx(of_torch(make), abs=1e-6)


def test_cosine_in_closed_form() -> None:
    mine = factors(name="cosine", final=0.1)
    expected = [0.1 + 0.45 * (1 + math.cos(math.pi * step / STEPS)) for step in range(STEPS)]
    assert mine == pytest.approx(expected)


def test_every_group_keeps_its_ratio() -> None:
    weights = [torch.zeros(1, requires_grad=True) for _ in range(2)]
    groups = [{"params": [weights[0]], "lr": 1.0}, {"params": [weights[1]], "lr": 0.1}]
    optimizer = torch.optim.SGD(groups)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    schedule = Schedule(ScheduleConfig(name="step", every=1.0), STEPS_PER_EPOCH, STEPS)
    for step in (STEPS_PER_EPOCH, 0, 2 * STEPS_PER_EPOCH):
        schedule.apply(optimizer, step)
        expected = 0.1 ** (step // STEPS_PER_EPOCH)
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([expected, 0.1 * expected])

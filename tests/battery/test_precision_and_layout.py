"""Autocast, channels_last, dtypes: the rule in another number format or memory layout."""

from __future__ import annotations

import pytest
import torch

from tests.battery.cases import CASES
from tests.battery.harness import (
    EXACT,
    ROUNDED,
    combinations,
    differs,
    measure,
    reference,
    subject,
)

IMAGES = [(r, c) for r, c in combinations() if len(CASES[c].shape) == 4]


@pytest.mark.parametrize(("rule", "case"), combinations())
def test_runs_in_bfloat16_under_autocast(rule: str, case: str) -> None:
    combination = subject(rule, case)
    x, stock, model = (
        combination.case.example(),
        combination.case.build(),
        combination.transformed(),
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        wanted = reference(model, rule, combination.case, x)
        before = measure(stock, stock, x)
        found = measure(model, model, x)
    found.check_output(before)
    found.check_gradients(wanted, ROUNDED)
    assert found.differs_upstream(before) == differs(rule, CASES[case])
    assert all(g is None or g.dtype == torch.float32 for g in found.gradients.values())


@pytest.mark.parametrize(("rule", "case"), IMAGES)
def test_runs_in_channels_last(rule: str, case: str) -> None:
    combination = subject(rule, case)
    model, stock = (
        m.to(memory_format=torch.channels_last)
        for m in (combination.transformed(), combination.case.build())
    )
    x = combination.case.example().contiguous(memory_format=torch.channels_last)
    before, found = measure(stock, stock, x), measure(model, model, x)
    found.check_output(before)
    found.check_gradients(combination.expected)
    assert found.output.stride() == before.output.stride()
    assert found.differs_upstream(combination.stock) == differs(rule, CASES[case])


@pytest.mark.parametrize(("rule", "case"), combinations())
def test_runs_in_float64_after_a_cast(rule: str, case: str) -> None:
    combination = subject(rule, case)
    model, stock = combination.transformed().double(), combination.case.build().double()
    x = combination.case.example().double()
    found = measure(model, model, x)
    found.check_output(measure(stock, stock, x))
    found.check_gradients(reference(model, rule, combination.case, x), EXACT)

"""fBP: copies of the weights, refreshed after optimizer steps."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn

import fxbio
from tests.battery.cases import CASES
from tests.runtime.learning import feedback_of, network, train, transformed

READABLE = [name for name, case in CASES.items() if not case.computed]


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def same(model: nn.Module, stock: nn.Module) -> None:
    for (name, mine), theirs in zip(model.named_parameters(), stock.parameters(), strict=True):
        assert torch.equal(mine, theirs), name


@pytest.mark.parametrize("case", READABLE)
def test_refreshed_whole_after_each_step_it_is_backprop(case: str) -> None:
    stock, x = CASES[case].build(), CASES[case].example()
    model = fxbio.transform(stock, fxbio.Policy.uniform("fbp", refresh_every=1), (x,))
    for one in (model, stock):
        optimizer = optimizer_of(one)
        for factor in (1.0, -0.5, 2.0):
            optimizer.zero_grad()
            (one(x * factor).float() - 0.3).square().mean().backward()
            optimizer.step()
    found = dict(model.named_parameters())
    for name, wanted in stock.named_parameters():
        if case in ("attention", "chunked", "cross-attention", "matmul", "addmm", "slice"):
            torch.testing.assert_close(found[name], wanted, rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(found[name], wanted), name


def test_a_stock_checkpoint_brings_its_copies() -> None:
    stock, model = network(), transformed("fbp", refresh_every=1, fraction=1.0)
    train(stock, optimizer_of(stock), steps=3)
    model.load_state_dict(stock.state_dict(), strict=True)
    for one in (model, stock):
        train(one, optimizer_of(one), steps=3)
    same(model, stock)


def test_its_own_checkpoint_brings_them_too() -> None:
    stock, model = network(), transformed("fbp", refresh_every=1, fraction=1.0)
    for one in (model, stock):
        train(one, optimizer_of(one), steps=3)
    fresh = transformed("fbp", refresh_every=1, fraction=1.0)
    fresh.load_state_dict(model.state_dict(), strict=True)
    for one in (fresh, stock):
        train(one, optimizer_of(one), steps=3)
    same(fresh, stock)


def test_between_copies_the_feedback_stays() -> None:
    model = transformed("fbp", refresh_every=3, fraction=1.0)
    optimizer, seen = optimizer_of(model), [feedback_of(model)]
    for number in range(6):
        train(model, optimizer, number)
        seen.append(feedback_of(model))
    for name in seen[0]:
        changed = [not torch.equal(a[name], b[name]) for a, b in itertools.pairwise(seen)]
        assert changed == [False, False, True, False, False, True]
    assert torch.equal(seen[6]["0.fxbio_feedback_0"], model[0].weight)


def refreshed(select: str, fraction: float) -> tuple[Tensor, Tensor, Tensor]:
    """Weight, and feedback before and after one copy of a part."""
    model = transformed("fbp", refresh_every=1, fraction=fraction, select=select)
    before = model[0].fxbio_feedback_0.clone()
    train(model, optimizer_of(model))
    return model[0].weight.detach(), before, model[0].fxbio_feedback_0.clone()


@pytest.mark.parametrize("select", ["random", "largest"])
def test_a_share_of_the_entries_is_copied(select: str) -> None:
    weight, before, after = refreshed(select, 0.25)
    copied = (after == weight) & (after != before)
    assert int(copied.sum()) == weight.numel() // 4
    assert torch.equal(after[~copied], before[~copied])


def test_the_largest_differences_are_copied() -> None:
    weight, before, after = refreshed("largest", 0.25)
    difference = (weight - before).abs()
    copied = after != before
    assert difference[copied].min() >= difference[~copied].max()


def test_other_entries_are_drawn_each_time() -> None:
    model = transformed("fbp", refresh_every=1, fraction=0.25)
    optimizer, masks = optimizer_of(model), []
    for number in range(2):
        before = model[0].fxbio_feedback_0.clone()
        train(model, optimizer, number)
        masks.append(model[0].fxbio_feedback_0 != before)
    assert not torch.equal(masks[0], masks[1])


def test_a_copy_copies_for_itself() -> None:
    model = transformed("fbp", refresh_every=1, fraction=1.0)
    twin = copy.deepcopy(model)
    train(twin, optimizer_of(twin))
    assert torch.equal(twin[0].fxbio_feedback_0, twin[0].weight)
    assert torch.equal(model[0].fxbio_feedback_0, model[0].weight)
    assert not torch.equal(model[0].weight, twin[0].weight)

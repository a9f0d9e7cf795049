"""brSF: one draw for each optimizer step, whatever else happens in between."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import fxbio
from fxbio.runtime.updates import redraw_counts, set_redraw_counts
from tests.battery.cases import CASES, OF_MATRICES
from tests.battery.harness import loss_of, measure, reference, subject

every_case = pytest.mark.parametrize("case", OF_MATRICES)


def transformed(case: str, **options: object) -> nn.Module:
    policy = fxbio.Policy.uniform("brsf", **options)
    return fxbio.transform(CASES[case].build(), policy, (CASES[case].example(2),))


def magnitudes(model: nn.Module) -> dict[str, Tensor]:
    return {n: b.clone() for n, b in model.named_buffers() if "fxbio_feedback" in n}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def all_changed(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return bool(one) and not any(torch.equal(one[name], other[name]) for name in one)


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor) -> None:
    optimizer.zero_grad()
    loss_of(model(x)).backward()
    optimizer.step()


@every_case
def test_draws_once_for_each_step(case: str) -> None:
    model, x = transformed(case), CASES[case].example()
    optimizer, seen = optimizer_of(model), [magnitudes(model)]
    for count in (1, 2, 3):
        step(model, optimizer, x)
        seen.append(magnitudes(model))
        assert all_changed(seen[-2], seen[-1])
        assert set(redraw_counts(model).values()) == {count}


@every_case
def test_nothing_but_a_step_draws(case: str) -> None:
    model, x = transformed(case), CASES[case].example()
    optimizer, before = optimizer_of(model), magnitudes(model)
    for _ in range(3):  # gradient accumulation
        loss_of(model(x)).backward()
    for reentrant in (True, False):
        hidden = x.clone().requires_grad_()
        loss_of(checkpoint(model, hidden, use_reentrant=reentrant)).backward()
    model.eval()(x)
    model.train().zero_grad()
    copy.deepcopy(model)
    optimizer.step()  # without gradients it moves nothing
    assert same(before, magnitudes(model))
    step(model, optimizer, x)
    assert all_changed(before, magnitudes(model))


@every_case
def test_every_third_step(case: str) -> None:
    model, x = transformed(case, redraw_every=3), CASES[case].example()
    optimizer, seen = optimizer_of(model), [magnitudes(model)]
    for _ in range(7):
        step(model, optimizer, x)
        seen.append(magnitudes(model))
    assert same(seen[0], seen[2])
    assert all_changed(seen[2], seen[3])
    assert same(seen[3], seen[5])
    assert all_changed(seen[5], seen[6])
    assert same(seen[6], seen[7])


def test_the_gradients_follow_the_draw() -> None:
    combination = subject("brsf", "attention")
    model, x = combination.transformed(), combination.case.example()
    step(model, optimizer_of(model), x)
    wanted = reference(model, "brsf", combination.case, x)
    measure(model, model, x).check_gradients(wanted)
    assert wanted.differs_upstream(combination.expected)


def test_a_compiled_model_sees_the_draw() -> None:
    combination = subject("brsf", "conv2d")
    model, x = combination.transformed(), combination.case.example()
    torch._dynamo.reset()
    run, optimizer = torch.compile(model, backend="aot_eager", fullgraph=True), optimizer_of(model)
    for _ in range(2):
        wanted = reference(model, "brsf", combination.case, x)
        measure(run, model, x).check_gradients(wanted)
        optimizer.step()
    torch._dynamo.reset()


def test_the_optimizer_of_other_parameters_does_not_draw() -> None:
    model, x = transformed("conv2d"), CASES["conv2d"].example()
    before = magnitudes(model)
    loss_of(model(x)).backward()
    torch.optim.SGD([model.gain], lr=0.1).step()
    assert same(before, magnitudes(model))


def test_a_step_that_a_gradient_scaler_skips_does_not_draw() -> None:
    model, x = transformed("conv2d"), CASES["conv2d"].example()
    optimizer, scaler = optimizer_of(model), torch.amp.GradScaler("cpu")
    before = magnitudes(model)
    for factor, drawn in ((float("inf"), False), (1.0, True)):
        optimizer.zero_grad()
        scaler.scale(loss_of(model(x)) * factor).backward()
        scaler.step(optimizer)
        scaler.update()
        assert all_changed(before, magnitudes(model)) == drawn


def copies() -> Iterator[object]:
    """Ways to copy; weight norm cannot be pickled."""
    for case in OF_MATRICES:
        yield pytest.param(case, copy.deepcopy, id=f"deepcopy-{case}")
        if case != "weight-norm":
            yield pytest.param(case, lambda m: pickle.loads(pickle.dumps(m)), id=f"pickle-{case}")


@pytest.mark.parametrize(("case", "copied"), list(copies()))
def test_copies_keep_drawing_each_for_itself(case: str, copied: object) -> None:
    original, x = transformed(case), CASES[case].example()
    step(original, optimizer_of(original), x)
    twin = copied(original)  # type: ignore[operator]
    assert redraw_counts(twin) == redraw_counts(original)
    before = magnitudes(original)
    assert same(before, magnitudes(twin))
    step(twin, optimizer_of(twin), x)
    assert same(before, magnitudes(original))
    assert all_changed(before, magnitudes(twin))
    step(original, optimizer_of(original), x)
    assert same(magnitudes(original), magnitudes(twin))


@pytest.mark.parametrize("period", [1, 3])
@every_case
def test_an_interrupted_run_equals_an_uninterrupted_one(case: str, period: int) -> None:
    batches = [CASES[case].example() * k for k in (1.0, 0.5, -1.0, 2.0, 1.5)]
    whole = transformed(case, redraw_every=period)
    optimizer = optimizer_of(whole)
    for x in batches[:4]:
        step(whole, optimizer, x)
    saved = copy.deepcopy((whole.state_dict(), optimizer.state_dict(), redraw_counts(whole)))
    resumed = transformed(case, redraw_every=period)
    resumed.load_state_dict(saved[0], strict=True)
    again = optimizer_of(resumed)
    again.load_state_dict(saved[1])
    set_redraw_counts(resumed, saved[2])
    assert same(magnitudes(whole), magnitudes(resumed))
    for _ in range(2):
        step(whole, optimizer, batches[4])
        step(resumed, again, batches[4])
    for (name, mine), theirs in zip(whole.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(mine, theirs), name


def test_counts_of_another_model_are_refused() -> None:
    with pytest.raises(KeyError, match="elsewhere"):
        set_redraw_counts(transformed("conv2d"), {"elsewhere": 3})


@every_case
def test_after_revert_nothing_draws(case: str) -> None:
    model, x = transformed(case), CASES[case].example()
    step(model, optimizer_of(model), x)
    fxbio.revert(model)
    step(model, optimizer_of(model), x)
    assert redraw_counts(model) == {}
    assert not magnitudes(model)

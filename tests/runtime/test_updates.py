"""One update is one change of the weights, whatever makes it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

import fxbio
from fxbio.errors import FxbioWarning, ModelError

X, Y = torch.randn(16, 6, generator=torch.Generator().manual_seed(1)), torch.arange(16) % 3
STEPS = 3


def made(rule: str = "brsf") -> Any:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    return fxbio.transform(net, fxbio.Policy.uniform(rule), X)


def backward(model: nn.Module) -> None:
    F.cross_entropy(model(X), Y).backward()


def counts(model: nn.Module) -> set[int]:
    return set(fxbio.redraw_counts(model).values())


class SAM(Optimizer):
    """Sharpness-aware minimisation (Foret et al. 2021): an ascent, and the step of another."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {})
        self.base = SGD(self.param_groups, lr=0.1)

    def ascend(self) -> None:
        with torch.no_grad():
            for p in self.param_groups[0]["params"]:
                if p.grad is not None:
                    p.add_(p.grad, alpha=0.05)

    def step(self, closure: Any = None) -> None:
        self.base.step()


class Lookahead:
    """Slow weights that follow fast ones (Zhang et al. 2019); no Optimizer itself."""

    def __init__(self, parameters: Any) -> None:
        self.fast = SGD(parameters, lr=0.1)
        self.slow = [p.detach().clone() for p in self.parameters()]

    def parameters(self) -> Iterator[Tensor]:
        return (p for group in self.fast.param_groups for p in group["params"])

    def step(self) -> None:
        self.fast.step()
        with torch.no_grad():
            for p, slow in zip(self.parameters(), self.slow, strict=True):
                p.copy_(slow.lerp_(p, 0.5))


def by_sgd(model: nn.Module) -> Iterator[None]:
    optimizer = SGD(model.parameters(), lr=0.1)
    while True:
        backward(model)
        optimizer.step()
        optimizer.zero_grad()
        yield


def by_accumulation(model: nn.Module) -> Iterator[None]:
    optimizer = SGD(model.parameters(), lr=0.1)
    while True:
        backward(model)
        backward(model)
        optimizer.step()
        optimizer.zero_grad()
        yield


def by_sam(model: nn.Module) -> Iterator[None]:
    optimizer = SAM(model.parameters())
    while True:
        backward(model)
        optimizer.ascend()
        backward(model)
        optimizer.step()
        optimizer.zero_grad()
        yield


def by_lookahead(model: nn.Module) -> Iterator[None]:
    optimizer = Lookahead(model.parameters())
    while True:
        backward(model)
        optimizer.step()
        model.zero_grad()
        yield


def by_one_optimizer_a_parameter(model: nn.Module) -> Iterator[None]:
    optimizers = [SGD([p], lr=0.1) for p in model.parameters()]
    while True:
        backward(model)
        for optimizer in optimizers:
            optimizer.step()
        model.zero_grad()
        yield


def by_optimizers_in_the_backward(model: nn.Module) -> Iterator[None]:
    for p in model.parameters():
        own = SGD([p], lr=0.1)
        p.register_post_accumulate_grad_hook(lambda p, own=own: (own.step(), own.zero_grad())[0])
    while True:
        backward(model)
        yield


def by_hand(model: nn.Module) -> Iterator[None]:
    while True:
        backward(model)
        with torch.no_grad():
            for p in model.parameters():
                if p.grad is not None:
                    p -= 0.1 * p.grad
        model.zero_grad()
        yield


def by_master_copies(model: nn.Module) -> Iterator[None]:
    parameters = list(model.parameters())
    masters = [p.detach().double() for p in parameters]
    optimizer = SGD(masters, lr=0.1)
    while True:
        backward(model)
        for p, master in zip(parameters, masters, strict=True):
            master.grad = None if p.grad is None else p.grad.double()
        optimizer.step()
        with torch.no_grad():
            for p, master in zip(parameters, masters, strict=True):
                p.copy_(master)
        model.zero_grad()
        yield


Loop = Callable[[nn.Module], Iterator[None]]
SEEN_AT_ONCE: list[Loop] = [by_sgd, by_accumulation, by_sam, by_lookahead]
SEEN_AT_ONCE += [by_one_optimizer_a_parameter, by_optimizers_in_the_backward]
SEEN_IN_THE_NEXT_FORWARD: list[Loop] = [by_hand, by_master_copies]


def name(loop: Loop) -> str:
    return loop.__name__


@pytest.mark.parametrize("rule", ["brsf", "sa"])
@pytest.mark.parametrize("loop", [*SEEN_AT_ONCE, *SEEN_IN_THE_NEXT_FORWARD], ids=name)
def test_an_update_counts_once(loop: Loop, rule: str) -> None:
    model = made(rule)
    update = loop(model)
    for _ in range(STEPS):
        next(update)
    if loop in SEEN_IN_THE_NEXT_FORWARD:
        assert counts(model) == {STEPS - 1}
        model(X)
    assert counts(model) == {STEPS}


@pytest.mark.parametrize("loop", [*SEEN_AT_ONCE, *SEEN_IN_THE_NEXT_FORWARD], ids=name)
def test_feedback_is_that_of_the_count(loop: Loop) -> None:
    model, other = made(), made()
    update = loop(model)
    for _ in range(STEPS):
        next(update)
    model(X)
    fxbio.set_redraw_counts(other, dict.fromkeys(fxbio.redraw_counts(other), STEPS))
    for key, drawn in fxbio.feedback_weights(other).items():  # signs are those of the weights
        assert torch.equal(fxbio.feedback_weights(model)[key].abs(), drawn.abs()), key


@pytest.mark.parametrize("loop", [by_sgd, by_hand], ids=name)
@pytest.mark.parametrize("rule", ["sa", "aa", "ia"])
def test_learned_feedback_takes_no_old_pass_for_a_part_of_an_update(rule: str, loop: Loop) -> None:
    """With weights and feedback held still, the gradient of its own loss is a constant."""
    model = made(rule)
    still = [p.detach().clone() for p in model.parameters()]
    update, found = loop(model), []
    handle = model[2].fxbio_feedback_0.register_hook(lambda g: found.append(g.clone()))
    for _ in range(STEPS):
        next(update)
        with torch.no_grad():
            for p, value in zip(model.parameters(), still, strict=True):
                p.copy_(value)
    handle.remove()
    for gradient in found[1:]:
        torch.testing.assert_close(gradient, found[0])


def test_gradients_set_to_zero_are_those_of_no_earlier_pass() -> None:
    model = made("sa")
    backward(model)
    first = model[2].fxbio_feedback_0.grad.clone()
    model.zero_grad(set_to_none=False)
    backward(model)
    torch.testing.assert_close(model[2].fxbio_feedback_0.grad, first)


def test_a_layer_without_a_gradient_is_not_updated() -> None:
    model = made()
    optimizer = SGD(model.parameters(), lr=0.1)
    backward(model)
    model[0].weight.grad = None
    optimizer.step()
    assert fxbio.redraw_counts(model) == {"0": 0, "2": 1}


def test_another_optimizer_counts_nothing() -> None:
    model, elsewhere = made(), nn.Linear(2, 2)
    backward(model)
    elsewhere(torch.ones(1, 2)).sum().backward()
    SGD(elsewhere.parameters(), lr=0.1).step()
    assert counts(model) == {0}


def test_loading_is_no_update() -> None:
    model = made()
    model(X)
    model.load_state_dict({k: v + 1 for k, v in model.state_dict().items()})
    model(X)
    assert counts(model) == {0}


def test_a_step_that_fails_does_not_hide_the_next() -> None:
    model = made()
    optimizer = SGD(model.parameters(), lr=0.1)
    backward(model)

    def closure() -> float:
        raise KeyError("of the user")

    with pytest.raises(KeyError):
        optimizer.step(closure)
    optimizer.step()
    assert counts(model) == {1}


def test_what_cannot_be_seen_is_told_and_can_be_counted() -> None:
    model = made()

    def train() -> None:
        for _ in range(10):
            backward(model)
            for p in model.parameters():
                p.data.sub_(0.01)

    with pytest.warns(FxbioWarning, match=r"fxbio\.count_update"):
        train()
    assert counts(model) == {0}
    fxbio.count_update(model)
    assert counts(model) == {1}


@pytest.mark.parametrize("through_data", [True, False])
def test_updates_by_hand_behind_those_of_an_optimizer_are_told(through_data: bool) -> None:
    """They are not counted, since what an optimizer does in two parts (SAM) looks alike."""
    model = made()
    next(by_sgd(model))

    def train() -> None:
        for _ in range(10):
            backward(model)
            with torch.no_grad():
                for p in model.parameters():
                    (p.data if through_data else p).sub_(0.01)

    with pytest.warns(FxbioWarning, match=r"fxbio\.count_update"):
        train()
    assert counts(model) == {1}


def test_evaluation_with_gradients_warns_of_nothing() -> None:
    model = made()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(130):
            model(X)
    assert counts(model) == {0}


def test_there_is_nothing_to_count_without_such_feedback() -> None:
    with pytest.raises(ModelError, match="depends on the number of updates"):
        fxbio.count_update(made("fa"))


def test_looking_at_a_model_is_no_beginning_of_its_training() -> None:
    """What is written between, as DDP does when it wraps a model, is no update."""
    model = made()
    fxbio.verify(model)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(2.0)
    model(X)
    assert counts(model) == {0}

"""Steps of optimizers: what moves no weight is no update, and parts of an update are one."""

from __future__ import annotations

import copy
import functools
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict as checkpoint
from torch.nn.utils import parametrizations
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

import fxbio
from tests.runtime.learning import OPTIONS

X, Y = torch.randn(16, 6, generator=torch.Generator().manual_seed(1)), torch.arange(16) % 3


@functools.cache
def transformed(rule: str) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    return fxbio.transform(net, fxbio.Policy.uniform(rule), X)


def made(rule: str = "brsf") -> Any:
    return copy.deepcopy(transformed(rule))


def backward(model: nn.Module) -> Tensor:
    loss = F.cross_entropy(model(X), Y)
    loss.backward()
    return loss


def counts(model: nn.Module) -> set[int]:
    return set(fxbio.redraw_counts(model).values())


def saved_by_dcp(model: nn.Module, optimizer: Optimizer) -> None:
    checkpoint.get_state_dict(model, optimizer)


def optimizer_saved_by_dcp(model: nn.Module, optimizer: Optimizer) -> None:
    checkpoint.get_optimizer_state_dict(model, optimizer)


def loaded_by_dcp(model: nn.Module, optimizer: Optimizer) -> None:
    weights, state = checkpoint.get_state_dict(model, optimizer)
    optimizer.state.clear()
    checkpoint.set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=state)


def without_gradients(model: nn.Module, optimizer: Optimizer) -> None:
    optimizer.step()


def begin_of_a_warm_up(model: nn.Module, optimizer: Optimizer) -> None:
    schedule = LambdaLR(optimizer, lambda epoch: min(1.0, epoch / 2))
    backward(model)
    optimizer.step()
    schedule.step()
    schedule.step()


def scaled_to_infinity(model: nn.Module, optimizer: Optimizer) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=math.inf)
    scaler.scale(F.cross_entropy(model(X), Y)).backward()
    scaler.step(optimizer)
    scaler.update()


IDLE: list[Callable[[nn.Module, Optimizer], None]] = [
    saved_by_dcp,
    optimizer_saved_by_dcp,
    loaded_by_dcp,
    without_gradients,
    begin_of_a_warm_up,
    scaled_to_infinity,
]
OPTIMIZERS: dict[str, Callable[[Iterator[Tensor]], Optimizer]] = {
    "SGD": lambda p: SGD(p, lr=0.1),
    "SGD with momentum": lambda p: SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "fused SGD": lambda p: SGD(p, lr=0.1, momentum=0.9, fused=True),
    "AdamW": lambda p: AdamW(p, lr=0.1),
    "fused AdamW": lambda p: AdamW(p, lr=0.1, fused=True),
    "rate in a tensor": lambda p: Adam(p, lr=torch.tensor(0.1), foreach=False),
}


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize("idle", IDLE, ids=lambda f: f.__name__)
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_step_that_moves_nothing_is_no_update(
    kind: str, idle: Callable[[nn.Module, Optimizer], None]
) -> None:
    model = made()
    optimizer = OPTIMIZERS[kind](model.parameters())
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    idle(model, optimizer)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    model(X)
    assert counts(model) == {0}
    model.zero_grad()
    backward(model)
    optimizer.step()
    assert counts(model) == {1}


def test_a_step_that_moves_weights_without_a_rate_is_an_update() -> None:
    class Decay(SGD):
        def step(self, closure: Any = None) -> None:
            for p in self.param_groups[0]["params"]:
                p.data.mul_(0.9)

    model = made()
    optimizer = Decay(model.parameters(), lr=0.0)
    backward(model)
    optimizer.step()
    assert counts(model) == {1}


def test_a_layer_without_a_rate_is_not_updated() -> None:
    model = made()
    groups = [{"params": model[0].parameters(), "lr": 0.0}, {"params": model[2].parameters()}]
    optimizer = SGD(groups, lr=0.1)
    backward(model)
    optimizer.step()
    assert fxbio.redraw_counts(model) == {"0": 0, "2": 1}


def test_a_step_that_a_graph_records_is_no_update(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made()
    optimizer = SGD(model.parameters(), lr=0.1)
    backward(model)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    optimizer.step()
    monkeypatch.undo()
    assert counts(model) == {0}
    optimizer.step()
    assert counts(model) == {1}


def test_compiled_steps_are_updates() -> None:
    model = made()
    optimizer = SGD(model.parameters(), lr=0.1)
    step = torch.compile(optimizer.step, backend="eager")
    for count in (1, 2):
        backward(model)
        step()
        assert counts(model) == {count}


def test_a_step_that_fails_hides_no_step_of_another_optimizer() -> None:
    model = made()
    failing, other = SGD(model.parameters(), lr=0.1), SGD(model.parameters(), lr=0.1)
    backward(model)

    def closure() -> float:
        raise KeyError("of the user")

    with pytest.raises(KeyError):
        failing.step(closure)
    other.step()
    assert counts(model) == {1}


def test_steps_in_two_threads_at_once_are_two_updates() -> None:
    models = [made(), made()]
    meet = threading.Barrier(2, timeout=60)

    def step(model: nn.Module) -> None:
        def closure() -> Tensor:
            meet.wait()
            loss = backward(model)
            meet.wait()
            return loss

        SGD(model.parameters(), lr=0.1).step(closure)

    threads = [threading.Thread(target=step, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [counts(model) for model in models] == [{1}, {1}]


def test_the_first_step_of_the_next_optimizer_is_an_update() -> None:
    """The one before it is still there; it is no part of the same update."""
    model = made("sa")
    for count, optimizer in enumerate([SGD(model.parameters(), lr=0.1) for _ in range(3)], 1):
        backward(model)
        optimizer.step()
        model.zero_grad()
        assert counts(model) == {count}


class Cell(nn.Module):
    """Two weights and a state, as in an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.of_input = nn.Parameter(torch.randn(8, 6) / 3)
        self.of_state = nn.Parameter(torch.randn(8, 8) / 3)

    def forward(self, x: Tensor) -> Tensor:
        state = torch.tanh(F.linear(x, self.of_input))
        for _ in range(2):
            state = torch.tanh(F.linear(x, self.of_input) + F.linear(state, self.of_state))
        return state


class Attention(nn.Module):
    """Projections of input and output in one module."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = x.view(4, 4, 6)
        out: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return out.reshape(16, 6)


NETS: dict[str, Callable[[], nn.Module]] = {
    "attention": lambda: nn.Sequential(nn.Linear(6, 6), nn.Tanh(), Attention(), nn.Linear(6, 3)),
    "cell": lambda: nn.Sequential(nn.Linear(6, 6), nn.Tanh(), Cell(), nn.Linear(8, 3)),
    "weight norm": lambda: nn.Sequential(
        nn.Linear(6, 8), nn.Tanh(), parametrizations.weight_norm(nn.Linear(8, 3))
    ),
}
RULES: dict[str, dict[str, Any]] = {
    "brsf": {},
    "fbp": {"refresh_every": 1, "fraction": 0.4, "select": "largest"},
    "fbp often": {"refresh_every": 2},
    "kp": {},
    "sa": OPTIONS["sa"],
}


@functools.cache
def network(net: str, rule: str) -> nn.Module:
    torch.manual_seed(3)
    policy = fxbio.Policy.uniform(rule.split()[0], **RULES[rule])
    return fxbio.transform(NETS[net](), policy, X)


def own_optimizer(p: Tensor) -> Optimizer:
    return SGD([p], lr=0.1, momentum=0.9, weight_decay=0.01)


def plainly(model: nn.Module) -> Iterator[None]:
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    while True:
        optimizer.zero_grad()
        backward(model)
        optimizer.step()
        yield


def in_the_backward(model: nn.Module) -> Iterator[None]:
    for p in model.parameters():
        own = own_optimizer(p)
        p.register_post_accumulate_grad_hook(lambda p, own=own: (own.step(), own.zero_grad())[0])
    while True:
        backward(model)
        yield


def some_in_the_backward(model: nn.Module) -> Iterator[None]:
    parameters = list(model.parameters())
    for p in parameters[::2]:
        own = own_optimizer(p)
        p.register_post_accumulate_grad_hook(lambda p, own=own: (own.step(), own.zero_grad())[0])
    rest = SGD(parameters[1::2], lr=0.1, momentum=0.9, weight_decay=0.01)
    while True:
        rest.zero_grad()
        backward(model)
        rest.step()
        yield


def one_after_the_other(model: nn.Module) -> Iterator[None]:
    optimizers = [own_optimizer(p) for p in model.parameters()]
    while True:
        model.zero_grad()
        backward(model)
        for optimizer in optimizers:
            optimizer.step()
        yield


def the_last_first(model: nn.Module) -> Iterator[None]:
    optimizers = [own_optimizer(p) for p in model.parameters()]
    while True:
        model.zero_grad()
        backward(model)
        for optimizer in reversed(optimizers):
            optimizer.step()
        yield


IN_THE_BACKWARD = [in_the_backward, some_in_the_backward]
SPLIT = [*IN_THE_BACKWARD, one_after_the_other, the_last_first]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("loop", SPLIT, ids=lambda f: f.__name__)
def test_the_parts_of_an_update_are_one(
    loop: Callable[[nn.Module], Iterator[None]], net: str, rule: str
) -> None:
    """Bit by bit what one optimizer does, except that losses on weights see them as they move."""
    exact = rule != "sa" or loop not in IN_THE_BACKWARD
    model, other = copy.deepcopy(network(net, rule)), copy.deepcopy(network(net, rule))
    split, plain = loop(model), plainly(other)
    for count in (1, 2, 3):
        next(split)
        next(plain)
        assert counts(model) == {count}
        for name, value in other.state_dict().items():
            tolerance = 0.0 if exact else 1e-2
            torch.testing.assert_close(
                model.state_dict()[name], value, rtol=tolerance, atol=tolerance
            )
        for name, value in fxbio.feedback_weights(other).items():
            found = fxbio.feedback_weights(model)[name]
            torch.testing.assert_close(found, value, rtol=tolerance, atol=tolerance)

"""Fake tensors of a capture do not outlive it, wherever the code of a user keeps what it makes."""

from __future__ import annotations

import contextvars
import gc
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache, partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

import fxbio
from fxbio.errors import CaptureError
from fxbio.graph.capture import run_for_structure
from fxbio.models.inputs import ExampleInputs

Keep = Callable[[int], Tensor]

POLICY = fxbio.Policy.uniform("fa")
SIZE = 4


def mask(size: int) -> Tensor:
    return torch.full((size, size), 2.0).triu(1)


class Masked(nn.Module):
    """Multiplies by ``mask``, which it gets from somewhere that keeps it."""

    def __init__(self, keep: Keep) -> None:
        super().__init__()
        self.keep = keep
        self.linear = nn.Linear(SIZE, SIZE)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x) @ self.keep(x.shape[-1])
        return out


# Where it may be kept: each of these makes a function, or says what holds it.


def in_dict(store: Any, size: int) -> Tensor:
    if size not in store:
        store[size] = mask(size)
    found: Tensor = store[size]
    return found


def in_attribute(store: Any, size: int) -> Tensor:
    if getattr(store, "mask", None) is None:
        store.mask = mask(size)
    found: Tensor = store.mask
    return found


def in_list(store: Any, size: int) -> Tensor:
    if not store:
        store.append((size, mask(size)))
    found: Tensor = store[0][1]
    return found


@lru_cache(maxsize=8)
def bounded(size: int) -> Tensor:
    return mask(size)


@cache
def unbounded(size: int) -> Tensor:
    return mask(size)


GLOBAL: Tensor | None = None
TABLE: dict[int, Tensor] = {}


def in_global(size: int) -> Tensor:
    global GLOBAL
    if GLOBAL is None:
        GLOBAL = mask(size)
    return GLOBAL


def in_new_global(size: int) -> Tensor:
    if "FRESH" not in globals():
        globals()["FRESH"] = mask(size)
    found: Tensor = globals()["FRESH"]
    return found


def through_helper(size: int) -> Tensor:
    return in_dict(TABLE, size)


class ClassAttribute:
    mask: Tensor | None = None

    @classmethod
    def get(cls, size: int) -> Tensor:
        if cls.mask is None:
            cls.mask = mask(size)
        return cls.mask


def in_function_attribute(size: int) -> Tensor:
    return in_attribute(in_function_attribute, size)


def in_default(size: int, store: dict[int, Tensor] = {}) -> Tensor:  # noqa: B006
    return in_dict(store, size)


def in_closure() -> Keep:
    kept: Tensor | None = None

    def get(size: int) -> Tensor:
        nonlocal kept
        kept = mask(size) if kept is None else kept
        return kept

    return get


class Slots:
    __slots__ = ("mask",)


@dataclass
class Plain:
    tables: dict[int, Tensor] = field(default_factory=dict)

    def get(self, size: int) -> Tensor:
        return in_dict(self.tables, size)

    @cached_property
    def once(self) -> Tensor:
        return mask(SIZE)


class Method:
    @lru_cache  # noqa: B019
    def get(self, size: int) -> Tensor:
        return mask(size)


LOCAL = threading.local()
NESTED = SimpleNamespace(tables=Plain())
ONCE = Plain()

PLACES: dict[str, Callable[[], Keep]] = {
    "lru_cache": lambda: bounded,
    "cache": lambda: unbounded,
    "lru_cache of a method": lambda: Method().get,
    "global": lambda: in_global,
    "global that was not there": lambda: in_new_global,
    "container of a global": lambda: through_helper,
    "object of a global": lambda: lambda size: NESTED.tables.get(size),
    "cached property of a global": lambda: lambda size: ONCE.once,
    "class attribute": lambda: ClassAttribute.get,
    "function attribute": lambda: in_function_attribute,
    "default of an argument": lambda: in_default,
    "closure": in_closure,
    "dict": lambda: partial(in_dict, {}),
    "OrderedDict": lambda: partial(in_dict, OrderedDict()),
    "list of tuples": lambda: partial(in_list, []),
    "deque": lambda: partial(in_list, deque(maxlen=3)),
    "plain object": lambda: Plain().get,
    "slots": lambda: partial(in_attribute, Slots()),
    "namespace": lambda: partial(in_attribute, SimpleNamespace()),
    "thread local": lambda: partial(in_attribute, LOCAL),
    "tensor attribute": lambda: partial(in_attribute, nn.Parameter(torch.ones(1))),
    "module outside of the model": lambda: partial(in_attribute, [nn.Identity()][0]),
}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """As in a process that has not run the model yet."""
    yield
    bounded.cache_clear(), unbounded.cache_clear(), Method.get.cache_clear()
    globals().update(GLOBAL=None)
    globals().pop("FRESH", None)
    TABLE.clear(), NESTED.tables.tables.clear(), vars(ONCE).pop("once", None)
    ClassAttribute.mask = None
    vars(in_function_attribute).clear()
    (in_default.__defaults__ or ({},))[0].clear()
    vars(LOCAL).clear()


def fakes() -> list[Any]:
    """Those that a test has left; others may live on in the traceback of an earlier failure."""
    gc.collect()
    alive = (value for value in gc.get_objects() if type(value) is FakeTensor)
    return [value for value in alive if not any(value is other for other in _ALIVE_BEFORE)]


_ALIVE_BEFORE: list[Any] = []


@pytest.fixture(autouse=True)
def alive_before() -> Iterator[None]:
    _ALIVE_BEFORE[:] = fakes()
    yield
    _ALIVE_BEFORE.clear()


CALLS: dict[str, Callable[[nn.Module, Tensor], Any]] = {
    "plan": lambda model, x: fxbio.plan(model, POLICY, x),
    "transform": lambda model, x: fxbio.transform(model, POLICY, x, inplace=True),
    "dfa": lambda model, x: fxbio.transform(model, fxbio.Policy.uniform("dfa"), x, inplace=True),
    "audit": lambda model, x: fxbio.audit(model, x),
}


@pytest.mark.parametrize(
    ("place", "call"),
    [*((place, "plan") for place in PLACES)]
    + [
        (place, call) for place in ("cache", "closure", "slots") for call in CALLS if call != "plan"
    ],
)
def test_no_fake_tensor_is_left(place: str, call: str) -> None:
    model, x = Masked(PLACES[place]()), torch.randn(3, SIZE)
    CALLS[call](model, x)
    assert fakes() == []
    out = model(x)
    assert type(out) is Tensor
    expected = torch.nn.functional.linear(x, model.linear.weight, model.linear.bias) @ mask(SIZE)
    assert torch.equal(out, expected)


@pytest.mark.parametrize("place", ["plain object", "closure", "container of a global", "lru_cache"])
def test_what_was_kept_before_is_kept(place: str) -> None:
    keep = PLACES[place]()
    model, x = Masked(keep), torch.randn(3, SIZE)
    before = keep(SIZE)
    fxbio.plan(model, POLICY, x)
    fxbio.plan(model, POLICY, torch.randn(2, 5, SIZE))
    assert keep(SIZE) is before


@pytest.mark.parametrize("everywhere", [False, True])
def test_hooks_that_append(everywhere: bool) -> None:
    model, x, seen = Masked(mask), torch.randn(3, SIZE), []
    register: Any = model.register_forward_hook
    if everywhere:
        register = nn.modules.module.register_module_forward_hook
    handle = register(lambda module, args, out: seen.append(out))
    try:
        seen.append(x)
        fxbio.capture(model, x)
        fxbio.audit(model, x)
    finally:
        handle.remove()
    assert len(seen) == 1
    assert seen[0] is x


def test_a_counter_of_the_user_is_put_back_with_the_model() -> None:
    class Counting(Masked):
        def forward(self, x: Tensor) -> Tensor:
            self.count.value += 1
            return super().forward(x)

    model = Counting(mask)
    model.count = SimpleNamespace(value=7)
    fxbio.plan(model, POLICY, torch.randn(3, SIZE))
    assert model.count.value == 7


def test_a_failing_forward_leaves_no_fake_tensor_either() -> None:
    class Failing(Masked):
        def forward(self, x: Tensor) -> Tensor:
            super().forward(x)
            raise ValueError("never mind")

    with pytest.raises(CaptureError, match="never mind"):
        fxbio.plan(Failing(bounded), POLICY, torch.randn(3, SIZE))
    assert fakes() == []
    assert type(bounded(SIZE)) is Tensor


VARIABLE: contextvars.ContextVar[Tensor] = contextvars.ContextVar("VARIABLE")


def in_context(size: int) -> Tensor:
    if VARIABLE.get(None) is None:
        VARIABLE.set(mask(size))
    return VARIABLE.get()


def in_generator() -> Keep:
    def forever() -> Iterator[Tensor]:
        kept = mask(SIZE)
        while True:
            yield kept

    running = forever()
    return lambda size: next(running)


@pytest.mark.parametrize("make", [lambda: in_context, in_generator], ids=["context", "generator"])
def test_what_cannot_be_taken_back_is_an_error_where_it_is_used(make: Any) -> None:
    model, x = Masked(make()), torch.randn(3, SIZE)
    with pytest.raises(CaptureError, match="a tensor without values is used") as caught:
        contextvars.copy_context().run(fxbio.plan, model, POLICY, x)
    assert "test_fake_run.py:" in str(caught.value)
    assert "run it once on an input before it is captured" in str(caught.value)


def test_running_the_model_first_helps_then() -> None:
    model, x = Masked(in_generator()), torch.randn(3, SIZE)
    expected = model(x)
    fxbio.plan(model, POLICY, x)
    assert torch.equal(model(x), expected)


def test_a_result_that_holds_tensors_comes_from_real_ones() -> None:
    model, x = Masked(mask), torch.randn(3, SIZE)
    inputs = ExampleInputs((x,))
    out = run_for_structure(model, inputs, lambda args, kwargs: model(*args, **kwargs))
    assert torch.equal(out, model(x))


def test_an_ordinary_model_runs_on_fake_tensors_alone() -> None:
    seen: list[type] = []
    model, x = Masked(mask), torch.randn(3, SIZE)
    run_for_structure(model, ExampleInputs((x,)), lambda args, kwargs: seen.append(type(args[0])))
    assert seen == [FakeTensor]


def test_training_moves_the_weights_as_by_hand() -> None:
    model, x = Masked(bounded), torch.randn(3, SIZE)
    fxbio.plan(model, fxbio.Policy.uniform("bp"), x)
    model(x).sum().backward()
    by_hand = torch.ones(3, SIZE) @ mask(SIZE).T
    torch.testing.assert_close(model.linear.weight.grad, by_hand.T @ x)


class Touchy:
    """An object that must not be asked for attributes that it does not have."""

    def __init__(self) -> None:
        self.kept: list[Tensor] = []

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"asked for {name}")


def test_objects_are_not_asked_for_attributes_that_they_lack() -> None:
    class Keeping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.memory = nn.Linear(3, 3), Touchy()

        def forward(self, x: Tensor) -> Tensor:
            self.memory.kept.append(x)
            result: Tensor = self.layer(x)
            return result

    model = Keeping()
    fxbio.plan(model, fxbio.Policy.uniform("fa"), torch.randn(2, 3))
    assert model.memory.kept == []

"""Leaving a model, its inputs and the random state as they were before a pass."""

from __future__ import annotations

import contextlib
import random
import sys
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from fxbio.graph.taint import plain_tensors, tensors_in

__all__ = ["preserved", "undone_writes"]

Restore = Callable[[], None]


@contextlib.contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Training mode inside; outside every attribute, mode and the random state as before.

    A forward may set attributes (caches, counters), and on fake tensors it would leave fake ones.
    Containers keep their identity: handles of hooks and closures hold on to them.
    """
    restore = [_attributes(module) for module in model.modules()]
    restore += [_storage(tensor) for tensor in chain(model.parameters(), model.buffers())]
    restore += _random_states()
    devices = sorted({p.device for p in model.parameters() if p.is_cuda}, key=str)
    try:
        with torch.random.fork_rng(devices):
            model.train()
            yield
    finally:
        for undo in restore:
            undo()


def _attributes(module: nn.Module) -> Restore:
    attributes = vars(module)
    before = dict(attributes)
    contents = [undo for value in before.values() for undo in _contents(value)]

    def undo() -> None:
        attributes.clear()
        attributes.update(before)
        for restore in contents:
            restore()

    return undo


def _contents(value: Any) -> Iterator[Restore]:
    """How to restore what is in a container, and in the containers in it."""
    if isinstance(value, dict):
        yield _refill(value, dict(value), value.update)
        children: Any = value.values()
    elif isinstance(value, list | deque):
        yield _refill(value, list(value), value.extend)
        children = value
    elif isinstance(value, set):
        yield _refill(value, set(value), value.update)
        return
    else:
        children = value if isinstance(value, tuple) else ()
    for child in tuple(children):
        yield from _contents(child)


def _refill(container: Any, before: Any, fill: Callable[[Any], Any]) -> Restore:
    def undo() -> None:
        container.clear()
        fill(before)

    return undo


def _storage(tensor: Tensor) -> Restore:
    """Undoes an assignment to ``tensor.data``."""
    before = tensor.data

    def undo() -> None:
        if tensor.data_ptr() != before.data_ptr():
            tensor.data = before

    return undo


def _random_states() -> list[Restore]:
    """The generators of Python and numpy, which decide about dropped layers too."""
    state = random.getstate()
    restore: list[Restore] = [lambda: random.setstate(state)]
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        drawn = numpy.random.get_state()
        restore.append(lambda: numpy.random.set_state(drawn))
    return restore


@contextlib.contextmanager
def undone_writes(model: nn.Module, inputs: Any) -> Iterator[None]:
    """Take back every write into a tensor of the model or of its inputs.

    What is never written is never copied.
    """
    plain = (tensor for _, tensor in plain_tensors(model))
    guard = _WriteGuard(chain(model.parameters(), model.buffers(), plain, tensors_in(inputs)))
    try:
        with guard:
            yield
    finally:
        guard.undo()


class _WriteGuard(TorchDispatchMode):
    """Copies the storage of known tensors before their first write."""

    def __init__(self, tensors: Iterator[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known = {StorageWeakRef(t.untyped_storage()): t.untyped_storage() for t in tensors}
        self._before: dict[StorageWeakRef, torch.UntypedStorage] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for tensor in _written(func, args, kwargs):
            self._keep(tensor)
        return func(*args, **kwargs)

    def _keep(self, tensor: Tensor) -> None:
        key = StorageWeakRef(tensor.untyped_storage())
        if key in self._known and key not in self._before:
            with _disable_current_modes():  # a fake mode would take the copy for its own
                self._before[key] = self._known[key].clone()

    def undo(self) -> None:
        for key, before in self._before.items():
            self._known[key].copy_(before)


_STATISTICS = {torch.ops.aten.native_batch_norm, torch.ops.aten.cudnn_batch_norm}
"""Operations that write to their running mean and variance although their schemas deny it."""


def _written(func: Any, args: Any, kwargs: Any) -> Iterator[Tensor]:
    if func.overloadpacket in _STATISTICS:
        yield from tensors_in(args[3:5])
    if not func._schema.is_mutable:
        return
    for index, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[index] if index < len(args) else kwargs.get(argument.name)
            yield from tensors_in(value)

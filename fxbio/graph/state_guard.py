"""Leaving a model, its inputs and the random state as they were before a pass."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules import module as module_hooks
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from fxbio.graph.python_state import Restore, owned_state, restore_of
from fxbio.tensors.grad_mode import under_examination
from fxbio.tensors.nested import tensors_in
from fxbio.tensors.storages import stored_parts

__all__ = ["Snapshot", "outside_inference_mode", "preserved", "state_of"]

_HOOKS_OF_ALL = (
    module_hooks._global_forward_pre_hooks,
    module_hooks._global_forward_hooks,
    module_hooks._global_backward_pre_hooks,
    module_hooks._global_backward_hooks,
)


class Snapshot:
    """The state of a model, of its inputs, of hooks on all modules and of the random generators.

    One serves several passes in a row, for each leaves everything as the snapshot has it.

    Args:
        model: any module.
        inputs: what it will be called with, in containers.
    """

    def __init__(self, model: nn.Module, inputs: Any = ()) -> None:
        self.model = model
        self.objects = state_of(model, inputs)
        tensors = [value for value in self.objects if isinstance(value, Tensor)]
        self._undo = [*filter(None, map(restore_of, self.objects)), *map(_restore_tensor, tensors)]
        self._undo += _random_states()
        self.guard = _WriteGuard(tensors)

    def restore(self) -> None:
        """Give everything the values that it had."""
        self.guard.undo()
        for undo in self._undo:
            undo()


@contextlib.contextmanager
def preserved(before: Snapshot, *, training: bool = True, watched: bool = True) -> Iterator[None]:
    """Training mode inside; outside the model, its inputs and the random state as before.

    Put back are attributes and modes; values, gradients and ``requires_grad`` of tensors; and what
    is in containers, plain objects and closures that the model or a hook of it holds. All of it
    begins before ``train()`` is called, which in classes of the user may merge or swap weights.

    Args:
        before: the state now, which the model will have again.
        training: the mode inside; ``False`` for evaluation mode.
        watched: copy a tensor when it is first written to, so that the others are not copied. A
            dispatch mode watches, under which torch chooses other kernels here and there; without
            it all tensors are copied at once.
    """
    devices = sorted({p.device for p in before.model.parameters() if p.is_cuda}, key=str)
    if not watched:
        before.guard.keep_all()
    try:
        with (
            under_examination(),
            torch.random.fork_rng(devices),
            outside_inference_mode(),
            before.guard if watched else _NO_GUARD,
        ):
            before.model.train() if training else before.model.eval()
            yield
    finally:
        before.restore()


_NO_GUARD = contextlib.nullcontext()


def state_of(model: nn.Module, inputs: Any = ()) -> list[Any]:
    """The state that a model owns, with that of its inputs and of hooks on all modules."""
    return list(owned_state([model, *_HOOKS_OF_ALL, inputs]))


@contextlib.contextmanager
def outside_inference_mode() -> Iterator[None]:
    """Leave ``torch.inference_mode``, in which no gradient and no parameter can be made."""
    inference = torch.is_inference_mode_enabled()
    with torch.inference_mode(False) if inference else contextlib.nullcontext():
        yield


def _restore_tensor(tensor: Tensor) -> Restore:
    """Undoes assignments to ``data``, ``grad`` and ``requires_grad``."""
    return partial(
        _reset, tensor, tensor.data, tensor.requires_grad, tensor.grad if tensor.is_leaf else None
    )


def _reset(tensor: Tensor, data: Tensor, learns: bool, gradient: Tensor | None) -> None:
    if _place(tensor) != _place(data):
        tensor.data = data
    if not tensor.is_leaf:
        return
    if tensor.requires_grad != learns:
        tensor.requires_grad_(learns)
    if tensor.grad is not gradient:
        tensor.grad = gradient


def _place(tensor: Tensor) -> tuple[Any, ...]:
    parts = ((part.data_ptr(), part.shape, part.stride()) for part in stored_parts(tensor))
    return (tensor.dtype, *parts)


def _random_states() -> list[Restore]:
    """The generators of Python and numpy, which decide about dropped layers too."""
    restore: list[Restore] = [partial(random.setstate, random.getstate())]
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        restore.append(partial(numpy.random.set_state, numpy.random.get_state()))
    return restore


class _WriteGuard(TorchDispatchMode):
    """Copies the storage of known tensors before their first write."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known = {
            StorageWeakRef(t.untyped_storage()): t.untyped_storage() for t in _with_values(tensors)
        }
        self._before: dict[StorageWeakRef, torch.UntypedStorage] = {}
        self._written: set[StorageWeakRef] = set()
        """Those that may differ from what they were."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for tensor in _with_values(_written(func, args, kwargs)):
            self._keep(tensor)
        return func(*args, **kwargs)

    def keep_all(self) -> None:
        """Copy every known storage."""
        for key in self._known:
            self._keep_storage(key)

    def _keep(self, tensor: Tensor) -> None:
        key = StorageWeakRef(tensor.untyped_storage())
        if key in self._known and key not in self._written:
            with _disable_current_modes():  # a fake mode would take the copy for its own
                self._keep_storage(key)

    def _keep_storage(self, key: StorageWeakRef) -> None:
        self._written.add(key)
        if key not in self._before:
            self._before[key] = self._known[key].clone()

    def undo(self) -> None:
        """Write back what differs; the rest may be mapped from a file."""
        for key in self._written:
            before = self._before[key]
            if not torch.equal(_bytes(self._known[key]), _bytes(before)):
                self._known[key].copy_(before)
        self._written.clear()


def _bytes(storage: torch.UntypedStorage) -> Tensor:
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)


def _with_values(tensors: Iterable[Any]) -> Iterator[Tensor]:
    """The parts of tensors that have a storage with values in it."""
    for tensor in tensors:
        yield from (part for part in stored_parts(tensor) if not part.is_meta)


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

"""The mutable Python state behind a model, and how to restore it.

A model *owns* what is reached from its modules by attributes, containers, plain objects and
closures. What its code reaches by name, globals and class attributes, it shares with the process.
"""

from __future__ import annotations

import gc
import random
import sys
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import lru_cache, partial
from operator import is_
from types import CellType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from torch import Tensor, nn

__all__ = ["UNSET", "LruCache", "Restore", "contents", "is_foreign", "owned_state", "restore_of"]

Restore = Callable[[], None]
LruCache: Any = type(lru_cache(int))

UNSET = object()
"""In the place of an attribute or a variable that is not there."""

_ATOMS = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device)
_WRAPPERS = (CellType, MethodType, partial, staticmethod, classmethod, property, LruCache)
"""Objects that hold others where only the garbage collector sees them."""
_SEQUENCES = (list, tuple, deque, set, frozenset)
_OPEN = (
    nn.Module,
    Tensor,
    SimpleNamespace,
    threading.local,
    WeakKeyDictionary,
    WeakValueDictionary,
)
"""Of the objects that come with Python and torch, those whose attributes people write to."""
_FOREIGN = {*sys.stdlib_module_names, "torch", "numpy", "fxbio"} - {"__main__"}


def owned_state(roots: Iterable[Any], beyond: Collection[int] = ()) -> Iterator[Any]:
    """Every object that is reached without the names that code refers to, once each.

    Args:
        roots: modules, hooks, inputs: where the walk begins. They are yielded too.
        beyond: ids of objects that it leaves out.
    """
    open_ = list(roots)
    seen: dict[int, Any] = {}
    while open_:
        value = open_.pop()
        if _kind(value.__class__).is_atom or id(value) in seen or id(value) in beyond:
            continue
        seen[id(value)] = value  # kept, or its id could be handed to another one
        yield value
        open_ += contents(value)


def contents(value: Any) -> list[Any]:
    """The objects that one object holds directly."""
    kind = _kind(value.__class__)
    if kind.is_wrapper:
        return gc.get_referents(value)
    if isinstance(value, FunctionType):
        kept = (value.__closure__, value.__defaults__, value.__kwdefaults__)
        return [*kept, *vars(value).values()]
    held = list(_attributes(value).values()) if kind.has_state else []
    if kind.is_dict:
        held += value.values()
    elif kind.is_sequence:
        held += value
    elif kind.is_tensor:
        hooks = (value._backward_hooks, getattr(value, "_post_accumulate_grad_hooks", None))
        held += [*hooks, value.grad if value.is_leaf else None]
    return held


def is_foreign(code: Any) -> bool:
    """True if a class, a function or a module comes with Python, torch, numpy or fxbio.

    Their objects may be at work in other threads, and are known to keep no tensor of a forward.
    """
    module = code.__name__ if isinstance(code, ModuleType) else getattr(code, "__module__", None)
    return not isinstance(module, str) or module.partition(".")[0] in _FOREIGN


def restore_of(value: Any) -> Restore | None:
    """Function that gives an object the contents of now; ``None`` for one that has no state.

    The object keeps its identity: handles of hooks and closures hold on to it.
    """
    kind = _kind(value.__class__)
    if kind.is_special:
        return _restore_special(value)
    parts: list[Restore] = []
    if kind.is_container:
        parts.append(_restore_items(value))
    if kind.has_state or isinstance(value, FunctionType):
        parts += _restore_attributes(value)
    if len(parts) < 2:
        return parts[0] if parts else None
    return partial(_call_all, parts)


def _restore_special(value: Any) -> Restore | None:
    if isinstance(value, CellType):
        return partial(_fill_cell, value, _in_cell(value))
    if isinstance(value, torch.Generator):
        return partial(_set_generator, value, value.get_state())
    if isinstance(value, random.Random):
        return partial(value.setstate, value.getstate())
    bits = getattr(value, "bit_generator", None)
    return None if bits is None else partial(setattr, bits, "state", bits.state)


class _Kind(NamedTuple):
    """Treatment of the objects of a class: asking each object would take longer."""

    is_atom: bool
    is_wrapper: bool
    is_dict: bool
    is_sequence: bool
    is_container: bool
    """Its items may be put back."""
    is_tensor: bool
    is_special: bool
    """Its state is behind functions of its own."""
    has_state: bool
    """Its attributes may be looked into, and put back."""
    slots: tuple[str, ...]


@lru_cache(maxsize=1024)
def _kind(cls: type) -> _Kind:
    return _Kind(
        is_atom=issubclass(cls, _ATOMS),
        is_wrapper=issubclass(cls, _WRAPPERS),
        is_dict=issubclass(cls, dict),
        is_sequence=issubclass(cls, _SEQUENCES),
        is_container=issubclass(cls, dict | list | deque | set),
        is_tensor=issubclass(cls, Tensor),
        is_special=issubclass(cls, CellType | torch.Generator | random.Random)
        or str(cls.__module__).startswith("numpy.random"),  # no other object is asked for it
        has_state=issubclass(cls, _OPEN)
        or (not issubclass(cls, type | ModuleType) and not is_foreign(cls)),
        slots=_slots_of(cls),
    )


def _slots_of(cls: type) -> tuple[str, ...]:
    if issubclass(cls, Tensor):
        return ()
    names: list[str] = []
    for base in cls.__mro__:
        own = vars(base).get("__slots__", ())
        names += [own] if isinstance(own, str) else own
    return tuple(name for name in names if not name.startswith("__"))


def _attributes(value: Any) -> dict[str, Any]:
    return {**getattr(value, "__dict__", {}), **_slots(value)}


def _slots(value: Any) -> dict[str, Any]:
    """Values in the ``__slots__`` of an object, by name."""
    return {name: getattr(value, name, UNSET) for name in _kind(value.__class__).slots}


def _restore_attributes(value: Any) -> Iterator[Restore]:
    if hasattr(value, "__dict__"):
        yield _restore_items(vars(value))
    for name, before in _slots(value).items():
        yield partial(_fill_slot, value, name, before)


def _restore_items(container: Any) -> Restore:
    return partial(_refill, container, _copy(container))


def _refill(container: Any, before: Any) -> None:
    if _same(_copy(container), before):
        return
    container.clear()
    fill = container.extend if isinstance(container, list | deque) else container.update
    fill(before)


def _copy(container: Any) -> Any:
    """In a plain container, for constructors of subclasses may take anything."""
    return dict(container) if isinstance(container, dict) else list(container)


def _same(now: Any, before: Any) -> bool:
    """Compares identities and order: ``==`` of tensors is a tensor."""
    if len(now) != len(before) or not all(map(is_, now, before)):
        return False
    return not isinstance(now, dict) or all(map(is_, now.values(), before.values()))


def _in_cell(cell: CellType) -> Any:
    return next(iter(gc.get_referents(cell)), UNSET)


def _fill_cell(cell: CellType, before: Any) -> None:
    if _in_cell(cell) is before:
        return
    if before is UNSET:
        del cell.cell_contents
    else:
        cell.cell_contents = before


def _set_generator(generator: torch.Generator, state: Tensor) -> None:
    generator.set_state(state)


def _fill_slot(value: Any, name: str, before: Any) -> None:
    if getattr(value, name, UNSET) is before:
        return
    if before is UNSET:  # past a __setattr__ of its own, such as that of a frozen class
        object.__delattr__(value, name)
    else:
        object.__setattr__(value, name, before)


def _call_all(parts: list[Restore]) -> None:
    for part in parts:
        part()

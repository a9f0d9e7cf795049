"""Rewritten modules: the user's own objects under a class whose forward runs the rule ops.

A module keeps its identity, parameters, hooks and methods; only its class is exchanged for a
subclass made here, and ``revert`` exchanges it back. The subclass carries the name of its base.
"""

from __future__ import annotations

import copy
import copyreg
import pickle
from collections.abc import Callable
from functools import update_wrapper
from types import FunctionType
from typing import Any

from torch import nn

from fxbio.runtime.binding import ModuleBinding, added_names
from fxbio.runtime.leaf import LEAF_FORWARDS
from fxbio.runtime.module_state import STATE, ModuleState, binding_of, state_of
from fxbio.runtime.routed_forward import MarkForward, RouteForward
from fxbio.runtime.scope import ScopeForward
from fxbio.runtime.target_forward import TargetForward
from fxbio.runtime.updates import forget_updates, track_updates
from fxbio.semantics.leaves import linear_leaf_kind

__all__ = [
    "bind_module",
    "is_bound",
    "stock_class",
    "unbind_module",
    "without_scopes",
]


_NEW_OBJECT: Any = vars(copyreg)["__newobj__"]
"""What a class that does not care about pickling reduces to."""


class BoundModule:
    """Mixin of every rewritten class: copying and pickling of classes made at run time."""

    _fxbio_base: type[nn.Module]
    _fxbio_forwards: tuple[type, ...]

    def __reduce_ex__(self, protocol: Any) -> Any:
        reduced: Any = super().__reduce_ex__(protocol)
        function, arguments, *rest = reduced
        if function is not _NEW_OBJECT or arguments != (type(self),):
            raise pickle.PicklingError(
                f"{self._fxbio_base.__qualname__} pickles itself in its own way, which would lose "
                "its rule; pickle the reverted model and its record instead"
            )
        return (_new_bound, (self._fxbio_base, self._fxbio_forwards), *rest)

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)  # type: ignore[misc]
        own = copy.copy(state_of(self))  # type: ignore[arg-type]  # a shallow copy counts for itself
        object.__setattr__(self, STATE, own)
        track_updates(self)  # type: ignore[arg-type]


def bind_module(module: nn.Module, binding: ModuleBinding) -> None:
    """Make a module run the rules of a binding from its next call on."""
    module.__class__ = stock_class(module)  # it may be bound already, by another pass
    if STATE in vars(module):
        state_of(module).binding = binding
    else:
        object.__setattr__(module, STATE, ModuleState(binding))
    module.__class__ = bound_class(type(module), _forwards_for(module, binding))
    track_updates(module)


def unbind_module(module: nn.Module) -> None:
    """Give a module its own class back and take away what binding added."""
    forget_updates(module)
    for name in added_names(binding_of(module)):
        delattr(module, name)
    module.__class__ = stock_class(module)
    delattr(module, STATE)


def is_bound(module: object) -> bool:
    """True if a module is rewritten."""
    return isinstance(module, BoundModule)


def stock_class(module: nn.Module) -> type[nn.Module]:
    """The class that the user gave a module, rewritten or not."""
    return _without_rules(type(module))


def _without_rules(cls: type[nn.Module]) -> type[nn.Module]:
    """A class without ours; one that torch or the user has put over ours is put over its base."""
    if not issubclass(cls, BoundModule):
        return cls
    if "_fxbio_base" in vars(cls):
        return cls._fxbio_base
    bases = tuple(_without_rules(base) for base in cls.__bases__)
    body = {k: v for k, v in vars(cls).items() if k not in ("__dict__", "__weakref__")}
    return type(cls.__name__, bases, body)


def without_scopes(module: nn.Module) -> nn.Module:
    """The same module, state shared, for a graph that routes errors and sends targets itself.

    It has the rules of its weights, and makes no marks.
    """
    if not isinstance(module, BoundModule):
        return module
    own = tuple(forward for forward in module._fxbio_forwards if forward not in _OF_SCOPES)
    base = module._fxbio_base
    twin: nn.Module = object.__new__(bound_class(base, own) if own else base)
    twin.__dict__ = vars(module)
    return twin


_OF_SCOPES = (RouteForward, TargetForward, MarkForward)

_classes: dict[tuple[Any, tuple[type, ...]], type[nn.Module]] = {}


def bound_class(base: type[nn.Module], forwards: tuple[type, ...]) -> type[nn.Module]:
    """The subclass of ``base`` with the given forwards, outermost first; always the same object."""
    known = _classes.get((base, forwards))
    if known is None:
        known = _classes[base, forwards] = _make_class(base, forwards)
    return known


def _make_class(base: type[nn.Module], forwards: tuple[type, ...]) -> type[nn.Module]:
    body: dict[str, Any] = {
        "__module__": base.__module__ if not base.__module__.startswith("torch.nn") else __name__,
        "__doc__": base.__doc__,
        "__qualname__": base.__qualname__,
        "_fxbio_base": base,
        "_fxbio_forwards": forwards,
    }
    if forwards:  # a module may be bound for the sake of what it holds alone
        ours: Any = forwards[0]
        body["forward"] = _with_signature(ours.forward, base.forward)
    if hasattr(base, "__deepcopy__"):  # then a copy does not come by __setstate__
        body["__deepcopy__"] = _tracked_deepcopy
    return type(base.__name__, (*forwards, BoundModule, base), body)


def _with_signature(forward: FunctionType, stock: Callable[..., Any]) -> FunctionType:
    """A copy of our forward under the signature of the stock one, which hosts read.

    ``generate`` of transformers, its trainer, and exporters look for the names of arguments.
    """
    copied = FunctionType(
        forward.__code__,
        forward.__globals__,
        forward.__name__,
        forward.__defaults__,
        forward.__closure__,
    )
    copied.__kwdefaults__ = forward.__kwdefaults__
    return update_wrapper(copied, stock)  # type: ignore[return-value]


def _tracked_deepcopy(module: Any, memo: dict[int, Any]) -> Any:
    copied = module._fxbio_base.__deepcopy__(module, memo)
    track_updates(copied)
    return copied


def _new_bound(base: type[nn.Module], forwards: tuple[type, ...]) -> nn.Module:
    cls = bound_class(base, forwards)
    new: nn.Module = cls.__new__(cls)
    return new


def _forwards_for(module: nn.Module, binding: ModuleBinding) -> tuple[type, ...]:
    """Classes that wrap the forward of a module, outermost first.

    Weights get a forward of our own in the stock linear layers, and in all others a scope around
    theirs.
    """
    forwards: list[type] = [RouteForward] if binding.routes else []
    if binding.targets:
        forwards.append(TargetForward)
    if binding.marks:
        forwards.append(MarkForward)
    if binding.weights:
        kind = linear_leaf_kind(module)
        forwards.append(ScopeForward if kind is None else LEAF_FORWARDS[kind])
    return tuple(forwards)

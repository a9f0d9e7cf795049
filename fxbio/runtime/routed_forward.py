"""Forwards of the modules between which errors are routed, and of the model that they are in."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from fxbio.ops.mark import ENTER, mark
from fxbio.runtime.binding import Mark
from fxbio.runtime.broadcast_scope import BroadcastScope
from fxbio.runtime.forward import Forward
from fxbio.runtime.retrace import proxy_in, record_as_leaf
from fxbio.tensors.grad_mode import differentiated

__all__ = ["MarkForward", "RouteForward"]


class MarkForward(Forward):
    """A module that says what goes in and what comes out."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's own forward, between marks."""
        proxy = proxy_in((args, kwargs))
        if proxy is not None:
            return record_as_leaf(self, proxy, args, kwargs)
        if not differentiated():
            _tell_scopes(self._fxbio_binding.marks)
            return super().forward(*args, **kwargs)
        for m in self._fxbio_binding.marks:
            if m.event == ENTER:
                args, kwargs = _mark_input(m.name, args, kwargs)
        out = super().forward(*args, **kwargs)
        for m in self._fxbio_binding.marks:
            if m.event != ENTER:
                out = tree_map_only(Tensor, partial(_mark_output, m), out)
        return out


class RouteForward(Forward):
    """The model, with its errors routed."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own forward; what receives errors is handed to their sources."""
        proxy = proxy_in((args, kwargs))
        if proxy is not None:
            return record_as_leaf(self, proxy, args, kwargs)
        if not differentiated():
            return super().forward(*args, **kwargs)
        routes = self._fxbio_binding.routes
        assert routes is not None
        scope = BroadcastScope(self, routes)
        with scope:
            out = super().forward(*args, **kwargs)
        return scope.finish(out)


def _tell_scopes(marks: tuple[Mark, ...]) -> None:
    """Of modules that run without gradients inside of a forward pass that has them."""
    if torch.compiler.is_compiling():
        return
    for mode in torch.overrides._get_current_function_mode_stack():
        if isinstance(mode, BroadcastScope):
            mode.without_gradients |= {m.name for m in marks}


def _mark_output(m: Mark, tensor: Tensor) -> Tensor:
    return mark(tensor, m.event, m.name) if tensor.is_floating_point() else tensor


def _mark_input(name: str, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The arguments with a mark on the first activation among them, or else the first tensor.

    What takes indices alone, as an embedding does, is entered all the same.
    """
    named = {**dict(enumerate(args)), **kwargs}
    tensors = {key: value for key, value in named.items() if isinstance(value, Tensor)}
    floating = (key for key, value in tensors.items() if value.is_floating_point())
    first = next(floating, next(iter(tensors), None))
    if first is None:
        return args, kwargs
    named[first] = mark(named[first], ENTER, name)
    return tuple(named[place] for place in range(len(args))), {key: named[key] for key in kwargs}

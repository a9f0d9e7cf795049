"""Regions without gradients and in lower precision, as nodes of a recorded graph.

Without them a graph would run a ``no_grad`` or ``autocast`` part of a forward like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx
from torch.amp.autocast_mode import _enter_autocast, _exit_autocast

__all__ = ["Regions"]

_DEVICES = ("cpu", "cuda")
Autocast = tuple[bool, torch.dtype]


class Regions:
    """Compares the modes of torch with what the graph has set so far."""

    def __init__(self, add: Callable[[Any, tuple[Any, ...]], fx.Node]) -> None:
        """Begin with the modes that hold now.

        Args:
            add: appends the call of a function with these arguments to the graph.
        """
        self._add = add
        self._grad = torch.is_grad_enabled()
        self._outside = {device: _autocast(device) for device in _DEVICES}
        self._held = False
        self._entered: dict[str, list[tuple[Autocast, fx.Node]]] = {d: [] for d in _DEVICES}

    def follow(self) -> None:
        """Bring the graph to the modes that hold now."""
        if self._grad != torch.is_grad_enabled() and not self._held:
            self._grad = not self._grad
            self._add(torch._C._set_grad_enabled, (self._grad,))
        for device in _DEVICES:
            self._follow_autocast(device, self._entered[device])

    @property
    def in_function(self) -> bool:
        """True if the forward of an ``autograd.Function`` of torch runs."""
        return self._held

    @contextmanager
    def inside_function(self) -> Iterator[None]:
        """An ``autograd.Function`` runs without gradients and brings them itself."""
        before, self._held = self._held, True
        try:
            yield
        finally:
            self._held = before

    def _follow_autocast(self, device: str, entered: list[tuple[Autocast, fx.Node]]) -> None:
        now = _autocast(device)
        levels = [self._outside[device], *(state for state, _ in entered)]
        if now == levels[-1]:
            return
        if now in levels:
            while levels.pop() != now:
                self._add(_exit_autocast, (entered.pop()[1],))
            return
        enabled, dtype = now
        node = self._add(_enter_autocast, (device, dtype, enabled, True))
        entered.append((now, node))


def _autocast(device: str) -> Autocast:
    return torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

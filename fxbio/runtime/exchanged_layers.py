"""Layers put in the place of rewritten ones after ``transform``, which backprop would train.

torch says when a module is assigned to an attribute of another. A layer that takes the place of a
rule is told from one that wraps it, and gets a hook that refuses to run it for gradients.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from fxbio.errors import UnreachableWeightError
from fxbio.runtime.module_state import binding_of
from fxbio.runtime.structure_changes import CHANGE_AND_REPEAT
from fxbio.tensors.grad_mode import differentiated, is_examined

__all__ = ["forget_exchanges", "tolerating_exchanges", "watch_exchanges"]

_watched = [False]
"""Whether assignments of modules are looked at."""


def watch_exchanges() -> None:
    """Look at every module that is assigned to an attribute of another from now on."""
    if not _watched[0]:
        _watched[0] = True
        register_module_module_registration_hook(_on_assignment)


def forget_exchanges(model: nn.Module) -> None:
    """Let all layers of a model run, whatever was there before."""
    for module in model.modules():
        for key, hook in [*module._forward_pre_hooks.items()]:
            if isinstance(hook, _Refusal):
                del module._forward_pre_hooks[key]


@contextlib.contextmanager
def tolerating_exchanges(model: nn.Module) -> Iterator[None]:
    """Let all layers of a model run inside the ``with`` block."""
    refusals = [hook for module in model.modules() for hook in _refusals(module)]
    try:
        for refusal in refusals:
            refusal.armed = False
        yield
    finally:
        for refusal in refusals:
            refusal.armed = True


class _Refusal:
    """A hook in front of the forward of a layer that took the place of others.

    Args:
        lost: which rule each weight or unit had that it should carry, by its name.
    """

    def __init__(self, lost: dict[str, str]) -> None:
        self.lost = lost
        self.armed = True

    def __call__(self, layer: nn.Module, args: Any) -> None:
        """Refuse a forward pass that somebody may go back through.

        Raises:
            UnreachableWeightError: with the weight and the line of the policy.
        """
        if not self.armed or not differentiated() or is_examined():
            return
        lost = {name: rule for name, rule in self.lost.items() if name not in _carried(layer)}
        if lost:
            name, rule = next(iter(lost.items()))
            more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
            raise UnreachableWeightError(
                f"the layer of {name}{more} was changed after transform: it was replaced by a "
                f"{type(layer).__qualname__} without a rule",
                notes=[rule],
                help=CHANGE_AND_REPEAT,
            )


def _on_assignment(parent: nn.Module, name: str, layer: nn.Module | None) -> None:
    old = parent._modules.get(name)
    if old is None or layer is None or old is layer or isinstance(layer, torch.jit.ScriptModule):
        return
    carried = _carried(old)
    for refusal in _refusals(old):
        carried |= refusal.lost
    if carried.keys() - _carried(layer).keys():
        layer.register_forward_pre_hook(_Refusal(carried), prepend=True)


def _refusals(module: nn.Module) -> Iterator[_Refusal]:
    return (hook for hook in module._forward_pre_hooks.values() if isinstance(hook, _Refusal))


def _carried(layer: nn.Module) -> dict[str, str]:
    """The rule of each weight, and of each unit whose error is routed, in a layer and below."""
    carried = {}
    for module in layer.modules():
        binding = binding_of(module)
        for mark in binding.marks:
            carried[mark.name] = mark.why
        for weight in binding.weights:
            carried[weight.weight] = f"rule '{weight.rule}', decided by {weight.decided_by}"
    return carried

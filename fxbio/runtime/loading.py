"""Checkpoints of models with rules: a stock one has nothing of what fxbio adds, and still loads.

A checkpoint with all of it restores it. One with none of it leaves it as it is, except feedback
that remembers weights of the past, which is drawn again from those that were loaded. One with a
part of it is damaged or of another model: what it lacks is reported as missing, as torch does.

The outermost module of a load sees the whole checkpoint, so it decides for all below it: it puts
into the state what is lacking there, and those below find nothing to decide.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

from fxbio.rules.seeding import feedback_generator
from fxbio.runtime.binding import BoundWeight, added_names
from fxbio.runtime.module_state import STATE, binding_of, state_of
from fxbio.runtime.updates import follows_updates, track_updates

__all__ = ["accept_stock_checkpoints", "forget_checkpoints"]


class _Addition(NamedTuple):
    """An entry of a ``state_dict`` that the stock model does not have."""

    home: nn.Module
    name: str
    """Of the attribute that was added."""
    key: str
    value: Any


def accept_stock_checkpoints(model: nn.Module) -> None:
    """Have a model and every part of it load checkpoints without what was added to it."""
    forget_checkpoints(model)
    for module in model.modules():
        if follows_updates(module) or next(_additions(module, ""), None) is not None:
            module.register_load_state_dict_pre_hook(_before_loading)
            module.register_load_state_dict_post_hook(_after_loading)


def forget_checkpoints(model: nn.Module) -> None:
    """Undo ``accept_stock_checkpoints``."""
    for module in model.modules():
        for hooks in (module._load_state_dict_pre_hooks, module._load_state_dict_post_hooks):
            for key, hook in [*hooks.items()]:
                if getattr(hook, "hook", hook) in (_before_loading, _after_loading):
                    del hooks[key]


def _additions(module: nn.Module, prefix: str) -> Iterator[_Addition]:
    """Additions of fxbio to a module and below it, as far as checkpoints have them.

    A module that has several names has as many entries.
    """
    for path, home in module.named_modules(prefix=prefix[:-1], remove_duplicate=False):
        for name in added_names(binding_of(home)):
            key, value = f"{path}.{name}" if path else name, getattr(home, name)
            if isinstance(value, nn.Module):
                state = value.state_dict(prefix=f"{key}.", keep_vars=True)
                yield from (_Addition(home, name, *entry) for entry in state.items())
            elif name not in home._non_persistent_buffers_set:
                yield _Addition(home, name, key, value)


def _before_loading(
    module: nn.Module,
    state: dict[str, Any],
    prefix: str,
    metadata: Any,
    strict: bool,
    missing: list[str],
    *rest: Any,
) -> None:
    """Put into the state what it lacks; report it unless all of it is lacking."""
    additions = [*_additions(module, prefix)]
    lacking = [each for each in additions if each.key not in state]
    if strict and len(lacking) < len(additions):
        missing.extend(each.key for each in lacking)
    for each in lacking:
        state[each.key] = each.value
        state_of(each.home).lacking[each.name] = missing


def _after_loading(module: nn.Module, incompatible: Any) -> None:
    track_updates(module)  # loading is no update, and may have exchanged the parameters
    if STATE not in vars(module):  # it only holds rewritten modules
        return
    state = state_of(module)
    lacking, state.lacking = state.lacking, {}
    for bound in state.binding.weights:
        # The list of missing keys is that of one load: another may have failed half-way.
        if bound.feedback and lacking.get(bound.feedback) is incompatible.missing_keys:
            _draw_again(module, bound)


@torch.no_grad()
def _draw_again(module: nn.Module, bound: BoundWeight) -> None:
    """Draw again from the weights of now what was drawn when the model was transformed."""
    rule, drawn = bound.rule, bound.drawn(module)
    if drawn is None or not rule.remembers:
        return
    generator = feedback_generator(bound.seed, bound.weight)
    fresh = rule.draw(bound.weight_of(module), bound.info, generator)
    assert fresh is not None
    drawn.copy_(fresh)

"""Checkpoints and feedback with a history: a stock checkpoint has none, and still loads strictly.

A checkpoint with all the feedback of a model restores it. One with none of it leaves learned
feedback as it is and makes copies of weights anew. One with a part of it is of another model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fxbio.bind.binding import BINDING, BoundWeight, ModuleBinding
from fxbio.bind.updates import track_updates
from fxbio.ops.transport import parse_rule
from fxbio.rules.draw import feedback_generator

__all__ = ["accept_stock_checkpoints", "forget_checkpoints"]

_RESTART = "_fxbio_restart"
"""Attribute of a module whose feedback was not in the checkpoint that is being loaded."""


def accept_stock_checkpoints(module: nn.Module) -> None:
    """Have a module, and all in it, load checkpoints without feedback."""
    forget_checkpoints(module)
    module.register_load_state_dict_pre_hook(_before_loading)
    module.register_load_state_dict_post_hook(_after_loading)


def forget_checkpoints(module: nn.Module) -> None:
    """Undo ``accept_stock_checkpoints``."""
    for hooks in (module._load_state_dict_pre_hooks, module._load_state_dict_post_hooks):
        for key, hook in [*hooks.items()]:
            if getattr(hook, "hook", hook) in (_before_loading, _after_loading):
                del hooks[key]


def _before_loading(
    module: nn.Module,
    state: dict[str, Any],
    prefix: str,
    metadata: Any,
    strict: bool,
    missing: list[str],
    *rest: Any,
) -> None:
    """Fill the feedback in where the checkpoint has none at all, else say what is missing."""
    homes = [
        (home, {f"{prefix}{path}{'.' if path else ''}{name}": name for name in _kept(home)})
        for path, home in module.named_modules()
    ]
    homes = [(home, keys) for home, keys in homes if keys]
    bare = [(home, keys) for home, keys in homes if not any(key in state for key in keys)]
    for home, keys in bare:
        if len(bare) < len(homes):
            missing.extend(keys)
            continue
        vars(home)[_RESTART] = True
        state.update({key: getattr(home, name) for key, name in keys.items()})


def _after_loading(module: nn.Module, incompatible: Any) -> None:
    if BINDING not in vars(module):
        return
    track_updates(module)  # loading may have exchanged the parameters
    if vars(module).pop(_RESTART, False):
        for bound in getattr(module, BINDING).weights:
            _draw_again(module, bound)


@torch.no_grad()
def _draw_again(module: nn.Module, bound: BoundWeight) -> None:
    """What was drawn when the model was transformed, from the weights of now."""
    rule, drawn = parse_rule(bound.rule), bound.drawn(module)
    if drawn is None or not rule.remembers:
        return
    generator = feedback_generator(bound.seed, bound.weight)
    fresh: Tensor | None = rule.draw(bound.weight_of(module), bound.info, generator)
    assert fresh is not None
    drawn.copy_(fresh)


def _kept(module: nn.Module) -> list[str]:
    """The names of what a module keeps of feedback with a history."""
    binding: ModuleBinding | None = vars(module).get(BINDING)
    weights = () if binding is None else binding.weights
    learned = [w.learned for w in weights if w.learned is not None]
    drawn = [w.feedback for w in weights if w.feedback and parse_rule(w.rule).remembers]
    return learned + drawn

"""The state of a rewritten module: its binding, and what is known of its training so far."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from fxbio.runtime.binding import ModuleBinding

__all__ = ["STATE", "ModuleState", "Watch", "binding_of", "state_of"]

STATE = "_fxbio_state"
"""Attribute of a rewritten module that holds its ``ModuleState``."""


@dataclass
class Watch:
    """Progress of the updates of one module, besides their number."""

    stepped: weakref.WeakSet[Optimizer] = field(default_factory=weakref.WeakSet)
    """Optimizers that made a part of the last update."""
    moved: set[int] = field(default_factory=set)
    """Ids of the parameters that they moved."""
    optimized: bool = False
    """Whether an optimizer of torch has ever moved them."""
    weights_moved: bool = False
    """Whether it was the weights themselves, and not their feedback alone."""
    versions: dict[int, int] | None = None
    """Of the tensors that its weights are made of, by their ids, at the last forward or step."""
    by_hand: int = 0
    """Updates that were counted without an optimizer."""
    written: int = 0
    """Forwards that met written weights since the last step of an optimizer."""
    forwards: int = 0
    """Differentiated forwards since the last update."""
    sample: Tensor | None = None
    """Some entries of a weight as they were then."""
    unfinished: dict[str, Tensor] = field(default_factory=dict)
    """Feedback as it was before the last update, if another optimizer may move its weight too."""


@dataclass
class ModuleState:
    """All that fxbio keeps of one module, besides its feedback."""

    binding: ModuleBinding
    updates: int = 0
    """Updates that its weights have had, if its feedback depends on that."""
    passes: dict[str, int] = field(default_factory=dict)
    """Backward passes since the last update, by the name of the learned feedback."""
    optimizers: dict[str, Any] = field(default_factory=dict)
    """What is known of the training of each learned feedback, by its name."""
    given: set[str] = field(default_factory=set)
    """Attributes with feedback that was set from outside, and that no seed draws again."""
    lacking: dict[str, list[str]] = field(default_factory=dict)
    """Missing keys of the load under way, by the attribute that a checkpoint lacks."""
    watch: Watch | None = None
    """Of a module whose feedback depends on its updates."""

    def __getstate__(self) -> dict[str, Any]:
        """A copy has its own optimizers and loads, so it is watched anew."""
        return {**vars(self), "lacking": {}, "watch": None}


def state_of(module: nn.Module) -> ModuleState:
    """The state of a rewritten module."""
    state: ModuleState = vars(module)[STATE]
    return state


def binding_of(module: nn.Module) -> ModuleBinding:
    """Binding of a module so far; an empty one if nothing is rewritten."""
    state: ModuleState | None = vars(module).get(STATE)
    return ModuleBinding(()) if state is None else state.binding

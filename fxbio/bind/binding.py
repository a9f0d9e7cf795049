"""What a rewritten module carries: the rules of the weights that its forward applies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from fxbio.ops.functional import Backward
from fxbio.rules.fan import WeightInfo

__all__ = [
    "BINDING",
    "FEEDBACK_PREFIX",
    "BoundWeight",
    "Delivery",
    "Head",
    "Mark",
    "ModuleBinding",
    "Routes",
    "Targets",
    "Unit",
    "resolve_attribute",
]

BINDING = "_fxbio_binding"
"""Attribute of a rewritten module that holds its ``ModuleBinding``."""

FEEDBACK_PREFIX = "fxbio_feedback_"
"""Feedback buffers of a rewritten module are called by this and a number."""


@dataclass(frozen=True)
class BoundWeight:
    """The backward path of one weight inside one module."""

    weight: str
    """Qualified name of the weight in the model, for messages and reports."""
    attribute: str
    """Where to find it from the rewritten module: ``weight``, ``qkv.weight``."""
    sources: tuple[str, ...]
    """Attributes of the parameters that it is computed from; itself alone if it is one."""
    constants: tuple[str, ...]
    """Attributes of the buffers that enter that computation."""
    info: WeightInfo
    shape: tuple[int, ...]
    """Shape in which its feedback is drawn."""
    rule: str
    """Spec string of the rule."""
    scale: float
    feedback: str | None
    """Name of the buffer with the drawn part, if there is one."""
    seed: int
    """Seed of the policy, for redraws."""
    computed: bool = False
    """Whether the weight exists only while the forward runs."""

    def backward(self, module: nn.Module) -> Backward:
        """The backward path with the module's current feedback buffer."""
        drawn: Tensor | None = None if self.feedback is None else getattr(module, self.feedback)
        return Backward(self.rule, self.scale, drawn)


@dataclass(frozen=True)
class Mark:
    """A boundary of a module that errors are routed to or from."""

    event: str
    """``enter``, ``leave`` or ``source``."""
    name: str
    """Path of the module."""


@dataclass(frozen=True)
class Head:
    """The classifier that a unit learns from: parameters of the model.

    They are no module, because containers such as ``nn.Sequential`` run every module in them.
    """

    channel_dim: int
    pooled: tuple[int, ...]
    """Positions by dimension that it sees."""
    layers: tuple[tuple[str, str], ...]
    """Attributes with the weight and the bias of each layer."""


@dataclass(frozen=True)
class Unit:
    """A layer or block whose error is routed."""

    name: str
    """Its path."""
    order: int
    """Position in order of execution; where two units run into one tensor the first receives."""
    point: str
    """Where it receives: ``activation``, ``input`` or ``block``; ``exact`` where the error of the
    source reaches it by itself."""
    cut: bool
    """Whether nothing else that reads what has received sends an error back."""
    decided_by: str
    """The line of the policy."""
    head: Head | None = None
    """The classifier that it learns from."""


class Delivery(NamedTuple):
    """How the error of one source reaches one receiver."""

    projection: str
    """Spec string."""
    matrix: str
    """Attribute of the model with the feedback matrix."""
    targets: bool
    """Whether the labels are sent instead of the error."""
    mean: bool
    """Whether the loss is the mean over the batch, where that matters."""


@dataclass(frozen=True)
class Routes:
    """Where a model routes errors."""

    units: Mapping[str, Unit]
    sources: tuple[str, ...]
    """Paths of the modules whose output's error is sent; empty for the model's output."""
    deliveries: Mapping[tuple[str, str], Delivery]
    """By the names of source and receiver."""


@dataclass(frozen=True)
class Targets:
    """The blocks of a model that learn from targets."""

    units: Mapping[str, str]
    """Path of the ``BlockTarget``, by the path of the module that a block begins with."""
    ends: tuple[str, ...]
    """Modules of other rules whose input is the output of such a block."""


@dataclass(frozen=True)
class ModuleBinding:
    """All that is rewritten in one module."""

    weights: tuple[BoundWeight, ...]
    frozen: tuple[str, ...] = ()
    """Attributes of parameters whose ``requires_grad`` the rule switched off."""
    marks: tuple[Mark, ...] = ()
    """What the scope that routes errors is told when the module runs."""
    routes: Routes | None = None
    """Of the model itself: where errors are routed to."""
    targets: Targets | None = None
    """Of the model itself: its blocks that learn from targets."""
    attached: tuple[str, ...] = ()
    """Attributes of the module that were added besides the feedback of its weights."""


def resolve_attribute(module: nn.Module, path: str) -> Any:
    """The attribute at a dotted path."""
    value: Any = module
    for part in path.split("."):
        value = getattr(value, part)
    return value

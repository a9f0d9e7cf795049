"""Binding of a rewritten module: the rules of the weights that its forward applies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, nn

from fxbio.rules.feedback_rule import FeedbackRule
from fxbio.rules.weight_info import WeightInfo
from fxbio.runtime.sharding import gathered
from fxbio.semantics.error_routing import Unit

__all__ = [
    "FEEDBACK_PREFIX",
    "BoundWeight",
    "Delivery",
    "Installation",
    "Mark",
    "ModuleBinding",
    "Routes",
    "Targets",
    "added_names",
    "resolve_attribute",
]

FEEDBACK_PREFIX = "fxbio_feedback_"
"""Feedback of a rewritten module, be it a buffer or a parameter, is called by this and a number.
Where a rule both draws and learns, the drawn part has ``_drawn`` behind it."""


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
    rule: FeedbackRule
    scale: float
    feedback: str | None
    """Name of the buffer with the drawn part, if there is one."""
    seed: int
    """Seed of the policy, for redraws."""
    computed: bool = False
    """Whether the weight exists only while the forward runs."""
    looked_up: bool = False
    """Whether look-ups of its rows run the rule."""
    multiplied: bool = True
    """Whether all other operations with it do. A table that is a head too may have it in one."""
    applied: bool = False
    """Whether layers apply it to parameters or constants, the results being activations."""
    learned: str | None = None
    """Name of the parameter with the learned part, if there is one."""
    decided_by: str = ""
    """The line of the policy that gave it its rule, for messages."""
    meets_activations: bool = False
    """Whether the captured pass adds, multiplies or selects it with an activation besides."""
    spec: str = field(init=False)
    """Spec string of the rule, as ops take it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "spec", self.rule.spec())

    @property
    def stored(self) -> bool:
        """True if anything of its feedback is kept in the module."""
        return self.feedback is not None or self.learned is not None

    def path(self, module: nn.Module) -> Tensor | None:
        """The drawn part of the feedback weight, or what is made of it and the learned part."""
        drawn = self.drawn(module)
        if self.learned is None:
            return drawn
        learned = gathered(getattr(module, self.learned))
        return self.rule.path(learned, drawn, self.info)

    def drawn(self, module: nn.Module) -> Tensor | None:
        """The drawn part of the feedback weight."""
        return None if self.feedback is None else getattr(module, self.feedback)

    def weight_of(self, module: nn.Module) -> Tensor:
        """The forward weight itself, without its history; a sharded one is gathered."""
        weight: Tensor = resolve_attribute(module, self.attribute)
        return gathered(weight.detach())

    def parameter(self, module: nn.Module, source: str) -> Tensor:
        """One of the parameters that the weight is computed from."""
        value: Tensor = resolve_attribute(module, source)
        return value

    @property
    def has_history(self) -> bool:
        """True if the feedback comes of the past and not of a seed alone."""
        return self.learned is not None or self.rule.remembers


@dataclass(frozen=True)
class Mark:
    """A boundary of a module that errors are routed to or from."""

    event: str
    """``enter``, ``leave`` or ``source``."""
    name: str
    """Path of the module."""
    why: str = ""
    """What needs it, with the line of the policy, for messages."""


class Delivery(NamedTuple):
    """Delivery of the error of one source to one receiver."""

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
    """Error routes of a model."""

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
    told: set[str] = field(default_factory=set, compare=False)
    """Warnings that were given of the model; one set for all of its modules."""


@dataclass(frozen=True)
class Installation:
    """Bindings of all modules of a model, and the tensors and modules that they need for it."""

    bindings: Mapping[str, ModuleBinding]
    """By the path of the module."""
    state: Mapping[str, Tensor]
    """Parameters and buffers by their qualified names."""
    modules: Mapping[str, nn.Module]
    """Likewise."""


def added_names(binding: ModuleBinding) -> tuple[str, ...]:
    """Attributes of a rewritten module that the stock one does not have."""
    feedback = (name for w in binding.weights for name in (w.feedback, w.learned))
    return (*(name for name in feedback if name is not None), *binding.attached)


def resolve_attribute(module: nn.Module, path: str) -> Any:
    """The attribute at a dotted path."""
    value: Any = module
    for part in path.split("."):
        value = getattr(value, part)
    return value

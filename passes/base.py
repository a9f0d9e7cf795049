"""What a pass is, and what it works on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import fx, nn

from fxbio.bind.build import FeedbackSpec, PendingModule
from fxbio.errors import PassError
from fxbio.graph.inputs import ExampleInputs
from fxbio.graph.model_graph import ModelGraph
from fxbio.policy import Plan, Policy
from fxbio.rules.spec import format_spec

__all__ = ["Pass", "PassResult", "Program"]


@dataclass
class Program:
    """A model on its way through the passes. Each pass fills in what the next ones need."""

    model: nn.Module
    """The module that will be changed."""
    graph: ModelGraph
    inputs: ExampleInputs
    policy: Policy | None = None
    plan: Plan | None = None
    feedback: dict[str, FeedbackSpec] = field(default_factory=dict)
    """Backward path of each rewritten site, by the name of the site."""
    pending: dict[str, PendingModule] = field(default_factory=dict)
    """What each module is going to carry, by its path."""
    rewritten: dict[str, fx.Graph] = field(default_factory=dict)
    """Graphs with rule ops in them, by the path of the island; the empty path is the whole."""
    bound: bool = False
    """Whether the model runs its rules."""
    emitted: dict[str, fx.GraphModule] = field(default_factory=dict)
    """Islands as graph modules, for reading and for graph tools."""

    def planned(self) -> Plan:
        """The plan.

        Raises:
            PassError: when no pass has made one yet.
        """
        if self.plan is None:
            raise PassError("there is no plan yet", help="run assign-rules before this pass")
        return self.plan


@dataclass(frozen=True)
class PassResult:
    """What a pass did."""

    modified: bool
    summary: str
    """One line for people: how many of what."""


@dataclass(frozen=True)
class Pass:
    """A step of the compiler. Its fields are its options; it prints to and parses from a spec.

    A pass may assume a consistent program and must leave one. Override ``run``; ``requires`` and
    ``ensures`` raise ``PassError`` when something is missing before or wrong after it.
    """

    name: ClassVar[str] = ""
    """Name in a pipeline, in kebab case; set by ``register_pass``."""

    def requires(self, program: Program) -> None:
        """Check what must hold before the pass."""

    def run(self, program: Program) -> PassResult:
        """Do the work, changing ``program`` in place."""
        raise NotImplementedError(f"pass '{self.name}' does not define run()")

    def ensures(self, program: Program) -> None:
        """Check what must hold after the pass."""

    def options(self) -> dict[str, Any]:
        """The options and their values."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def __str__(self) -> str:
        return format_spec(self.name, self.options())

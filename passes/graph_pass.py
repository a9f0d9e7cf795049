"""Base class of passes, and the program that they work on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from torch import fx, nn

from fxbio.errors import PassError
from fxbio.graph.model_graph import ModelGraph
from fxbio.lowering.feedback import FeedbackSpec
from fxbio.lowering.lowered_graph import LoweredGraph
from fxbio.lowering.routing import Routing
from fxbio.models.inputs import ExampleInputs
from fxbio.policy import Plan, Policy
from fxbio.rules import Family
from fxbio.rules.spec import format_spec

__all__ = ["Pass", "PassResult", "Program", "require_routing"]


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
    routing: Routing | None = None
    """Where errors are routed, once ``route-errors`` has read it off the graph."""
    bound: bool = False
    """Whether the model runs its rules."""
    emitted: dict[str, fx.GraphModule] = field(default_factory=dict)
    """Islands as graph modules, for reading and for graph tools."""

    @cached_property
    def lowered(self) -> LoweredGraph:
        """The graph that passes rewrite; a copy of the captured one at first."""
        return LoweredGraph.of(self.graph)

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
    """Report of a pass."""

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


def require_routing(program: Program, family: Family, step: Pass) -> None:
    """Check that the graph is cut where the rules of a family receive their errors.

    Raises:
        PassError: naming the pass that does it.
    """
    if program.planned().rewritten(family) and program.routing is None:
        raise PassError(
            "no error is routed in the graph yet", help=f"run route-errors before {step.name}"
        )

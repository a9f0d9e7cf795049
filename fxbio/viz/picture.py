"""Contents of a picture, whatever format it is written in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fxbio.rules.learning_rule import Transport
from fxbio.viz.colours import NEUTRAL
from fxbio.viz.svg import svg

__all__ = ["Detail", "Edge", "EdgeKind", "LegendEntry", "Level", "Node", "Passage", "Picture"]

Level = Literal["block", "site"]
"""``block``: modules that repeat are one box each. ``site``: every weight is a box."""

NodeKind = Literal["input", "box", "join", "output"]

EdgeKind = Literal["forward", "feedback", "direct"]
"""``forward``: activations. ``feedback``: the error that a node sends to the one before it.
``direct``: the error that a broadcast rule takes straight from its source."""


@dataclass(frozen=True)
class Detail:
    """One site of a box, in words."""

    site: str
    op: str
    weight: str
    input: str
    output: str
    parameters: int
    rule: str
    decided_by: str


@dataclass(frozen=True)
class Passage:
    """Crossing of the error at those sites of a box that share a rule."""

    rule: str
    """Label of the rule, a key of the legend."""
    carrier: str
    """What carries the error: ``W``, ``sign W``, ``B drawn`` …"""
    transports: Transport
    """What it reads of the forward weight."""
    sites: tuple[str, ...]
    used: bool
    """False for layers below which nothing learns: they send no error."""
    reached: bool
    """False where no error arrives, as below a ``stop``."""


@dataclass(frozen=True)
class Node:
    """A box of the forward path, with its passages on the feedback path beside it."""

    id: str
    kind: NodeKind
    title: str
    subtitle: str = ""
    repeat: int = 1
    """How many boxes of this kind follow one another in its place."""
    passages: tuple[Passage, ...] = ()
    details: tuple[Detail, ...] = ()


@dataclass(frozen=True)
class Edge:
    """An arrow between two nodes, in the direction of what flows."""

    source: str
    target: str
    kind: EdgeKind
    rule: str = ""
    """Label of the rule that sends it; empty for activations and for the error of the loss."""
    carrier: str = ""


@dataclass(frozen=True)
class LegendEntry:
    """A rule with its colour and how much it trains."""

    rule: str
    colour: str
    """``#rrggbb``."""
    sites: int
    share: float
    """Of the parameters of all sites."""


@dataclass(frozen=True)
class Picture:
    """Nodes in order of execution, the edges between them, and what the colours mean."""

    title: str
    subtitle: str
    level: Level
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    legend: tuple[LegendEntry, ...]
    undrawn: tuple[str, ...] = ()
    """Modules that apply weights where no rule reaches. They have no box, and keep backprop."""

    @property
    def heading(self) -> tuple[str, ...]:
        """The lines below the title."""
        if not self.undrawn:
            return (self.subtitle,)
        more = len(self.undrawn) - _NAMED
        named = ", ".join(self.undrawn[:_NAMED]) + (f" and {more} more" if more > 0 else "")
        return (self.subtitle, f"no rule reaches {named}: bp, and no box")

    def colour(self, rule: str) -> str:
        """Colour of a rule's label; that of text lines without a rule."""
        return next((entry.colour for entry in self.legend if entry.rule == rule), NEUTRAL)

    def node(self, id: str) -> Node:
        """The node of an id.

        Raises:
            KeyError: if there is none.
        """
        for node in self.nodes:
            if node.id == id:
                return node
        raise KeyError(id)

    def _repr_svg_(self) -> str:
        return svg(self)


_NAMED = 3
"""A heading names so many modules, and counts the others."""

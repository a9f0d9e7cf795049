"""Derivatives that a forward takes itself, and the uses of weights that they cross.

Forces from an energy, Hamiltonian networks, gradient penalties, inner loops of meta-learning: what
``torch.autograd.grad`` gives there is part of the outputs, so no rule may change its way back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import fx
from torch._C._functorch import TransformType
from torch._functorch.pyfunctorch import retrieve_all_functorch_interpreters
from torch.autograd import forward_ad

from fxbio.errors import CaptureError
from fxbio.graph.trace import RawUse
from fxbio.site import Origin
from fxbio.source_locations import user_origin

__all__ = ["Derivative", "refuse_functorch", "without_rules"]


@dataclass(frozen=True)
class Derivative:
    """One call that went back through what the forward had done so far."""

    outputs: tuple[fx.Node, ...]
    inputs: tuple[fx.Node, ...] | None
    """What was differentiated by; ``None`` for everything."""
    names: frozenset[str]
    """Parameters among the inputs."""
    origin: Origin | None

    @property
    def reason(self) -> str:
        """Explanation why no rule can be installed at what it crosses."""
        return f"the forward takes a derivative through it ({self.origin}), which has to be exact"

    def crosses(self, uses: Iterable[RawUse]) -> frozenset[str]:
        """The parameters applied between its inputs and its outputs."""
        behind = _before(self.outputs)
        nodes = behind if self.inputs is None else behind & self._after(uses)
        return frozenset(name for use in uses if use.node in nodes for name in use.sources)

    def _after(self, uses: Iterable[RawUse]) -> set[fx.Node]:
        """Nodes computed from the inputs; of parameters, the operations that apply them too."""
        own = {use.node for use in uses if use.sources & self.names}
        return own | _users([*(self.inputs or ()), *own])


def without_rules(uses: list[RawUse], derivatives: Iterable[Derivative]) -> list[RawUse]:
    """The same uses; out of reach of rules are those of weights that a derivative crosses."""
    crossed: dict[str, str] = {}
    for derivative in derivatives:
        crossed |= dict.fromkeys(derivative.crosses(uses), derivative.reason)
    return [replace(use, unreachable=_obstacle(use, crossed)) for use in uses]


def _obstacle(use: RawUse, crossed: dict[str, str]) -> str | None:
    """A weight has one rule, so all of its uses keep backprop with the one that is crossed."""
    reasons = [crossed[name] for name in sorted(use.sources) if name in crossed]
    return use.unreachable or next(iter(reasons), None)


def refuse_functorch() -> None:
    """Check that no derivative of ``torch.func`` and none in forward mode is being taken.

    Raises:
        CaptureError: when one is, with the line.
    """
    keys = {interpreter.key() for interpreter in retrieve_all_functorch_interpreters()}
    functorch = bool(keys & {TransformType.Grad, TransformType.Jvp})
    if not functorch and forward_ad._current_level < 0:
        return
    kind = "by torch.func" if functorch else "in forward mode"
    raise CaptureError(
        f"the forward takes a derivative {kind}, and capture cannot follow it",
        notes=[f"through the operation at {user_origin()}"],
        help="take it by torch.autograd.grad(..., create_graph=True): the layers that it crosses "
        "keep backprop, and all others can have rules",
    )


def _users(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """All that is computed from nodes, themselves left out."""
    queue, seen = list(nodes), set[fx.Node]()
    while queue:
        fresh = [user for user in queue.pop().users if user not in seen]
        seen.update(fresh)
        queue += fresh
    return seen


def _before(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """Nodes and all that autograd goes back to from them."""
    queue = list(nodes)
    seen = set(queue)
    while queue:
        node = queue.pop()
        sources = [] if node.target in _CUTS else node.all_input_nodes
        fresh = [source for source in sources if source not in seen]
        seen.update(fresh)
        queue += fresh
    return seen


_CUTS = {"detach", torch.detach}

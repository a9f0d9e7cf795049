"""Origin of the error of each site: its neighbour downstream, or further away."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch

from fxbio.analysis.step_trace import Step, StepTrace
from fxbio.analysis.traced_sites import Use
from fxbio.analysis.weight_transport import Meeting, used_values

__all__ = ["LABELS", "LOSS", "ErrorFlow", "Source"]

LOSS, LABELS = "the loss", "the labels"

_SCALING = {torch.ops.aten.mul, torch.ops.aten.div}
_RECOVERED = torch.ops.fxbio.recovered_labels
_PASSING = {torch.ops.fxbio.broadcast, torch.ops.fxbio.add_loss}
"""Operations whose result is their first operand; what else they take does not flow on."""


@dataclass(frozen=True)
class Source:
    """Sender of an error to a site."""

    name: str
    """A site, the loss, or the labels."""
    neighbour: bool
    """Whether no other site lies between."""


class ErrorFlow:
    """The paths of errors through the backward pass of one training step."""

    def __init__(self, trace: StepTrace, uses: list[Use], meetings: list[Meeting]) -> None:
        self._trace = trace
        self._layers = [use for use in uses if use.site.op != "norm"]
        self._layer_of = {node: use.site.name for use in self._layers for node in use.nodes}
        self._norms = {node for use in uses if use.site.op == "norm" for node in use.nodes}
        self._carried = {id(m.step) for m in meetings}
        used = used_values(trace, trace.gradients.values())
        backward = [step for step in trace.backward() if used.intersection(step.writes)]
        self._steps_of: dict[int, list[Step]] = defaultdict(list)
        for step in backward:
            self._steps_of[step.node].append(step)
        self._maker = {value: step for step in backward for value in step.writes}
        self._readers = _readers(trace, backward)
        self._forward_readers = _readers(trace, list(trace.forward()))

    def sources(self, use: Use) -> list[Source]:
        """Origins of the error of a site; an empty list where none arrives."""
        near = self._neighbours(use)
        names = {name: name in near for name in sorted(self._senders(use, near))}
        return [Source(name, neighbour) for name, neighbour in names.items()]

    def _neighbours(self, use: Use) -> set[str]:
        """The sites that read the output of a site with no other one between, or the loss."""
        found, seen, queue = set(), set(use.outputs), list(use.outputs)
        makers = {value: other.site.name for other in self._layers for value in other.outputs}
        while queue:
            value = queue.pop()
            if value == self._trace.loss:
                found.add(LOSS)
            for step in self._forward_readers[value]:
                if step.op.overloadpacket in _PASSING and value != step.reads[0][1]:
                    continue
                reached = {makers[v] for v in step.writes if v in makers}
                found |= reached
                fresh = [] if reached else [v for v in step.writes if v not in seen]
                seen.update(fresh)
                queue += fresh
        return found

    def _senders(self, use: Use, near: set[str]) -> set[str]:
        """Walk up from the error of a site to the first ones that had it."""
        found: set[str] = set()
        queue = [(value, False) for value in self._arriving(use)]
        seen = set(queue)
        while queue:
            value, projected = queue.pop()
            at = self._sites_at(value) if projected else self._readers_of(value) & near
            step = self._maker.get(value)
            if at - {use.site.name}:
                found |= at & near or at - {use.site.name}
            elif step is None:
                found.add(LOSS)
            elif step.op.overloadpacket is _RECOVERED:
                found.add(LABELS)
            elif step.node in self._layer_of:
                found.add(self._layer_of[step.node])
            else:
                above = [(v, projected or self._is_hop(step)) for v in self._trace.errors(step)]
                fresh = [item for item in above if item not in seen]
                seen.update(fresh)
                queue += fresh
        return found

    def _arriving(self, use: Use) -> set[int]:
        """The errors that the backward pass of a site reads and has not made itself."""
        own = [step for node in use.nodes for step in self._steps_of[node]]
        made = {value for step in own for value in step.writes}
        return {value for step in own for value in self._trace.errors(step)} - made

    def _readers_of(self, value: int) -> set[str]:
        nodes = (step.node for step in self._readers[value])
        return {self._layer_of[node] for node in nodes if node in self._layer_of}

    def _sites_at(self, value: int) -> set[str]:
        """The sites that an error arrives at without being carried through a matrix before."""
        found: set[str] = set()
        seen, queue = {value}, [value]
        while queue:
            value = queue.pop()
            found |= self._readers_of(value)
            passing = [s for s in self._readers[value] if not self._is_hop(s)]
            fresh = {v for s in passing if s.node not in self._layer_of for v in s.writes} - seen
            seen |= fresh
            queue += fresh
        return found

    def _is_hop(self, step: Step) -> bool:
        """True if it carries an error on by a parameter or buffer that is no mere scale."""
        scales = step.op.overloadpacket in _SCALING or step.node in self._norms
        return id(step) in self._carried and not scales


def _readers(trace: StepTrace, steps: list[Step]) -> dict[int, list[Step]]:
    found: dict[int, list[Step]] = defaultdict(list)
    for step in steps:
        for _, value in step.reads:
            found[value].append(step)
    return found

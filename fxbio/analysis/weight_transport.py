"""Meetings of a forward weight and an error in the backward pass, and what is read of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fxbio.analysis.step_trace import Step, StepTrace
from fxbio.analysis.traced_sites import weight_side
from fxbio.analysis.value_facts import Level, is_additive

__all__ = ["Meeting", "find_meetings", "used_values"]


@dataclass(frozen=True)
class Meeting:
    """An operation of the backward pass in which an error meets what carries it on."""

    step: Step
    name: str
    """Of a parameter or buffer that the carrier is computed from."""
    level: Level
    """What the carrier tells about it."""
    learns: bool
    """Whether any parameter learns from the result, and not the input of the model alone."""


def find_meetings(trace: StepTrace) -> list[Meeting]:
    """The parameters and buffers that errors are multiplied with, in used results only.

    What only depends on parameters and is added to an error, or meets the gradient of a weight, as
    under weight decay or weight normalisation, carries no error from layer to layer.
    """
    used = used_values(trace, [*trace.gradients.values(), *trace.input_gradients])
    learned = used_values(trace, trace.gradients.values())
    skipped = weight_side(trace)
    found = []
    for step in trace.backward():
        if not used.intersection(step.writes) or step.node in skipped:
            continue
        learns = bool(learned.intersection(step.writes))
        for position, value in step.reads:
            facts = trace.facts[value]
            if is_additive(step.op, position) or facts.error or facts.data:
                continue
            found += [Meeting(step, name, level, learns) for name, level in facts.names.items()]
    return found


def used_values(trace: StepTrace, wanted: Iterable[int]) -> set[int]:
    """All values that the wanted ones are computed from, themselves included."""
    used = set(wanted)
    for step in reversed(trace.steps):
        if used.intersection(step.writes):
            used.update(value for _, value in step.reads)
    return used

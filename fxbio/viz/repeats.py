"""Boxes that follow one another and are alike become one, with a count."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fxbio.viz.boxes import Box
from fxbio.viz.crossings import Crossing
from fxbio.viz.wiring import Wiring

__all__ = ["absorb_residuals", "collapse_repeats", "joint_name"]

_FEWEST = 3
"""A pair is as quickly read as a count."""


def absorb_residuals(wiring: Wiring, boxes: Mapping[str, Box]) -> None:
    """Move the sum of a residual into the box that it adds to: a chain stays a chain."""
    for join in list(wiring.joins):
        before = list(wiring.graph.predecessors(join))
        for box in before:
            others = [vertex for vertex in before if vertex != box]
            if (
                box in boxes
                and len(others) == 1
                and list(wiring.graph.successors(box)) == [join]
                and list(wiring.graph.predecessors(box)) == others
            ):
                wiring.merge(join, box)
                break


def collapse_repeats(
    wiring: Wiring, boxes: Mapping[str, Box], crossings: Mapping[str, Crossing]
) -> dict[str, Box]:
    """Boxes by key, runs of alike ones replaced by their first, in the wiring too.

    Args:
        wiring: is changed.
        boxes: by key.
        crossings: of errors, by the name of the site.
    """
    kept = dict(boxes)
    residual = set(wiring.merged.values())
    signatures = {key: (key in residual, _signature(box, crossings)) for key, box in boxes.items()}
    for run in _runs(wiring, signatures):
        first = boxes[run[0]]
        for key in run[1:]:
            wiring.merge(key, run[0])
            del kept[key]
        assignments = tuple(a for key in run for a in boxes[key].assignments)
        kept[run[0]] = replace(first, assignments=assignments, members=tuple(run))
    return kept


def _runs(wiring: Wiring, signatures: Mapping[str, Any]) -> list[list[str]]:
    runs: list[list[str]] = []
    seen: set[str] = set()
    for key in signatures:
        if key in seen:
            continue
        run = [key]
        while (following := _next_in_chain(wiring, run[-1])) in signatures:
            if signatures[following] != signatures[key] or following in run:
                break
            run.append(following)
        seen.update(run)
        if len(run) >= _FEWEST:
            runs.append(run)
    return runs


def _next_in_chain(wiring: Wiring, vertex: str) -> str:
    """The only vertex behind one, if nothing else feeds it; else an empty string."""
    following = list(wiring.graph.successors(vertex))
    if len(following) != 1 or wiring.graph.in_degree(following[0]) != 1:
        return ""
    return str(following[0])


def _signature(box: Box, crossings: Mapping[str, Crossing]) -> list[Any]:
    """All that can be seen of a box but where it is."""
    return [
        (
            box.module and a.site.name.removeprefix(box.module),
            (a.site.type, a.site.op, a.site.shape, a.site.groups),
            (a.site.input_shape, a.site.output_shape),
            (a.rule, repr(a.options), a.decided_by, crossings[a.site.name]),
        )
        for a in box.ruled
    ]


def joint_name(names: Sequence[str]) -> str:
    """``layer3.{1…35}`` for ``layer3.1``, …, ``layer3.35``."""
    first, last = (re.split(r"(\d+)", name) for name in (names[0], names[-1]))
    differing = [i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b]
    if len(first) != len(last) or len(differing) != 1:
        return f"{names[0]} … {names[-1]}" if len(names) > 1 else names[0]
    place = differing[0]
    first[place] = f"{{{first[place]}…{last[place]}}}"
    return "".join(first)

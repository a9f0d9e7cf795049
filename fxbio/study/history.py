"""History of a run: its metric, its loss and its angles over the epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from fxbio.train.output.run_folder import RunFolder
from fxbio.train.output.tail import read_lines

__all__ = ["GRADIENT_ANGLE", "LOSS", "WEIGHT_ANGLE", "History", "Points", "read_history"]

Points = Sequence[tuple[float, float]]
"""Epochs and values, in the order of training; all are finite."""

History = Mapping[str, Points]
"""The curves of a run by what they show; what was not written down is missing."""

LOSS = "training loss"
WEIGHT_ANGLE = "angle between W and B"
GRADIENT_ANGLE = "angle to the gradient of backprop"

_LARGEST = 1e100
"""Above it sums of squares may not be finite."""

_EQUAL = 0.1
"""Degrees below which two directions are the same but for rounding."""


def read_history(run: RunFolder, metric: str) -> History:
    """The curves of a run, as far as it came.

    Angles are the mean over the weights for which they are ever different from zero: those that
    the rule has to do with.

    Args:
        run: its folder.
        metric: of its evaluations.
    """
    lines = list(read_lines(run.metrics))
    alignment = list(read_lines(run.path / "alignment.jsonl"))
    pace = _pace(lines)
    curves = {
        metric: _curve(lines, "eval", metric),
        LOSS: _curve(lines, "train", "loss"),
        WEIGHT_ANGLE: _mean_angles(alignment, _weight_angle, pace),
        GRADIENT_ANGLE: _mean_angles(alignment, _gradient_angle, pace),
    }
    return {name: points for name, points in curves.items() if points}


def _pace(lines: Sequence[Mapping[str, Any]]) -> float:
    """Epochs that a step takes, by the last line that says both."""
    for line in reversed(lines):
        epoch, step = _number(line, "epoch"), _number(line, "step")
        if epoch is not None and step:
            return epoch / step
    return 0.0


def _number(line: Mapping[str, Any], key: str) -> float | None:
    """A finite number that fits into a float; ``None`` for anything else that a file may hold."""
    value = line.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < _LARGEST else None


def _curve(lines: Iterable[Mapping[str, Any]], kind: str, key: str) -> Points:
    found = ((_number(line, "epoch"), _number(line, key)) for line in lines if _is(line, kind))
    return [(epoch, value) for epoch, value in found if epoch is not None and value is not None]


def _is(line: Mapping[str, Any], kind: str) -> bool:
    return line.get("kind") == kind


def _weight_angle(line: Mapping[str, Any]) -> float | None:
    return _number(line, "weight_angle")


def _gradient_angle(line: Mapping[str, Any]) -> float | None:
    cosine = _number(line, "gradient_cosine") if line.get("valid") else None
    return None if cosine is None else math.degrees(math.acos(max(-1.0, min(1.0, cosine))))


def _mean_angles(
    lines: Iterable[Mapping[str, Any]],
    angle: Callable[[Mapping[str, Any]], float | None],
    pace: float,
) -> Points:
    """The mean over sites, step by step.

    Args:
        lines: of ``alignment.jsonl``.
        angle: what to read in a line, in degrees.
        pace: epochs that a step takes.
    """
    sites: dict[str, dict[float, float]] = {}
    for line in lines:
        degrees, step = angle(line), _number(line, "step")
        if degrees is not None and step is not None:
            sites.setdefault(str(line.get("site")), {})[step] = degrees
    turned = [steps for steps in sites.values() if max(steps.values()) > _EQUAL]
    steps = sorted({step for found in turned for step in found})
    return [(step * pace, fmean(s[step] for s in turned if step in s)) for step in steps]

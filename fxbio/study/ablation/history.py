"""What a run wrote down on its way: its metric, its loss and its angles over the epochs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from fxbio.train.output.folder import RunFolder

__all__ = ["GRADIENT_ANGLE", "LOSS", "WEIGHT_ANGLE", "History", "Points", "read_history"]

Points = Sequence[tuple[float, float]]
"""Epochs and values, in the order of training; all are finite."""

History = Mapping[str, Points]
"""The curves of a run by what they show; what was not written down is missing."""

LOSS = "training loss"
WEIGHT_ANGLE = "angle between W and B"
GRADIENT_ANGLE = "angle to the gradient of backprop"

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
    lines = list(_lines(run.metrics))
    alignment = list(_lines(run.path / "alignment.jsonl"))
    pace = lines[-1]["epoch"] / lines[-1]["step"] if lines else 0.0
    curves = {
        metric: _curve(lines, "eval", metric),
        LOSS: _curve(lines, "train", "loss"),
        WEIGHT_ANGLE: _mean_angles(alignment, _weight_angle, pace),
        GRADIENT_ANGLE: _mean_angles(alignment, _gradient_angle, pace),
    }
    return {name: points for name, points in curves.items() if points}


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines: the last one of a run that was killed may be torn."""
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def _curve(lines: Iterable[Mapping[str, Any]], kind: str, key: str) -> Points:
    found = ((line["epoch"], line[key]) for line in lines if line["kind"] == kind and key in line)
    return [(epoch, value) for epoch, value in found if math.isfinite(value)]


def _weight_angle(line: Mapping[str, Any]) -> float | None:
    angle: float | None = line["weight_angle"]
    return angle


def _gradient_angle(line: Mapping[str, Any]) -> float | None:
    cosine = line["gradient_cosine"] if line["valid"] else None
    return None if cosine is None else math.degrees(math.acos(cosine))


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
    sites: dict[str, dict[int, float]] = {}
    for line in lines:
        degrees = angle(line)
        if degrees is not None:
            sites.setdefault(line["site"], {})[line["step"]] = degrees
    turned = [steps for steps in sites.values() if max(steps.values()) > _EQUAL]
    steps = sorted({step for found in turned for step in found})
    return [(step * pace, fmean(s[step] for s in turned if step in s)) for step in steps]

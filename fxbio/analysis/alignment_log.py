"""Alignment in the course of training: one JSON line for each site and measurement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn

from fxbio.analysis.alignment import alignment
from fxbio.analysis.alignment_report import Alignment
from fxbio.files.reading import open_to_append

__all__ = ["log_alignment"]


def log_alignment(
    file: str | Path, step: int, model: nn.Module, inputs: Any, targets_or_loss: Any
) -> Alignment:
    """Measure the alignment of a model and append it to a file, a line for each site.

    A training loop calls it every few steps, on the process that writes, with the model itself and
    not what DDP wraps around it. The lines are written at once.

    Args:
        file: of JSON lines, made if it is not there.
        step: of the optimizer, a column of each line.
        model: as for ``alignment``, like the next two.
        inputs: a batch; the same each time, for curves without noise.
        targets_or_loss: of that batch.
    """
    found = alignment(model, inputs, targets_or_loss)
    lines = [json.dumps({"step": step, **row}) + "\n" for row in found.records()]
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_to_append(path) as stream:
        stream.write("".join(lines))
    return found

"""Results of a study with two axes, and runs, with numbers that can be worked out by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

from fxbio.study.cells import Cell
from fxbio.study.rows import Row
from fxbio.study.study_folder import Index
from fxbio.study.summary import StudyResults, summarise

__all__ = ["aligned", "index", "results", "row", "write_lines", "write_run"]


def row(run: str, seed: int, value: float, **others: object) -> Row:
    values: dict[str, object] = {"state": "done", "step": 10, **others}
    return Row(run, seed, metrics={"top1": value}, **values)  # type: ignore[arg-type]


def index() -> Index:
    cells = (
        Cell("", "base", "", "version: 1\ndefault: bp\n", "base"),
        Cell("each_layer & more", "a", "fa", "version: 1\ndefault: fa\n", "each/a/fa"),
        Cell("each_layer & more", "b", "fa", "version: 1\ndefault: usf\n", "each/b/fa"),
        Cell("below", "up to a", "fa", "version: 1\ndefault: fa\n", "each/a/fa"),
    )
    return Index("study", "Net", "top1", {}, (0, 1, 2), cells, ("below",))


def results() -> StudyResults:
    """The base has 0.8, 0.9, 1.0; a has 0.5, 0.7 and a failure; b diverged, and has more to do."""
    rows = [
        *(row("base", seed, value) for seed, value in enumerate((0.8, 0.9, 1.0))),
        row("each/a/fa", 0, 0.5, angle=80.0),
        row("each/a/fa", 1, 0.7, angle=90.0),
        row("each/a/fa", 2, 0.1, state="failed", error="no <memory>\nat all"),
        row("each/b/fa", 0, 0.1, state="diverged", error="not finite"),
    ]
    return summarise(index(), {found.key: found for found in rows})


def write_run(run: Path, epochs: int, steps: int = 10, alignment: bool = True) -> None:
    """A run whose metric goes from 0 to 1, whose loss is 10 above the epoch, and whose B turns."""
    run.mkdir(parents=True)
    train = [
        {"kind": "train", "step": step, "epoch": step / steps, "loss": 10 + step / steps}
        for step in range(1, epochs * steps + 1)
    ]
    evaluations = [
        {"kind": "eval", "step": e * steps, "epoch": e, "loss": 0.5, "top1": e / epochs}
        for e in range(1, epochs + 1)
    ]
    write_lines(run / "metrics.jsonl", [*train, *evaluations])
    if alignment:
        write_lines(
            run / "alignment.jsonl", [aligned(e * steps, "a", 90 - e) for e in range(epochs)]
        )


def aligned(step: int, site: str, angle: float | None, valid: bool = True) -> dict[str, object]:
    cosine = math.cos(math.radians(angle or 0.0))
    return dict(step=step, site=site, weight_angle=angle, gradient_cosine=cosine, valid=valid)


def write_lines(path: Path, lines: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))

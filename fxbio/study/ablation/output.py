"""The files that a study ends in."""

from __future__ import annotations

from pathlib import Path

from fxbio.study.ablation.summary import StudyResults
from fxbio.study.ablation.tables import csv_text, latex, markdown
from fxbio.train.output.folder import write_text

__all__ = ["write_results"]


def write_results(results: StudyResults, folder: Path) -> None:
    """Write the tables of a study."""
    write_text(folder / "results.md", markdown(results))
    write_text(folder / "results.csv", csv_text(results))
    write_text(folder / "results.tex", latex(results))

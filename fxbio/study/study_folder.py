"""The folder of a study."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fxbio.errors import ConfigError, RecordError
from fxbio.files.reading import open_to_append, read_json
from fxbio.files.typed_json import from_json
from fxbio.files.yaml_scalars import to_yaml
from fxbio.policy.policy import Policy
from fxbio.study.cells import BASE, Cell, slug
from fxbio.study.run_cell import CellRun
from fxbio.train.config import Recipe, recipe_dict
from fxbio.train.output.run_folder import make_folder, write_text

__all__ = ["Index", "StudyFolder"]


@dataclass(frozen=True)
class Index:
    """``study.json``: what the tables need to know of a study, besides its rows."""

    name: str
    model: str
    metric: str
    recipe: dict[str, Any]
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    curves: tuple[str, ...]
    """Axes that are drawn as curves."""
    version: int = 1


@dataclass(frozen=True)
class StudyFolder:
    """Paths of the files of a study."""

    path: Path

    @property
    def index(self) -> Path:
        """Description of the study."""
        return self.path / "study.json"

    @property
    def rows(self) -> Path:
        """Results of its runs."""
        return self.path / "results.jsonl"

    def cell(self, run: str, seed: int) -> Path:
        """The folder of one run: recipe and policy, and the run below."""
        return self.path / "cells" / run / f"seed-{seed}"

    def read_index(self) -> Index:
        """Description of the study in this folder.

        Raises:
            RecordError: when there is none, or it is damaged.
        """
        try:
            index = from_json(read_json(self.index), Index)
            if not index.cells or index.cells[0].run != BASE:
                raise ValueError("its first cell is not the base")
            if not index.seeds:
                raise ValueError("it has no seeds")
            for cell in index.cells:
                _check_place(cell)
            return index
        except FileNotFoundError as error:
            raise RecordError(
                f"there is no study in '{self.path}'", help="make one: fxbio ablate study.yaml"
            ) from error
        except (OSError, ValueError) as error:
            raise RecordError(f"'{self.index}' is damaged: {error}") from error

    def check(self, index: Index) -> None:
        """Refuse a folder with anything but this study, or what it has been extended from.

        Raises:
            ConfigError: naming what differs.
        """
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            return
        elsewhere = "choose another folder: --out DIR"
        if not self.index.exists():
            raise ConfigError(f"'{self.path}' is not empty, and no study", help=elsewhere)
        different = _differences(self.read_index(), index)
        if different:
            raise ConfigError(
                f"'{self.path}' has the results of another study", notes=different, help=elsewhere
            )

    def write(self, index: Index, study_text: str, picture: str) -> None:
        """Make the folder, and say what is in it."""
        make_folder(self.path)
        write_text(self.path / "study.yaml", study_text)
        write_text(self.path / "base.svg", picture)
        write_text(self.index, json.dumps(asdict(index), indent=1, ensure_ascii=False) + "\n")

    def write_cell(self, cell: Cell, seed: int, recipe: Recipe) -> CellRun:
        """The recipe and the policy of a run; ``fxbio train`` takes the recipe alone, too."""
        folder = self.cell(cell.run, seed)
        make_folder(folder)
        policy = Policy.from_yaml(cell.policy)
        seeded = replace(policy, seed=policy.seed + seed)
        sections = recipe_dict(recipe)
        sections["policy"] |= {"file": "policy.yaml", "rule": None, "options": {}}
        sections["train"]["seed"] = seed
        write_text(folder / "policy.yaml", seeded.to_yaml())
        text = to_yaml(sections)
        write_text(folder / "recipe.yaml", text)
        return CellRun(cell.run, seed, folder.absolute())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from running the same study; a killed one leaves no lock.

        Raises:
            ConfigError: when one does.
        """
        with open_to_append(self.path / ".lock") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ConfigError(
                    f"another process is running the study in '{self.path}'"
                ) from error
            yield


def _check_place(cell: Cell) -> None:
    """Refuse a cell whose runs would be outside of the folder of the study.

    Raises:
        ValueError: when they would be.
    """
    if cell.run != "/".join(map(slug, cell.run.split("/"))):
        raise ValueError(f"the cell '{cell.run}' has a place that no study gives")


def _differences(old: Index, new: Index) -> list[str]:
    """Differences that make the rows of one study meaningless in the other."""
    before, after = _recipe_keys(old), _recipe_keys(new)
    found = [
        f"{key}: {before.get(key)} there, {after.get(key)} here"
        for key in {**before, **after}
        if before.get(key) != after.get(key)
    ]
    policies = {cell.run: cell.policy for cell in old.cells}
    changed = [c.run for c in new.cells if policies.get(c.run, c.policy) != c.policy]
    return [*found, *(f"another policy in cell '{run}'" for run in dict.fromkeys(changed))]


def _recipe_keys(index: Index) -> dict[str, Any]:
    """Settings by ``section.key``; the base's policy is the policy of a cell."""
    sections = json.loads(json.dumps(index.recipe))
    return {
        f"{name}.{key}": value
        for name, section in sections.items()
        for key, value in section.items()
        if name != "policy" and (name, key) != ("train", "seed")
    }

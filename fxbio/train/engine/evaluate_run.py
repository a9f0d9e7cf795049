"""Evaluating a run that is over, or still going on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fxbio.errors import ConfigError
from fxbio.train.config import load_recipe
from fxbio.train.data import DataSource
from fxbio.train.engine.evaluate import Evaluation, evaluate
from fxbio.train.engine.run import open_task
from fxbio.train.engine.session import open_session
from fxbio.train.engine.snapshot import restore_run
from fxbio.train.output.folder import RunFolder
from fxbio.train.output.view import NoView
from fxbio.train.parallel.signals import StopFlag
from fxbio.train.parallel.world import join
from fxbio.train.state.files import read_checkpoint

__all__ = ["RunMetrics", "evaluate_run"]


@dataclass(frozen=True)
class RunMetrics:
    """What an evaluation found."""

    step: int
    evaluation: Evaluation
    first: bool
    """Whether this is the process that prints."""


def evaluate_run(
    folder: str | Path,
    checkpoint: str | Path,
    overrides: Iterable[str] = (),
    data: DataSource | None = None,
) -> RunMetrics:
    """Build the model of a run again and evaluate one of its checkpoints.

    Args:
        folder: of the run.
        checkpoint: the file.
        overrides: of the run's recipe, for instance where the data is now.
        data: instead of what the recipe opens.

    Raises:
        ConfigError: when the folder is no run.
        TrainError: when the checkpoint is missing, damaged, or of another model.
    """
    run = RunFolder(Path(folder))
    if not run.config.is_file():
        raise ConfigError(
            f"'{folder}' is not a run of fxbio train", help="list the runs with: fxbio runs"
        )
    recipe = load_recipe(run.config, overrides)
    with join(recipe.train.device) as world:
        source, task = open_task(recipe, world, data)
        with open_session(recipe, world, source, task) as session:
            restore_run(session, read_checkpoint(Path(checkpoint)))
            evaluation = evaluate(session, NoView(), StopFlag())
            return RunMetrics(session.progress.step, evaluation, world.first)

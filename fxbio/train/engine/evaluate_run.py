"""Evaluating a run that is over, or still going on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fxbio.errors import ConfigError
from fxbio.train.config import load_recipe
from fxbio.train.data import DataSource
from fxbio.train.distributed.process_group import join
from fxbio.train.distributed.signals import StopFlag
from fxbio.train.engine.evaluate import Evaluation, evaluate
from fxbio.train.engine.run import open_task
from fxbio.train.engine.snapshot import restore_run
from fxbio.train.engine.trainer_state import open_trainer
from fxbio.train.output.owner import check_run
from fxbio.train.output.progress import NoView
from fxbio.train.output.run_folder import RunFolder, write_text
from fxbio.train.state.checkpoint_files import read_checkpoint
from fxbio.train.tasks import Task

__all__ = ["RunMetrics", "evaluate_run"]


@dataclass(frozen=True)
class RunMetrics:
    """Metrics of an evaluation."""

    step: int
    """When the checkpoint was written."""
    evaluation: Evaluation
    first: bool
    """Whether this is the process that prints."""


def evaluate_run(
    folder: str | Path,
    checkpoint: str | Path,
    overrides: Iterable[str] = (),
    data: DataSource | None = None,
    predictions: Path | None = None,
    *,
    trust: bool = False,
) -> RunMetrics:
    """Build the model of a run again and evaluate one of its checkpoints.

    Args:
        folder: of the run.
        checkpoint: the file.
        overrides: of the run's recipe, for instance where the data is now.
        data: instead of what the recipe opens.
        predictions: a file that is written with the boxes of a detector, as COCO's servers take
            them.
        trust: run what the recipe names, though somebody else has made the run.

    Raises:
        ConfigError: when the folder is no run, somebody else has made it, or predictions are
            asked of a classifier or cannot be written.
        DataError: when the data is not there; nothing is generated to be evaluated on.
        TrainError: when the checkpoint is missing, damaged, or of another model.
    """
    run = RunFolder(Path(folder))
    if not run.config.is_file():
        raise ConfigError(
            f"'{folder}' is not a run of fxbio train", help="list the runs with: fxbio runs"
        )
    recipe = load_recipe(run.config, overrides)
    check_run(run, recipe, trust)
    with join(recipe.train.device) as world:
        source, task = open_task(recipe, world, data, generate=False)
        if predictions is not None:
            _check_predictions(predictions, task)
        with open_trainer(recipe, world, source, task) as trainer:
            restore_run(trainer, read_checkpoint(Path(checkpoint)))
            evaluation = evaluate(trainer, NoView(), StopFlag())
            if predictions is not None and world.first:
                write_text(predictions, json.dumps(evaluation.predictions))
            return RunMetrics(trainer.progress.step, evaluation, world.first)


def _check_predictions(file: Path, task: Task) -> None:
    if task.name != "detection":
        raise ConfigError(f"predictions are written of detection, and this is {task.name}")
    if file.is_dir() or not file.parent.is_dir():
        raise ConfigError(
            f"predictions cannot be written to '{file}'",
            help="give a file in a folder that is there",
        )

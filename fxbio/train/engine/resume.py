"""The beginning of a run: what its folder gets first, and where it goes on from."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fxbio.errors import ConfigError, TrainError
from fxbio.files.trust import sign
from fxbio.policy import plan_markdown
from fxbio.serialization.record import plan_of
from fxbio.train.config import load_recipe, recipe_yaml
from fxbio.train.config.write import differences
from fxbio.train.engine.outputs import Outputs
from fxbio.train.engine.run_preview import summary_lines
from fxbio.train.engine.snapshot import restore_run
from fxbio.train.engine.trainer_state import TrainerState
from fxbio.train.output.environment import environment
from fxbio.train.output.metrics import MetricsFile
from fxbio.train.output.progress import make_view
from fxbio.train.output.run_folder import Resume, RunFolder, write_text
from fxbio.train.output.tail import keep_lines
from fxbio.train.state.checkpoint_files import read_checkpoint
from fxbio.train.state.store import CheckpointStore

__all__ = ["Start", "begin", "restore"]


@dataclass(frozen=True)
class Start:
    """Position at which a run begins or goes on."""

    path: Path | None
    """The checkpoint, if it goes on."""
    said: tuple[str, ...] = ()
    """What is to be told about it."""


def restore(trainer: TrainerState, run: RunFolder, resume: Resume) -> Start:
    """Restore what is to be restored; nothing is written. Collective.

    Raises:
        ConfigError: when there is no such checkpoint, or the run has gone on from there already.
        TrainError: when the checkpoint is damaged or does not fit.
    """
    world = trainer.world
    store = CheckpointStore(run.checkpoints, trainer.recipe.checkpoint.keep)
    said: list[str] = []
    path = world.share(_checkpoint(store, resume, said) if world.first else None)
    if path is not None:
        restore_run(trainer, _read(path))
        _check_not_back(trainer, store, resume, path)
    return Start(path, tuple(said))


def begin(trainer: TrainerState, run: RunFolder, start: Start) -> tuple[Outputs, list[str]]:
    """Open the outputs, without what a lost run wrote after the checkpoint.

    Returns:
        The outputs, and what is to be said first.

    Raises:
        ConfigError: when TensorBoard is wanted and not installed.
    """
    if not trainer.world.first:
        return Outputs(), []
    changes = _changes(trainer, run)
    _describe(trainer, run)
    _cut(trainer, run)
    progress = trainer.progress
    store = CheckpointStore(run.checkpoints, trainer.recipe.checkpoint.keep)
    store.go_on_from(start.path, progress.step, best=progress.best_step == progress.step)
    board = run.path / "tensorboard" if trainer.recipe.log.tensorboard else None
    metrics = MetricsFile(run.metrics, progress.step, board)
    outputs = Outputs(run, make_view(trainer.steps, run.log), metrics, store)
    origin = f"continuing at step {progress.step} from {start.path}"
    last = f"{run.path}: {origin if start.path else 'from the beginning'}"
    return outputs, [*summary_lines(trainer), *changes, *start.said, last]


def _checkpoint(store: CheckpointStore, resume: Resume, said: list[str]) -> Path | None:
    if resume == "no":
        return None
    if resume == "auto":
        return store.newest(said.append)
    return Path(resume).absolute()


def _check_not_back(
    trainer: TrainerState, store: CheckpointStore, resume: Resume, path: Path
) -> None:
    """Two courses of a run do not fit in one folder."""
    later = store.after(trainer.progress.step) if trainer.world.first else []
    if trainer.world.share(bool(later) and resume != "auto"):
        raise ConfigError(
            f"the run has gone on since '{path}' was written",
            help="continue it with --resume auto, or go on from that checkpoint in another folder: "
            "--out runs/NAME",
        )


def _cut(trainer: TrainerState, run: RunFolder) -> None:
    """Take out the lines that come again."""
    step = trainer.progress.step
    # An evaluation follows its step: it comes again when the checkpoint was written in between.
    evaluated = step - 1 if step == 0 or len(trainer.sampler) == 0 else step
    last = {"train": step}
    for path in (run.metrics, run.alignment):
        keep_lines(path, lambda line: _step(line) <= last.get(str(line.get("kind")), evaluated))


def _step(line: dict[str, Any]) -> float:
    """Of a line; one that does not say it was not written by a run, and goes."""
    step = line.get("step")
    return step if isinstance(step, int) else math.inf


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_checkpoint(path)
    except TrainError as error:
        if path.is_file():
            raise
        raise ConfigError(
            f"there is no checkpoint '{path}'",
            notes=["every process reads it: the folder must be one that all machines share"],
        ) from error


def _changes(trainer: TrainerState, run: RunFolder) -> list[str]:
    """Differences of the recipe from the one that the run began with."""
    if not run.config.exists():
        return []
    changes = differences(load_recipe(run.config), trainer.recipe)
    return [f"changed since the run began: {change}" for change in changes]


def _describe(trainer: TrainerState, run: RunFolder) -> None:
    plan = plan_of(trainer.model)
    write_text(run.config, recipe_yaml(trainer.recipe))
    sign(run.config)
    write_text(run.path / "policy.yaml", plan.policy_text)
    write_text(run.path / "plan.json", plan.to_json())
    write_text(run.path / "plan.md", plan_markdown(plan))
    content = environment(trainer.world.size)
    write_text(run.path / "env.json", json.dumps(content, indent=2) + "\n")

"""The beginning of a run: what its folder gets first, and where it goes on from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fxbio.errors import ConfigError, TrainError
from fxbio.policy import plan_markdown
from fxbio.record.record import plan_of
from fxbio.train.config import load_recipe, recipe_yaml
from fxbio.train.config.write import differences
from fxbio.train.engine.outputs import Outputs
from fxbio.train.engine.session import Session
from fxbio.train.engine.snapshot import restore_run
from fxbio.train.engine.summary import summary_lines
from fxbio.train.output.environment import environment
from fxbio.train.output.folder import Resume, RunFolder, write_text
from fxbio.train.output.metrics import MetricsFile
from fxbio.train.output.view import make_view
from fxbio.train.state.files import read_checkpoint
from fxbio.train.state.store import CheckpointStore

__all__ = ["begin"]


def begin(session: Session, run: RunFolder, resume: Resume) -> tuple[Outputs, list[str]]:
    """Restore what is to be restored, and open the outputs. Collective.

    Returns:
        The outputs, and what is to be said first.

    Raises:
        TrainError: when the checkpoint is damaged or does not fit.
    """
    world = session.world
    store = CheckpointStore(run.checkpoints, session.recipe.checkpoint.keep)
    said: list[str] = []
    found = _checkpoint(store, resume, said) if world.first else None
    path = world.share(found)
    if path is not None:
        restore_run(session, _read(path))
    if not world.first:
        return Outputs(), []
    said = [*_changes(session, run), *said]
    _describe(session, run)
    board = run.path / "tensorboard" if session.recipe.log.tensorboard else None
    step = session.progress.step
    metrics = MetricsFile(run.metrics, step, board)
    outputs = Outputs(run, make_view(session.schedule.steps, run.log), metrics, store)
    origin = f"continuing at step {step} from {path}" if path else "from the beginning"
    return outputs, [*summary_lines(session), *said, f"{run.path}: {origin}"]


def _checkpoint(store: CheckpointStore, resume: Resume, said: list[str]) -> Path | None:
    if resume == "no":
        return None
    if resume == "auto":
        return store.newest(said.append)
    return Path(resume).absolute()


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


def _changes(session: Session, run: RunFolder) -> list[str]:
    """What the recipe says differently from the one that the run began with."""
    if not run.config.exists():
        return []
    changes = differences(load_recipe(run.config), session.recipe)
    return [f"changed since the run began: {change}" for change in changes]


def _describe(session: Session, run: RunFolder) -> None:
    plan = plan_of(session.model)
    for old in run.path.glob("error-rank*.txt"):
        old.unlink()
    write_text(run.config, recipe_yaml(session.recipe))
    write_text(run.path / "policy.yaml", plan.policy_text)
    write_text(run.path / "plan.json", plan.to_json())
    write_text(run.path / "plan.md", plan_markdown(plan))
    content = environment(session.world.size)
    write_text(run.path / "env.json", json.dumps(content, indent=2) + "\n")

"""A training run from its recipe to its last checkpoint, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fxbio.errors import ConfigError, FxbioError
from fxbio.train.config import Recipe
from fxbio.train.data import DataSource, open_data
from fxbio.train.distributed.process_group import World, join
from fxbio.train.distributed.signals import StopFlag, StoppedEarly, raise_early, watch_signals
from fxbio.train.engine.evaluate import Interrupted
from fxbio.train.engine.failure import set_up, status_of_failures
from fxbio.train.engine.loop import Loop
from fxbio.train.engine.resume import begin, restore
from fxbio.train.engine.trainer_state import TrainerState, open_trainer
from fxbio.train.output.liveness import check_not_running
from fxbio.train.output.run_folder import Resume, RunFolder
from fxbio.train.output.stale_run import leave_unbegun
from fxbio.train.output.status import State, Status, exit_code, read_status
from fxbio.train.tasks import Task, make_task

__all__ = ["Outcome", "open_task", "train"]

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """Outcome of a run."""

    state: State
    exit: int
    """Exit code: 0 done, 1 failed or diverged, 130 and 143 stopped by a signal."""
    folder: Path
    step: int
    metrics: dict[str, float]
    """Of the last evaluation."""


def train(
    recipe: Recipe,
    folder: str | Path,
    *,
    resume: Resume = "no",
    overwrite: bool = False,
    data: DataSource | None = None,
    task: Task | None = None,
) -> Outcome:
    """Train a model as a recipe says. Under torchrun every process calls this.

    Args:
        recipe: what to do.
        folder: of the run; it gets the checkpoints, the metrics and all else.
        resume: ``auto`` continues from the newest whole checkpoint of the folder, and begins
            where there is none; a path continues from that one.
        overwrite: remove an earlier run in the folder.
        data: instead of what the recipe's ``data`` section opens.
        task: instead of the one that follows from the data.

    Raises:
        FxbioError: when the run cannot begin as the recipe says.
        Diverged: when a loss or a gradient is not finite.
        TrainError: when it fails on its way; the last checkpoint is intact.
    """
    run = RunFolder(Path(folder))
    with watch_signals(early=raise_early) as stop:
        try:
            with join(recipe.train.device) as world, ExitStack() as parts:
                with set_up(world, stop):
                    _in_first(world, lambda: _check(run, resume, overwrite))
                    source, chosen = open_task(recipe, world, data, task)
                    trainer = parts.enter_context(open_trainer(recipe, world, source, chosen))
                    start = restore(trainer, run, resume)
                    _all_or_none(world, stop)
                    _in_first(world, lambda: _prepare(run, overwrite))  # no mistake costs a run
                    outputs, said = begin(trainer, run, start)
                return _carry_out(Loop(trainer, outputs, stop), run, said)
        except StoppedEarly as early:
            return _unbegun(run, early.number)


def _check(run: RunFolder, resume: Resume, overwrite: bool) -> None:
    run.check(resume, overwrite)
    check_not_running(run, overwrite)


def _prepare(run: RunFolder, overwrite: bool) -> None:
    check_not_running(run, overwrite)  # building the model took a while
    run.prepare(overwrite)


def _all_or_none(world: World, stop: StopFlag) -> None:
    """From here on all processes look at signals together, between steps. Collective."""
    stop.hold()
    if world.agree(bool(stop))[0]:
        raise StoppedEarly(_signal(world, stop))


def _unbegun(run: RunFolder, number: int) -> Outcome:
    code = leave_unbegun(run, number)
    earlier = read_status(run.status) or Status("preempted")
    return Outcome("preempted", code, run.path, earlier.step, dict(earlier.metrics))


def open_task(
    recipe: Recipe,
    world: World,
    data: DataSource | None = None,
    task: Task | None = None,
    *,
    generate: bool = True,
) -> tuple[DataSource, Task]:
    """The data of a recipe, and what it is for. The first process opens it first.

    Args:
        recipe: its sections ``data`` and ``task``.
        world: the processes.
        data: instead of what the recipe opens.
        task: instead of the one that follows from the data.
        generate: whether a generated data set that is not there is written.

    Raises:
        DataError: when the data is not there, or broken.
    """
    source = data
    for turn in (world.first, not world.first):  # what is generated is generated once
        if source is None and turn:
            source = open_data(recipe.data, recipe.train.seed, generate=generate)
        world.wait()
    assert source is not None
    return source, task or make_task(recipe.task, source)


def _carry_out(loop: Loop, run: RunFolder, said: Iterable[str]) -> Outcome:
    trainer, outputs = loop.trainer, loop.outputs
    with status_of_failures(trainer, outputs):
        for line in said:
            outputs.view.say(line)
        state, code = _run(loop)
        outputs.finish_saving()
        outputs.tell_status(state, trainer, exit=code)
        if state == "done":
            outputs.view.say(f"{run.path}: done, {_best(trainer)}")
        trainer.world.wait()
    return Outcome(state, code, run.path, trainer.progress.step, trainer.progress.metrics)


def _run(loop: Loop) -> tuple[State, int]:
    loop.outputs.tell_status("running", loop.trainer)
    loop.stop.tell = loop.outputs.view.say
    try:
        loop.run()
    except Interrupted:
        loop.save()
        loop.outputs.view.say(f"saved at step {loop.trainer.progress.step}, leaving")
        return "preempted", exit_code("preempted", _signal(loop.trainer.world, loop.stop))
    finally:
        loop.stop.hold()  # what comes now is too late, or follows from an error
    return "done", 0


def _best(trainer: TrainerState) -> str:
    progress = trainer.progress
    return f"best {trainer.task.metric} {progress.best:.4f} after step {progress.best_step}"


def _signal(world: World, stop: StopFlag) -> int:
    """The signal that some process got."""
    return int(max(world.collect(stop.signal or 0)))


def _in_first(world: World, call: Callable[[], T]) -> None:
    """Run something in the first process; its error is raised in all of them. Collective."""
    error: FxbioError | None = None
    if world.first:
        try:
            call()
        except FxbioError as raised:
            error = raised
    text = world.share(None if error is None else str(error))
    if error is not None:
        raise error
    if text is not None:
        raise ConfigError(text)

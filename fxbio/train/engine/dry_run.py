"""A run without a run: build everything, take one step, say what it would be."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from itertools import islice

from fxbio.errors import TrainError
from fxbio.train.config import Recipe
from fxbio.train.data import DataSource, trial_data
from fxbio.train.distributed.process_group import join
from fxbio.train.engine.run import open_task
from fxbio.train.engine.run_preview import summary_lines
from fxbio.train.engine.step import backward, update
from fxbio.train.engine.trainer_state import TrainerState, open_trainer
from fxbio.train.output.progress import duration, memory_text

__all__ = ["dry_run"]


def dry_run(recipe: Recipe, tell: Callable[[str], None], data: DataSource | None = None) -> None:
    """Take one step and tell the plan of the run. Nothing is written. Collective.

    Raises:
        FxbioError: for whatever would keep the run from beginning.
        TrainError: when the first loss or gradient is not finite.
    """
    seed = recipe.train.seed
    trial = trial_data(recipe.data, seed) if data is None else nullcontext(data)
    with join(recipe.train.device) as world, trial as opened:
        source, task = open_task(recipe, world, opened)
        with open_trainer(recipe, world, source, task) as trainer:
            lines = [*summary_lines(trainer), *_first_step(trainer)]
        if world.first:
            for line in lines:
                tell(line)


def _first_step(trainer: TrainerState) -> list[str]:
    trainer.model.train()
    parts = list(islice(trainer.train_loader, trainer.recipe.train.accumulate))
    trainer.schedule.apply(trainer.optimizer, 0)
    start = time.perf_counter()
    with trainer.phase():
        losses, finite = backward(trainer, parts)
    if trainer.world.agree(not finite)[0]:
        raise TrainError("the first loss or gradient is not finite", notes=[str(losses)])
    update(trainer)
    seconds = time.perf_counter() - start
    values = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
    return [
        f"step 1   {values}, in {seconds:.2f} s; at this pace the run takes "
        f"{duration(seconds * trainer.schedule.steps)}",
        f"memory   {memory_text()} at most in this process",
        "nothing was written",
    ]

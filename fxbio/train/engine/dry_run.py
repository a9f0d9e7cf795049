"""A run without a run: build everything, take one step, say what it would be."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from itertools import islice

from fxbio.errors import TrainError
from fxbio.train.config import Recipe
from fxbio.train.data import DataSource, trial_data
from fxbio.train.engine.run import open_task
from fxbio.train.engine.session import Session, open_session
from fxbio.train.engine.step import backward, update
from fxbio.train.engine.summary import summary_lines
from fxbio.train.output.view import duration, memory_text
from fxbio.train.parallel.world import join

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
        with open_session(recipe, world, source, task) as session:
            lines = [*summary_lines(session), *_first_step(session)]
        if world.first:
            for line in lines:
                tell(line)


def _first_step(session: Session) -> list[str]:
    session.model.train()
    parts = list(islice(session.train_loader, session.recipe.train.accumulate))
    session.schedule.apply(session.optimizer, 0)
    start = time.perf_counter()
    with session.phase():
        losses, finite = backward(session, parts)
    if session.world.agree(not finite)[0]:
        raise TrainError("the first loss or gradient is not finite", notes=[str(losses)])
    update(session)
    seconds = time.perf_counter() - start
    values = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
    return [
        f"step 1   {values}, in {seconds:.2f} s; at this pace the run takes "
        f"{duration(seconds * session.schedule.steps)}",
        f"memory   {memory_text()} at most in this process",
        "nothing was written",
    ]

"""Subject of a study: the base model, and the cost of one run of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch import nn

from fxbio.graph.capture import capture
from fxbio.graph.model_graph import ModelGraph
from fxbio.models import load_reference
from fxbio.policy import Policy
from fxbio.train.config import Recipe
from fxbio.train.data import DataSource
from fxbio.train.distributed.process_group import World, join
from fxbio.train.distributed.signals import StopFlag
from fxbio.train.engine.evaluate import evaluate
from fxbio.train.engine.run import open_task
from fxbio.train.engine.step import backward, update
from fxbio.train.engine.trainer_state import TrainerState, open_trainer
from fxbio.train.output.progress import NoView
from fxbio.train.tasks import Task
from fxbio.viz import draw
from fxbio.viz.svg import svg

__all__ = ["Cost", "Subject", "open_subject"]

_STEPS = 3
"""Steps that are timed, after one for warming up."""


@dataclass(frozen=True)
class Cost:
    """Of one run of the base, measured in a few steps."""

    steps: int
    step_seconds: float
    run_seconds: float
    """With evaluations and what it takes to begin and to end."""


@dataclass(frozen=True)
class Subject:
    """The model of a study."""

    model: nn.Module
    """Not transformed."""
    graph: ModelGraph
    inputs: Any
    """What it was captured with."""
    metric: str
    """The metric that says which of two runs is better; higher is better."""
    cost: Cost | None
    """``None`` where it was not measured."""

    def picture(self, policy: Policy) -> str:
        """Both ways through it under a policy, as SVG."""
        return svg(draw(self.model, policy, self.inputs))


def open_subject(recipe: Recipe, *, timed: bool = True) -> Subject:
    """Build and capture the model of a recipe.

    Args:
        recipe: of the base.
        timed: whether to train it for a few steps, to see what a run costs. If it is going to be
            trained elsewhere, this machine need not have what that takes.

    Raises:
        FxbioError: for whatever would keep the base from being trained, as far as it was tried.
    """
    with join(recipe.train.device if timed else "cpu") as world:
        source, task = open_task(recipe, world)
        inputs = task.example_inputs(source)
        model, graph = _stock(recipe, inputs)  # first, for imports are no cost of a run
        cost = _cost(recipe, world, source, task) if timed else None
    return Subject(model, graph, inputs, task.metric, cost)


def _stock(recipe: Recipe, inputs: Any) -> tuple[nn.Module, ModelGraph]:
    settings = recipe.model
    loaded = load_reference(
        settings.reference, settings.args, settings.weights, seed=recipe.train.seed
    )
    return loaded.model, capture(loaded.model, inputs)


def _cost(recipe: Recipe, world: World, source: DataSource, task: Task) -> Cost:
    began = time.perf_counter()
    with open_trainer(recipe, world, source, task) as trainer:
        opening = time.perf_counter() - began
        step = _step_seconds(trainer)
        began = time.perf_counter()
        evaluate(trainer, NoView(), StopFlag(), limit=1)
        evaluation = (time.perf_counter() - began) * len(trainer.eval_loader)
        steps = trainer.schedule.steps
    times = -(-recipe.train.epochs // recipe.train.eval_every)
    return Cost(steps, step, opening + steps * step + times * evaluation)


def _step_seconds(trainer: TrainerState) -> float:
    trainer.model.train()
    parts = trainer.recipe.train.accumulate
    batches = iter(trainer.train_loader)
    seconds = []
    for _ in range(min(_STEPS + 1, trainer.schedule.steps_per_epoch)):
        began = time.perf_counter()
        backward(trainer, list(islice(batches, parts)))
        update(trainer)
        seconds.append(time.perf_counter() - began)
    return min(seconds)

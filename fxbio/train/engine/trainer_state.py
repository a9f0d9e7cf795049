"""Everything that a run works with, built from its recipe."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from fxbio.errors import ConfigError
from fxbio.runtime.feedback_training import set_phase
from fxbio.train.build.ema import Average
from fxbio.train.build.model import build_model, memory_format, wrap
from fxbio.train.build.optimizer import build_optimizer
from fxbio.train.build.precision import Precision
from fxbio.train.build.schedule import Schedule
from fxbio.train.config import Recipe
from fxbio.train.config.sections import TrainConfig
from fxbio.train.data import DataSource, EpochSampler, EvalSampler, WatchedLoader, make_loader
from fxbio.train.distributed.process_group import World
from fxbio.train.state.rng import seed_everything
from fxbio.train.tasks import Task

__all__ = ["Progress", "TrainerState", "open_trainer"]


@dataclass
class Progress:
    """Progress of a run."""

    step: int = 0
    """Optimizer steps taken."""
    best: float | None = None
    best_step: int | None = None
    """When that was."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Of the last evaluation."""
    sums: dict[str, float] = field(default_factory=dict)
    """Losses since the last line of metrics."""
    summed: int = 0
    """Steps in the sums."""

    def add(self, losses: Mapping[str, float]) -> None:
        """Take in the losses of a step."""
        self.summed += 1
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def take_means(self) -> dict[str, float]:
        """The means since this was called last."""
        means = {name: value / self.summed for name, value in self.sums.items()}
        self.sums, self.summed = {}, 0
        return means


@dataclass
class TrainerState:
    """The parts of a run."""

    recipe: Recipe
    world: World
    source: DataSource
    task: Task
    model: nn.Module
    parallel: nn.Module
    """The model as it is called in training: in DDP where there are several processes."""
    optimizer: Optimizer
    scaler: GradScaler
    precision: Precision
    schedule: Schedule
    average: Average | None
    sampler: EpochSampler
    train_loader: WatchedLoader
    eval_loader: WatchedLoader
    progress: Progress = field(default_factory=Progress)

    @property
    def epochs(self) -> float:
        """Epochs trained so far."""
        return self.sampler.steps / self.schedule.steps_per_epoch

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run: those taken, and those that are left."""
        sampler, progress = self.sampler, self.progress
        epochs = self.recipe.train.epochs - sampler.epoch
        if epochs <= 0:
            return progress.step
        return progress.step + sampler.steps_left + (epochs - 1) * sampler.batches

    @contextmanager
    def phase(self) -> Iterator[None]:
        """Inside, what learns under target propagation is what this epoch is for."""
        train = self.recipe.train
        if not train.takes_turns:
            yield
            return
        set_phase(self.model, train.phase(self.sampler.epoch))
        try:
            yield
        finally:
            set_phase(self.model, "both")

    def moved(self, batch: Any) -> Any:
        """A batch on the device of this process."""
        return self.task.move(batch, self.world.device, memory_format(self.recipe))


@contextmanager
def open_trainer(
    recipe: Recipe, world: World, source: DataSource, task: Task
) -> Iterator[TrainerState]:
    """Build all parts of a run, and end the processes that load its images afterwards.

    Args:
        recipe: what to build.
        world: the processes.
        source: the data.
        task: what it is for.

    Raises:
        FxbioError: when a part cannot be built as the recipe says.
    """
    trainer = _build(recipe, world, source, task)
    try:
        yield trainer
    finally:
        _end_workers(trainer.train_loader)
        _end_workers(trainer.eval_loader)


def _end_workers(loader: DataLoader[Any]) -> None:
    """End the workers of a loader, now and for certain.

    They ignore SIGTERM, which is how Python asks them to leave when it exits itself: it would wait
    for ever for one that a traceback keeps alive.
    """
    iterator = loader._iterator
    if iterator is None:
        return
    iterator._shutdown_workers()  # type: ignore[attr-defined]
    for worker in iterator._workers:  # type: ignore[attr-defined]
        worker.kill()


def _build(recipe: Recipe, world: World, source: DataSource, task: Task) -> TrainerState:
    train = recipe.train
    _fix_kernels(train)
    seed_everything(train.seed)
    sampler = _sampler(recipe, world, source)
    _check_alignment(recipe, task)
    model = build_model(recipe, source, task, world)
    precision = Precision(train.precision, world.device)
    seed_everything(train.seed + world.rank)  # dropout differs between the processes
    return TrainerState(
        recipe=recipe,
        world=world,
        source=source,
        task=task,
        model=model,
        parallel=wrap(model, recipe, world),
        optimizer=build_optimizer(recipe.optim, model),
        scaler=precision.scaler(),
        precision=precision,
        schedule=Schedule(recipe.schedule, sampler.batches, sampler.batches * train.epochs),
        average=Average(model, train.ema) if train.ema else None,
        sampler=sampler,
        train_loader=_train_loader(recipe, source, task, sampler),
        eval_loader=_eval_loader(recipe, world, source, task),
    )


def _sampler(recipe: Recipe, world: World, source: DataSource) -> EpochSampler:
    train = recipe.train
    sampler = EpochSampler(
        len(source.train),  # type: ignore[arg-type]
        batch_size=_share(recipe, world),
        rank=world.rank,
        world=world.size,
        seed=train.seed,
        shuffle=not train.overfit_batch,
        drop_last=True,
        groups=source.groups,
    )
    _check_not_empty(sampler, recipe)
    return sampler


def _train_loader(
    recipe: Recipe, source: DataSource, task: Task, sampler: EpochSampler
) -> WatchedLoader:
    return make_loader(
        source.train,
        batch_size=sampler.batch_size // recipe.train.accumulate,
        sampler=sampler,
        workers=recipe.data.workers,
        collate=task.collate,
        seed=recipe.train.seed,
    )


def _eval_loader(recipe: Recipe, world: World, source: DataSource, task: Task) -> WatchedLoader:
    train = recipe.train
    return make_loader(
        source.val,
        batch_size=train.eval_batch_size or _share(recipe, world) // train.accumulate,
        sampler=EvalSampler(len(source.val), rank=world.rank, world=world.size),  # type: ignore[arg-type]
        workers=recipe.data.workers,
        collate=task.collate_eval,
        seed=train.seed,
    )


def _fix_kernels(train: TrainConfig) -> None:
    """Fix the kernels that this process uses from now on, whatever a run before it has set."""
    if train.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or cuBLAS refuses
    torch.use_deterministic_algorithms(train.deterministic)
    torch.backends.cudnn.benchmark = not train.deterministic
    torch.backends.cuda.matmul.allow_tf32 = train.tf32 is True
    torch.backends.cudnn.allow_tf32 = train.tf32 is not False


def _share(recipe: Recipe, world: World) -> int:
    """Samples of a step on one process."""
    train = recipe.train
    parts = world.size * train.accumulate
    if train.batch_size % parts == 0:
        return train.batch_size // world.size
    near = max(1, round(train.batch_size / parts)) * parts
    raise ConfigError(
        f"a batch of {train.batch_size} cannot be divided among {world.size} processes with "
        f"{train.accumulate} parts each",
        notes=["train.batch_size counts the samples of a step over all processes and parts"],
        help=f"for example train.batch_size={near}",
    )


def _check_not_empty(sampler: EpochSampler, recipe: Recipe) -> None:
    if sampler.batches == 0:
        raise ConfigError(
            f"the training set has {sampler.size} samples, fewer than a batch of "
            f"{recipe.train.batch_size}",
            help=f"for example train.batch_size={max(1, sampler.size // 4)}",
        )


def _check_alignment(recipe: Recipe, task: Task) -> None:
    if recipe.log.alignment_every and task.name != "classification":
        raise ConfigError(
            f"log.alignment_every is set, but this is {task.name}: classification is measured",
            help="leave it at 0; fxbio.alignment(model, inputs, loss) measures any model by hand",
        )

"""A recipe: all that decides about a training run, in one frozen object."""

from __future__ import annotations

from dataclasses import dataclass, field

from fxbio.train.config.sections import (
    CheckpointConfig,
    LogConfig,
    ModelConfig,
    OptimConfig,
    PolicyConfig,
    ScheduleConfig,
    TrainConfig,
)
from fxbio.train.data import DataConfig
from fxbio.train.tasks import TaskConfig

__all__ = ["Recipe"]


@dataclass(frozen=True)
class Recipe:
    """A training run as data; read from YAML by ``load_recipe``."""

    model: ModelConfig
    """Which network is trained."""

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    """Which learning rule each weight gets."""

    data: DataConfig = field(default_factory=DataConfig)
    """What it is trained on."""

    task: TaskConfig = field(default_factory=TaskConfig)
    """Options of the loss."""

    optim: OptimConfig = field(default_factory=OptimConfig)
    """How weights follow from gradients."""

    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """The learning rate as a function of the step."""

    train: TrainConfig = field(default_factory=TrainConfig)
    """How long and in which way the steps are taken."""

    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    """What is kept of the run."""

    log: LogConfig = field(default_factory=LogConfig)
    """What is written down on the way."""

"""The learning rate as a pure function of the position: nothing to save, nothing to lose."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch.optim import Optimizer

from fxbio.train.config.sections import ScheduleConfig

__all__ = ["Schedule"]


@dataclass(frozen=True)
class Schedule:
    """``lr(step) = lr · factor(step)``, with step counted from 0.

    A run that goes on with another batch size is where it was in epochs, so that its step here is
    that of a run which had this size from the beginning; in mid-epoch it may be a fraction.
    """

    config: ScheduleConfig
    steps_per_epoch: int
    steps: int
    """Of a whole run."""

    @property
    def warmup(self) -> int:
        """Steps of the warm-up."""
        return self.config.warmup_steps or self._at(self.config.warmup_epochs)

    def factor(self, step: float) -> float:
        """Multiplier of the base learning rate at a step."""
        return self._warmup_factor(step) * self._factor(step)

    def apply(self, optimizer: Optimizer, step: float) -> None:
        """Set the learning rate of every group for a step, from its ``initial_lr``."""
        factor = self.factor(step)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def _at(self, epochs: float) -> int:
        return round(epochs * self.steps_per_epoch)

    def _warmup_factor(self, step: float) -> float:
        if step >= self.warmup:
            return 1.0
        start = self.config.warmup_start
        return start + (1.0 - start) * step / self.warmup

    def _factor(self, step: float) -> float:
        config = self.config
        if config.name == "step":
            return config.gamma ** math.floor(step / (config.every * self.steps_per_epoch) + 1e-9)
        if config.name == "multistep":
            drops = sum(step >= self._at(milestone) for milestone in config.milestones)
            return config.gamma**drops
        if config.name == "cosine":
            return self._cosine(step)
        return 1.0

    def _cosine(self, step: float) -> float:
        length = max(1, self.steps - self.warmup)
        done = min(1.0, max(0, step - self.warmup) / length)
        final = self.config.final
        return final + (1.0 - final) * (1.0 + math.cos(math.pi * done)) / 2.0

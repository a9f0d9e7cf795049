from __future__ import annotations

import os
import signal
from pathlib import Path

import torch
from torch import Tensor, nn


def conv(classes: int = 2) -> nn.Module:
    """Batch normalisation and dropout, so that buffers and random numbers matter."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(128, classes),
    )


def fragile(marker: str) -> nn.Module:
    """Its second process is killed in the seventh step, unless that has happened before."""
    return nn.Sequential(Deadly(marker), conv(10))


class Deadly(nn.Module):
    """Ends the process at once."""

    def __init__(self, marker: str) -> None:
        super().__init__()
        self.marker, self.calls = Path(marker), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += int(self.training and torch.is_grad_enabled() and x.shape[0] > 2)
        if self.calls == 7 and os.environ.get("RANK") == "1" and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return x


def plain() -> nn.Module:
    """Nothing that depends on the batch or on chance."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 2))


def coloured(channels: int) -> nn.Module:
    """For images with so many channels."""
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.Flatten(), nn.Linear(144, 2))


class Explode(nn.Module):
    """Gives infinity after some calls in training."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += int(self.training and torch.is_grad_enabled())
        return x / (0.0 if self.calls > 7 else 1.0)


def explosive() -> nn.Module:
    """Its third layer is the culprit."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), Explode(), nn.Linear(16, 2))


def deep() -> nn.Module:
    """As ``plain`` with a layer more, so that every rule of target propagation has an inverse."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 2)
    )


def stopping() -> nn.Module:
    """Building it takes so long that somebody asks the process to stop."""
    os.kill(os.getpid(), signal.SIGTERM)
    return plain()


def mistaken() -> nn.Module:
    """Is stopped while it is built, and takes it for an error of its own."""
    try:
        return stopping()
    except BaseException as error:
        raise RuntimeError("something is wrong") from error


def failing(rank: str) -> nn.Module:
    """Cannot be built in one of the processes."""
    if os.environ.get("RANK") == rank:
        raise ValueError("no weights on this machine")
    return plain()


def waiting(marker: str) -> nn.Module:
    """Says that it is being built, and takes for ever."""
    Path(f"{marker}-{os.environ.get('RANK', 0)}").touch()
    while True:
        signal.pause()


class Suspicious(nn.Module):
    """Is stopped while it is captured, and takes it for an error of its own."""

    asked = False

    def forward(self, x: Tensor) -> Tensor:
        if not Suspicious.asked:
            Suspicious.asked = True
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            except BaseException as error:
                raise RuntimeError("something is wrong") from error
        return x


def suspicious() -> nn.Module:
    """Its first layer is the culprit."""
    return nn.Sequential(Suspicious(), plain())

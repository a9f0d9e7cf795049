"""A whole run as plain data, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from fxbio._version import __version__
from fxbio.errors import FxbioError, TrainError
from fxbio.files.typed_json import from_json
from fxbio.train.engine.trainer_state import Progress, TrainerState
from fxbio.train.state.checkpoint_files import host_copy
from fxbio.train.state.model_state import load_model_state, model_state
from fxbio.train.state.rng import rng_state, set_rng_state

__all__ = ["capture_run", "restore_run"]

FORMAT = 1


@dataclass(frozen=True)
class _Position:
    epoch: int
    position: int


@dataclass(frozen=True)
class _Model:
    weights: Mapping[str, Any]
    """A ``state_dict``: tensors, and what else modules keep there."""
    feedback: Mapping[str, Tensor]
    scales: Mapping[str, float]
    redraws: Mapping[str, int]


@dataclass(frozen=True)
class _Average:
    updates: int
    weights: Mapping[str, Tensor]


@dataclass(frozen=True)
class _Rank:
    generators: Mapping[str, Any]
    sums: Mapping[str, float]


@dataclass(frozen=True)
class _Run:
    """The types of what ``capture_run`` gives, for a file that anybody may have written."""

    format: int
    fxbio: str
    torch: str
    progress: Progress
    sampler: _Position
    model: _Model
    optimizer: Mapping[str, Any]
    scaler: Mapping[str, Any]
    average: _Average | None
    ranks: tuple[_Rank, ...]


def capture_run(trainer: TrainerState) -> dict[str, Any]:
    """Everything that decides how the run goes on, in host memory. Collective.

    On processes other than the first it is not complete, and not needed.
    """
    trainer.world.share_buffers(trainer.model)
    own = {"generators": rng_state(trainer.world.device), "sums": trainer.progress.sums}
    average = trainer.average
    state = {
        "format": FORMAT,
        "fxbio": __version__,
        "torch": str(torch.__version__),
        "progress": asdict(trainer.progress),
        "sampler": trainer.sampler.state_dict(),
        "model": model_state(trainer.model),
        "optimizer": trainer.optimizer.state_dict(),
        "scaler": trainer.scaler.state_dict(),
        "average": average.state_dict() if average else None,
        "ranks": trainer.world.collect(own),
    }
    return host_copy(state) if trainer.world.first else state


def restore_run(trainer: TrainerState, state: dict[str, Any]) -> None:
    """Go on where ``capture_run`` was called. The recipe's hyper-parameters win over saved ones.

    Raises:
        TrainError: when the state is of another format, model, policy or optimizer, or damaged.
    """
    if state["format"] != FORMAT:
        raise TrainError(
            f"the checkpoint has format {state['format']!r:.80}, this fxbio reads {FORMAT}",
            help=f"it was written by fxbio {state.get('fxbio', '(it does not say which)')!s:.80}",
        )
    try:
        trainer.progress = _checked(state).progress
        _restore(trainer, state)
    except FxbioError:
        raise
    except Exception as error:  # torch and numpy look at their parts of it, each in its own way
        raise TrainError(
            f"the checkpoint holds what no run has saved: {type(error).__name__}: {error!s:.300}",
            help="go on from another one: --resume CHECKPOINT, or begin again: --overwrite",
        ) from error


def _checked(state: dict[str, Any]) -> _Run:
    """The state with the types of its parts.

    Raises:
        ValueError: naming the first that has another type, is missing, or lies before the start.
    """
    run = from_json(state, _Run)
    numbers = {
        "progress.step": run.progress.step,
        "progress.summed": run.progress.summed,
        "sampler.epoch": run.sampler.epoch,
        "sampler.position": run.sampler.position,
    }
    for name, number in numbers.items():
        if number < 0:
            raise ValueError(f"{name} is {number}")
    return run


def _restore(trainer: TrainerState, state: dict[str, Any]) -> None:
    trainer.sampler.load_state_dict(state["sampler"])
    load_model_state(trainer.model, state["model"])
    _load_optimizer(trainer, state["optimizer"])
    trainer.scaler.load_state_dict(state["scaler"])
    if trainer.average is not None and state["average"] is not None:
        trainer.average.load_state_dict(state["average"])
    _restore_own(trainer, state["ranks"])


def _restore_own(trainer: TrainerState, ranks: list[dict[str, Any]]) -> None:
    """Restore the state of each process; those that were not there before begin anew."""
    rank = trainer.world.rank
    if rank < len(ranks):
        trainer.progress.sums = ranks[rank]["sums"]
        set_rng_state(ranks[rank]["generators"], trainer.world.device)


def _load_optimizer(trainer: TrainerState, state: dict[str, Any]) -> None:
    groups = trainer.optimizer.param_groups
    # "lr" is what the schedule makes of "initial_lr", anew at each step.
    own = [{k: v for k, v in group.items() if k not in ("params", "lr")} for group in groups]
    try:
        trainer.optimizer.load_state_dict(state)
    except ValueError as error:
        raise TrainError(
            "the checkpoint is of another optimizer, or of other groups",
            notes=[str(error)],
            help="train from the beginning in another folder: --out runs/NAME",
        ) from error
    for group, options in zip(trainer.optimizer.param_groups, own, strict=True):
        group.update(options)

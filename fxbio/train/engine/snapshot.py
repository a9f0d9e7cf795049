"""A whole run as plain data, and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from fxbio._version import __version__
from fxbio.errors import TrainError
from fxbio.train.engine.trainer_state import Progress, TrainerState
from fxbio.train.state.files import host_copy
from fxbio.train.state.model_state import load_model_state, model_state
from fxbio.train.state.rng import rng_state, set_rng_state

__all__ = ["capture_run", "restore_run"]

FORMAT = 1


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
        TrainError: when the state is of another format, model, policy or optimizer.
    """
    if state["format"] != FORMAT:
        raise TrainError(
            f"the checkpoint has format {state['format']}, this fxbio reads {FORMAT}",
            help=f"it was written by fxbio {state['fxbio']}",
        )
    trainer.progress = Progress(**state["progress"])
    trainer.sampler.load_state_dict(state["sampler"])
    load_model_state(trainer.model, state["model"])
    _load_optimizer(trainer, state["optimizer"])
    trainer.scaler.load_state_dict(state["scaler"])
    if trainer.average is not None and state["average"] is not None:
        trainer.average.load_state_dict(state["average"])
    _restore_own(trainer, state["ranks"])


def _restore_own(trainer: TrainerState, ranks: list[dict[str, Any]]) -> None:
    """What each process has for itself; those that were not there before begin anew."""
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

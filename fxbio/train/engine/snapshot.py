"""A whole run as plain data, and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from fxbio import __version__
from fxbio.errors import TrainError
from fxbio.train.engine.session import Progress, Session
from fxbio.train.state.files import host_copy
from fxbio.train.state.model_state import load_model_state, model_state
from fxbio.train.state.rng import rng_state, set_rng_state

__all__ = ["capture_run", "restore_run"]

FORMAT = 1


def capture_run(session: Session) -> dict[str, Any]:
    """Everything that decides how the run goes on, in host memory. Collective.

    On processes other than the first it is not complete, and not needed.
    """
    session.world.share_buffers(session.model)
    own = {"generators": rng_state(session.world.device), "sums": session.progress.sums}
    average = session.average
    state = {
        "format": FORMAT,
        "fxbio": __version__,
        "torch": str(torch.__version__),
        "progress": asdict(session.progress),
        "sampler": session.sampler.state_dict(),
        "model": model_state(session.model),
        "optimizer": session.optimizer.state_dict(),
        "scaler": session.scaler.state_dict(),
        "average": average.state_dict() if average else None,
        "ranks": session.world.collect(own),
    }
    return host_copy(state) if session.world.first else state


def restore_run(session: Session, state: dict[str, Any]) -> None:
    """Go on where ``capture_run`` was called. The recipe's hyper-parameters win over saved ones.

    Raises:
        TrainError: when the state is of another format, model, policy or optimizer.
    """
    if state["format"] != FORMAT:
        raise TrainError(
            f"the checkpoint has format {state['format']}, this fxbio reads {FORMAT}",
            help=f"it was written by fxbio {state['fxbio']}",
        )
    session.progress = Progress(**state["progress"])
    session.sampler.load_state_dict(state["sampler"])
    load_model_state(session.model, state["model"])
    _load_optimizer(session, state["optimizer"])
    session.scaler.load_state_dict(state["scaler"])
    if session.average is not None and state["average"] is not None:
        session.average.load_state_dict(state["average"])
    _restore_own(session, state["ranks"])


def _restore_own(session: Session, ranks: list[dict[str, Any]]) -> None:
    """What each process has for itself; those that were not there before begin anew."""
    rank = session.world.rank
    if rank < len(ranks):
        session.progress.sums = ranks[rank]["sums"]
        set_rng_state(ranks[rank]["generators"], session.world.device)


def _load_optimizer(session: Session, state: dict[str, Any]) -> None:
    groups = session.optimizer.param_groups
    # "lr" is what the schedule makes of "initial_lr", anew at each step.
    own = [{k: v for k, v in group.items() if k not in ("params", "lr")} for group in groups]
    try:
        session.optimizer.load_state_dict(state)
    except ValueError as error:
        raise TrainError(
            "the checkpoint is of another optimizer, or of other groups",
            notes=[str(error)],
            help="train from the beginning in another folder: --out runs/NAME",
        ) from error
    for group, options in zip(session.optimizer.param_groups, own, strict=True):
        group.update(options)

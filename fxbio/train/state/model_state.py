"""A transformed model as plain data, feedback included."""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from fxbio.errors import TrainError
from fxbio.runtime.updates import redraw_counts, set_redraw_counts
from fxbio.serialization.feedback_state import restore, scales

__all__ = ["load_model_state", "model_state"]


def model_state(model: nn.Module) -> dict[str, Any]:
    """Weights under their stock keys; beside them all that the ``state_dict`` leaves out.

    That is fixed and redrawn feedback, its scales, and how often it was redrawn.
    """
    return {
        "weights": model.state_dict(),
        "feedback": _left_out(model),
        "scales": scales(model),
        "redraws": redraw_counts(model),
    }


@torch.no_grad()
def load_model_state(model: nn.Module, state: dict[str, Any]) -> None:
    """Bring a model that was transformed in the same way into a saved state.

    Raises:
        TrainError: when the state is of another model or policy.
    """
    there, saved = _left_out(model), state["feedback"]
    odd = sorted(there.keys() ^ saved.keys())
    if odd or redraw_counts(model).keys() != state["redraws"].keys():
        raise TrainError(
            "the checkpoint is of another model or policy",
            notes=[f"feedback that only one of them has, for instance: {odd[0]}"] if odd else [],
            help="train from the beginning in another folder: --out runs/NAME",
        )
    set_redraw_counts(model, state["redraws"])
    restore(model, state["scales"], {})
    try:
        model.load_state_dict(state["weights"], strict=True)
    except RuntimeError as error:
        raise TrainError("the checkpoint is of another model", notes=[str(error)]) from error
    for name, tensor in there.items():
        tensor.copy_(saved[name])


def _left_out(model: nn.Module) -> dict[str, Tensor]:
    kept = model.state_dict()
    everything = chain(model.named_parameters(), model.named_buffers())
    return {name: tensor for name, tensor in everything if name not in kept}

"""Losses for studies: what a user names, or one that reaches every output of a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from fxbio.errors import FxbioError, ModelError
from fxbio.tensors.nested import tensors_in

__all__ = ["Loss", "as_loss", "checked", "loss_of_every_output"]

Loss = Callable[[Any], Any]
"""A user's function from the output of a model to what should be a scalar."""

_HELP = "pass loss=..., a function from the model's output to a scalar tensor that has a gradient"


def as_loss(targets_or_loss: Any) -> Callable[[Any], Tensor]:
    """A loss from a function, or from the targets of the usual one.

    Args:
        targets_or_loss: a function from the output to a scalar; classes, for a cross-entropy; other
            targets, for a mean squared error; or ``None``, for ``loss_of_every_output``.
    """
    if targets_or_loss is None:
        return loss_of_every_output
    if isinstance(targets_or_loss, Tensor):
        targets = targets_or_loss
        function = F.mse_loss if targets.is_floating_point() else F.cross_entropy
        return lambda output: function(output, targets)
    if callable(targets_or_loss):
        return checked(targets_or_loss)
    raise ModelError(
        f"a loss cannot be {type(targets_or_loss).__name__}",
        notes=["a function of the model's output, or a tensor of targets"],
        help=_HELP,
    )


def loss_of_every_output(output: Any) -> Tensor:
    """The sum of the scalars in an output (losses of a detector) and the mean squares of the rest.

    Raises:
        ModelError: for an output without a differentiable tensor.
    """
    found = [t for t in tensors_in(output) if t.is_floating_point() and t.requires_grad]
    if not found:
        raise ModelError(
            f"no tensor in the output of the model has a gradient: {type(output).__name__}",
            help=_HELP,
        )
    parts = [t if t.dim() == 0 else t.square().mean() for t in found]
    return sum(parts[1:], parts[0])


def checked(loss: Loss) -> Callable[[Any], Tensor]:
    """A user's loss, with one error for all that can be wrong with it."""

    def run(output: Any) -> Tensor:
        try:
            value: Tensor = loss(output)
        except FxbioError:
            raise
        except Exception as error:  # the user's code may raise anything
            raise ModelError(
                f"the loss failed: {type(error).__name__}: {error}",
                notes=[f"it was called with the model's output, {type(output).__name__}"],
                help=_HELP,
            ) from error
        problem = _problem(value)
        if problem is not None:
            raise ModelError(f"the loss gave {problem}", help=_HELP)
        return value

    return run


def _problem(value: Any) -> str | None:
    if not isinstance(value, Tensor):
        return f"{type(value).__name__}, which is no tensor"
    if value.dim():
        return f"a tensor of shape {tuple(value.shape)}, which is no scalar"
    if not value.requires_grad:
        return "a scalar without a gradient: it was detached, or nothing in the model learns"
    return None

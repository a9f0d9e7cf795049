"""The backward path of a weight, as a forward hands it to an op."""

from __future__ import annotations

from torch import nn

from fxbio.ops.functional import Backward
from fxbio.runtime.binding import BoundWeight
from fxbio.runtime.local_losses import check_can_learn
from fxbio.tensors.grad_mode import differentiated

__all__ = ["backward_path"]


def backward_path(module: nn.Module, weight: BoundWeight) -> Backward:
    """The backward path with the module's current feedback.

    Raises:
        ModelError: when the feedback learns and could not do so in this pass.
    """
    if weight.learned is None:
        return Backward(weight.spec, weight.scale, weight.drawn(module))
    if not differentiated():
        return Backward(weight.spec, weight.scale, None)  # nobody will go back
    check_can_learn(module, weight)
    return Backward(weight.spec, weight.scale, weight.path(module))

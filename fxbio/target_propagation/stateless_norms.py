"""Running a block again without a trace in the statistics of its norms."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["StatelessNorms"]


class StatelessNorms(TorchFunctionMode):
    """Batch norms in training use the statistics of the batch, and do not count it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.add_ and not args[0].is_floating_point():
            return args[0]  # num_batches_tracked
        if func is F.batch_norm and _trains(*args, **kwargs):
            names = ("input", "running_mean", "running_var")
            rest = {key: value for key, value in kwargs.items() if key not in names}
            return func(args[0], None, None, *args[3:], **rest)
        return func(*args, **kwargs)


def _trains(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> bool:
    """True if a call of ``F.batch_norm`` uses the statistics of the batch."""
    return training

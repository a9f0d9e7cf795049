"""Forward of a model whose blocks learn from targets."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves, tree_map_only

from fxbio.errors import ModelError
from fxbio.runtime.forward import Forward
from fxbio.runtime.target_scope import TargetScope
from fxbio.target_propagation.difference import refuse_tracing

__all__ = ["TargetForward"]


class TargetForward(Forward):
    """The model, with differences of targets between its blocks."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own forward."""
        refuse_tracing(
            *(v for v in tree_leaves((args, kwargs)) if isinstance(v, fx.Proxy | Tensor))
        )
        if not torch.is_grad_enabled():
            return super().forward(*args, **kwargs)
        _refuse_loss_scaling()
        targets = self._fxbio_binding.targets
        assert targets is not None
        scope = TargetScope(self, targets)
        with scope:
            out = super().forward(*args, **kwargs)
        return tree_map_only(Tensor, scope.finish, out)


def _refuse_loss_scaling() -> None:
    """Float16 is trained with scaled losses, and the difference is not linear in the error.

    Raises:
        ModelError: in a float16 region of autocast.
    """
    for device in ("cuda", "cpu", "xpu"):
        if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16:
            raise ModelError(
                "target propagation does not work in float16, whose losses are scaled: a target is "
                "made from the error of one sample as it is",
                help="use torch.bfloat16, which needs no GradScaler",
            )

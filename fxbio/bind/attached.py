"""Modules that fxbio hangs on the user's own, with state that stock checkpoints do not have."""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["Attached"]


class Attached(nn.Module):
    """Keeps its state when a checkpoint has none of it, so that stock ones load strictly.

    A checkpoint that has a part of it is damaged or of another model, and is reported as usual.
    """

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        if not any(key.startswith(prefix) for key in state_dict):
            own = self.state_dict()
            state_dict.update({f"{prefix}{key}": value for key, value in own.items()})
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

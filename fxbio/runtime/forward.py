"""Base of every class whose forward stands for that of a user's module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fxbio.runtime.binding import ModuleBinding
from fxbio.runtime.module_state import ModuleState

__all__ = ["Forward"]

if TYPE_CHECKING:
    from torch import nn

    Owner = nn.Module
else:
    Owner = object


class Forward(Owner):
    """Mixin in front of the user's class, which ``super()`` leads to."""

    _fxbio_state: ModuleState

    @property
    def _fxbio_binding(self) -> ModuleBinding:
        return self._fxbio_state.binding

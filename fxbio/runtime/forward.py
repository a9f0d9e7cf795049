"""What every class is made from whose forward stands for that of a user's module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fxbio.runtime.binding import ModuleBinding

__all__ = ["Forward"]

if TYPE_CHECKING:
    from torch import nn

    Owner = nn.Module
else:
    Owner = object


class Forward(Owner):
    """Mixin in front of the user's class, which ``super()`` leads to."""

    _fxbio_binding: ModuleBinding

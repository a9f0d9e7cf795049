"""Row of the table of operations: its spellings in torch, and its op under a rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from fxbio.ops.functional import Backward
from fxbio.site import OpKind

__all__ = ["Arguments", "IsWeight", "LinearCall", "OpSpec"]

IsWeight = Callable[[Any], bool]
Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class LinearCall:
    """A call that applies a weight to an activation, written for an op that takes a rule."""

    op: OpKind
    weight: Any
    """The weight operand."""
    target: Callable[..., Tensor]
    """Function of ``fxbio.ops.functional`` that runs it with a backward path."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    groups: int = 1

    def run(self, backward: Backward) -> Tensor:
        """Evaluate the call."""
        return self.target(*self.args, **self.kwargs, backward=backward)


@dataclass(frozen=True)
class OpSpec:
    """One operation."""

    op: str
    """Name of the custom op in ``torch.ops.fxbio`` that runs it under a rule."""
    lowered: Callable[..., Tensor]
    """The function of ``fxbio.ops.functional`` that calls that op."""
    stock: Callable[[Arguments], Tensor]
    """What the op computes without a rule, by torch alone, from its arguments by their names."""
    functions: Mapping[Any, Callable[..., LinearCall | None]]
    """Functions of torch, as a ``TorchFunctionMode`` is given them, each with what reads its
    arguments."""
    layers: Mapping[type[nn.Module], OpKind] = field(default_factory=dict)
    """Layers of ``torch.nn`` whose forward is this operation."""
    either_side: bool = False
    """Whether a call finds its weight on either side, or none at all: of two activations, too."""
    multiplies: bool = True
    """Whether the weight is a matrix, so that the layer is one that errors are routed around."""

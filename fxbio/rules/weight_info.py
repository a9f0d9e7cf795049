"""Fan-in and fan-out of a weight, right for grouped and transposed convolutions.

``torch.nn.init`` ignores groups when it counts the fan-out, which makes the feedback of a
depthwise convolution √groups too small; see ``WeightInfo.fan_out``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fxbio.rules.weight_layout import WeightLayout, weight_layout
from fxbio.site import OpKind, Site

__all__ = ["WeightInfo"]


@dataclass(frozen=True)
class WeightInfo:
    """Properties of a weight besides its values, for rules."""

    name: str
    """Qualified name of the weight."""
    op: OpKind
    shape: tuple[int, ...]
    """As the operation uses it."""
    groups: int = 1
    summed: tuple[int, ...] = (-2,)
    """Of a ``matmul``: the dimensions of the weight that are summed over; (-2,) in ``x @ W``."""
    produced: tuple[int, ...] = (-1,)
    """Of a ``matmul``: the dimensions of the weight that the result gains."""
    stored: tuple[int, ...] = ()
    """Shape of the feedback, where it is not ``shape``: that of a parameter of which the operation
    uses a part, or which it uses transposed."""

    @property
    def layout(self) -> tuple[int, ...]:
        """Shape of the feedback."""
        return self.stored or self.shape

    @classmethod
    def of(cls, site: Site) -> WeightInfo:
        """Properties of the weight of a site."""
        axes = (site.summed, site.produced)
        return cls(site.weight, site.op, site.shape, site.groups, *axes, site.feedback_shape)

    @property
    def is_convolution(self) -> bool:
        """True if it is the weight of a plain or transposed convolution."""
        return self.op.startswith("conv")

    @property
    def fan_in(self) -> int:
        """Number of inputs that one output unit sums over."""
        layout = self._layout(self.shape)
        return math.prod(layout.split[d] for d in layout.inputs)

    @property
    def fan_out(self) -> int:
        """Number of output units that one input reaches; each group counts for itself."""
        layout = self._layout(self.shape)
        taps = math.prod(self.shape[2:]) if self.is_convolution else 1
        return math.prod(layout.split[d] for d in layout.outputs) * taps

    @property
    def matrices(self) -> WeightLayout:
        """Dimensions of the feedback that are groups, outputs and inputs."""
        return self._layout(self.layout)

    def _layout(self, shape: tuple[int, ...]) -> WeightLayout:
        return weight_layout(self.op, shape, self.groups, self.summed, self.produced)

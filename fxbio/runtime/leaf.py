"""Forwards of the stock layers with a rule: each mirrors the forward of its ``torch.nn`` layer."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, fx

from fxbio.ops.functional import Backward, conv, conv_transpose, linear
from fxbio.runtime.backward_path import backward_path
from fxbio.runtime.forward import Forward
from fxbio.runtime.retrace import record_as_leaf
from fxbio.runtime.structure_changes import check_unchanged
from fxbio.runtime.updates import count_writes
from fxbio.tensors.grad_mode import differentiated

__all__ = ["LEAF_FORWARDS", "LeafForward"]


class LeafForward(Forward):
    """A layer with one weight."""

    weight: Tensor
    bias: Tensor | None

    def _backward_path(self) -> Backward:
        weight = self._fxbio_binding.weights[0]
        check_unchanged(self, weight)
        if differentiated():
            count_writes(self)
        return backward_path(self, weight)


class LinearForward(LeafForward):
    """``nn.Linear``."""

    def forward(self, input: Any) -> Any:
        if isinstance(input, fx.Proxy):
            return record_as_leaf(self, input, (input,), {})
        return linear(input, self.weight, self.bias, backward=self._backward_path())


class ConvForward(LeafForward):
    """``nn.Conv1d``, ``nn.Conv2d``, ``nn.Conv3d``."""

    padding_mode: str
    stride: tuple[int, ...]
    padding: tuple[int, ...] | str
    dilation: tuple[int, ...]
    groups: int
    _reversed_padding_repeated_twice: list[int]

    def forward(self, input: Any) -> Any:
        if isinstance(input, fx.Proxy):
            return record_as_leaf(self, input, (input,), {})
        padding = self.padding
        if self.padding_mode != "zeros":
            input = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = (0,)
        geometry = (self.stride, padding, self.dilation, self.groups)
        return conv(input, self.weight, self.bias, *geometry, backward=self._backward_path())


class ConvTransposeForward(LeafForward):
    """``nn.ConvTranspose1d``, ``nn.ConvTranspose2d``, ``nn.ConvTranspose3d``."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    kernel_size: tuple[int, ...]
    groups: int
    _output_padding: Any

    def forward(self, input: Any, output_size: list[int] | None = None) -> Any:
        if isinstance(input, fx.Proxy):
            return record_as_leaf(self, input, (input,), {"output_size": output_size})
        output_padding = self._output_padding(
            input,
            output_size,
            self.stride,
            self.padding,
            self.kernel_size,
            self.weight.dim() - 2,
            self.dilation,
        )
        geometry = (self.stride, self.padding, output_padding, self.groups, self.dilation)
        return conv_transpose(
            input, self.weight, self.bias, *geometry, backward=self._backward_path()
        )


LEAF_FORWARDS: dict[str, type[LeafForward]] = {
    "linear": LinearForward,
    **{f"conv{d}d": ConvForward for d in (1, 2, 3)},
    **{f"conv_transpose{d}d": ConvTransposeForward for d in (1, 2, 3)},
}
"""Forward by the kind of layer."""

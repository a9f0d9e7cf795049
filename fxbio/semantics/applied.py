"""Products of a weight that are activations: one definition for capture, scopes and witness.

A tensor is an *activation* when it depends on an input of the model or on chance, or when a layer
made it: a linear map, a convolution or a normalisation, whatever that was applied to. Learned
queries, relative positions and fixed tables that go through a layer are activations behind it,
and the layer is a site. What else is computed from parameters and constants alone, ``A @ B`` or
``W / W.norm()``, is a weight. So is what a layer function makes where it ends as the weight of a
layer: a norm from power iteration, a standardised kernel, the output of a network of weights.
Only the whole pass shows the last, so capture finds out, and names the weights that are applied.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from fxbio.semantics.functions import LinearCall, is_linear_function
from fxbio.tensors.nested import tensors_in

__all__ = ["applies_or_looks_up", "makes_activation"]

_LOOKUPS = (F.embedding_bag,)


def makes_activation(
    call: LinearCall, is_activation: Callable[[Tensor], bool], applied: bool
) -> bool:
    """True if a call applies its weight, rather than computing a further weight from it.

    Args:
        call: of a function that takes a weight.
        is_activation: whether a tensor is an activation.
        applied: whether capture found the weight applied by a layer to parameters or constants.
    """
    if applied and call.op != "matmul":
        return True
    return any(is_activation(tensor) for tensor in _multiplied(call))


def _multiplied(call: LinearCall) -> list[Tensor]:
    """Operands that the weight is multiplied with; of a product with a summand, the summand too."""
    values: Any = call.args if call.op == "matmul" else call.args[:1]
    return [t for t in tensors_in(values) if t is not call.weight and t.dim() > 0]


def applies_or_looks_up(function: Any) -> bool:
    """True if a function makes an activation of a weight by definition: a layer, or a table."""
    return function in _LOOKUPS or is_linear_function(function)

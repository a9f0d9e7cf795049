"""Mixtures of a weight and of something that is no weight: a mask, a step, an adapter.

Capture follows a weight through parameters, buffers and constants to the layer that applies it.
A tensor that came later, a mask that is set after the transform, is none of these to the scope:
what it makes of a weight has no rule, and a layer with it would run plain backprop. So products,
sums and selections of the two are remembered here until a layer would apply one of them.

What is made of weights and activations is no such thing: gains, positions, looked-up rows. Of
those the captured pass knows, and their weights are left alone (``BoundWeight.meets_activations``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch._ops import OpOverload

from fxbio.errors import UnreachableWeightError
from fxbio.runtime.binding import BoundWeight
from fxbio.semantics.applied import applies_or_looks_up
from fxbio.semantics.functions import match_linear_call, weight_operand
from fxbio.source_locations import user_origin
from fxbio.tensors.nested import tensors_in

__all__ = ["Mixtures"]


class Mixtures:
    """The tensors of one forward pass that a weight and something unknown were made into."""

    def __init__(self) -> None:
        self._made: dict[Tensor, BoundWeight] = {}
        self._products: dict[Tensor, BoundWeight] = {}

    def note(
        self, func: Any, operands: Iterable[Tensor], weights: list[BoundWeight], out: Any
    ) -> None:
        """Remember the results of a function.

        Args:
            func: as a ``TorchFunctionMode`` is given it.
            operands: tensors whose values enter the result.
            weights: those among them that are weights.
            out: what the function returned.
        """
        if applies_or_looks_up(func) or isinstance(func, OpOverload):
            return
        found = [*weights, *(self._made[o] for o in operands if o in self._made)]
        for weight in found:
            if not weight.meets_activations:
                self._made |= dict.fromkeys(tensors_in(out), weight)

    def note_product(self, weight: BoundWeight, out: Tensor) -> None:
        """Remember a matrix product with a weight that capture saw in other layers alone.

        It may be a rotation of the weight, but as well be the layer itself, in another branch.
        """
        if weight.info.op != "matmul" and not weight.meets_activations:
            self._products[out] = weight

    def check(self, func: Any, args: Any, kwargs: Any) -> None:
        """Refuse a call that applies one of them.

        Raises:
            UnreachableWeightError: with the weight, the line, and the line of the policy.
        """
        if not self._made and not self._products:
            return
        given = weight_operand(func, args, kwargs)
        weight = self._weight(given) or self._products.get(given)
        if weight is None:
            call = match_linear_call(func, args, kwargs, self._is_mixture)
            weight = None if call is None else self._weight(call.weight)
        if weight is not None:
            raise _unseen(weight)

    def _is_mixture(self, value: Any) -> bool:
        return self._weight(value) is not None

    def _weight(self, value: Any) -> BoundWeight | None:
        return self._made.get(value) if isinstance(value, Tensor) else None


def _unseen(weight: BoundWeight) -> UnreachableWeightError:
    origin = user_origin()
    where = "" if origin is None else f"{origin}: "
    return UnreachableWeightError(
        f"{where}{weight.weight} is applied together with a tensor that no module held when the "
        "model was captured, which would be plain backprop",
        notes=[f"rule '{weight.spec}', decided by {weight.decided_by}"],
        help="fxbio.revert(model), set the tensor (a mask, an adapter) as a buffer, parameter or "
        "attribute of a module, and transform again; or give the weight rule: bp",
    )

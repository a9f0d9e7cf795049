"""Rules for weights that a forward applies in its own way: ``F.linear(x, self.qkv.weight)``.

While the forward of such a module runs, a ``TorchFunctionMode`` replaces the calls that apply
one of its weights. Everything else is the user's own Python: branches, shapes and batch sizes
stay free, and the same code runs eagerly, under ``torch.compile`` and under ``torch.export``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from fxbio.errors import UnreachableWeightError
from fxbio.ops.functional import Backward
from fxbio.runtime.backward_path import backward_path
from fxbio.runtime.binding import BoundWeight, resolve_attribute
from fxbio.runtime.forward import Forward
from fxbio.runtime.mixtures import Mixtures
from fxbio.runtime.module_state import binding_of
from fxbio.runtime.retrace import proxy_in, record_as_leaf
from fxbio.runtime.structure_changes import check_unchanged
from fxbio.runtime.tensor_scope import MARK, TensorScope, operands_in
from fxbio.runtime.updates import count_writes
from fxbio.semantics.applied import makes_activation
from fxbio.semantics.functions import COMPOSITES, LinearCall, match_linear_call
from fxbio.semantics.weight_provenance import Followed, follow, giving_values
from fxbio.tensors.grad_mode import differentiated

__all__ = ["RuleScope", "ScopeForward"]


class ScopeForward(Forward):
    """A module whose own forward runs inside a ``RuleScope``."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's own forward."""
        proxy = proxy_in((args, kwargs))
        if proxy is not None:
            return record_as_leaf(self, proxy, args, kwargs)
        if not differentiated():  # then fused inference kernels may run
            return super().forward(*args, **kwargs)
        for weight in self._fxbio_binding.weights:
            check_unchanged(self, weight)
        count_writes(self)
        with RuleScope(self):
            return super().forward(*args, **kwargs)


@dataclass(frozen=True)
class _Known:
    """A tensor computed from parameters and constants alone."""

    weight: BoundWeight | None
    """The weight whose backward path it takes when it is applied; None for a constant."""
    feedback: Any
    """The drawn feedback, in the shape of the tensor; None where there is none, or no longer."""


class RuleScope(TensorScope):
    """Runs the planned rule wherever one of a module's weights is applied."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        binding = binding_of(module)
        self._module = module
        self._weights = binding.weights
        self._known: dict[Tensor, _Known] = {}  # a tensor hashes by identity
        self._mixtures = Mixtures()
        for weight in binding.weights:
            self._add_weight(weight)

    def _add_weight(self, weight: BoundWeight) -> None:
        feedback = backward_path(self._module, weight).feedback
        for name in weight.constants:
            self._remember(resolve_attribute(self._module, name), None, None)
        if weight.sources == (weight.attribute,):
            tensor = resolve_attribute(self._module, weight.attribute)
            matches = tensor.shape == weight.shape
            self._remember(tensor, weight, feedback if matches else None)
            return
        for name in weight.sources:
            tensor = resolve_attribute(self._module, name)
            fits = feedback is not None and tensor.shape == feedback.shape
            self._remember(tensor, weight, feedback if fits else None)

    def on_mark(self, tensor: Tensor, event: str, name: str) -> Any:
        """A call like any other here: it is for the scopes of the whole model to answer."""
        return self.on_function(MARK, (tensor, event, name), {})

    def on_function(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Apply a weight under its rule; follow what is made of weights."""
        if func in COMPOSITES:
            with self:
                return COMPOSITES[func](*args, **kwargs)
        call = match_linear_call(func, args, kwargs, self._is_weight)
        if call is not None and self._applies(call):
            return self._apply(call)
        self._mixtures.check(func, args, kwargs)
        out = func(*args, **kwargs)
        self._follow(func, args, kwargs, out)
        return out

    def _apply(self, call: LinearCall) -> Tensor:
        known = self._known[call.weight]
        out = call.run(self._backward(known, call.weight))
        if call.op == "matmul" and known.weight is not None:
            self._mixtures.note_product(known.weight, out)
        return out

    def _find(self, value: Any) -> _Known | None:
        return self._known.get(value) if isinstance(value, Tensor) else None

    def _applies(self, call: LinearCall) -> bool:
        weight = self._known[call.weight].weight
        assert weight is not None
        ruled = weight.looked_up if call.op == "embedding" else weight.multiplied
        return ruled and makes_activation(call, self._is_activation, weight.applied)

    def _is_activation(self, tensor: Tensor) -> bool:
        return self._find(tensor) is None

    def _is_weight(self, value: Any) -> bool:
        known = self._find(value)
        return known is not None and known.weight is not None

    def _backward(self, known: _Known, tensor: Tensor) -> Backward:
        weight = known.weight
        assert weight is not None
        if not weight.stored or known.feedback is not None:
            return Backward(weight.spec, weight.scale, known.feedback)
        for other in self._weights:
            if other.stored and other.shape == tensor.shape:
                return backward_path(self._module, other)
        raise UnreachableWeightError(
            f"{weight.weight} is applied in a shape that capture did not see: "
            f"{tuple(tensor.shape)}",
            help="capture with example inputs that take this path, or give the weight rule: bp",
        )

    def _follow(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """Remember what is computed from known tensors alone, and its feedback alongside."""
        operands = giving_values(func, list(operands_in((args, kwargs))))
        found = [self._find(operand) for operand in operands]
        weighty = [known for known in found if known is not None and known.weight is not None]
        if None in found:
            weights = [known.weight for known in weighty if known.weight is not None]
            self._mixtures.note(func, operands, weights, out)
            return
        results = list(operands_in(out))
        followed = [
            Followed(tuple(operand.shape), known.weight is not None, known.feedback)
            for operand, known in zip(operands, found, strict=True)
            if known is not None
        ]

        def moved() -> list[Any]:
            given, named = tree_map_only(Tensor, self._twin, (args, kwargs))
            return list(operands_in(func(*given, **named)))

        twins = follow(func, followed, [tuple(result.shape) for result in results], moved)
        for result, twin in zip(results, twins, strict=True):
            heir = next((k for k in weighty if twin is not None and k.feedback is twin), None)
            self._remember(result, (heir or weighty[0]).weight if weighty else None, twin)

    def _remember(self, tensor: Tensor, weight: BoundWeight | None, feedback: Any) -> None:
        self._known.setdefault(tensor, _Known(weight, feedback))

    def _twin(self, tensor: Tensor) -> Any:
        """Substitute of a tensor in computing feedback: that of a weight, or itself."""
        known = self._known.get(tensor)
        return tensor if known is None or known.feedback is None else known.feedback

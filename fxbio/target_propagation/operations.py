"""Steps of a forward pass as plain data: what an inverse is built from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from fxbio.ops import functional
from fxbio.ops.einsum import explicit_equation
from fxbio.semantics.functions import match_linear_call
from fxbio.semantics.weight_provenance import called_function
from fxbio.site import Site

__all__ = ["Activation", "Geometry", "Operation", "OperationKind", "range_of", "read_operation"]

OperationKind = Literal[
    "linear",
    "conv",
    "conv_transpose",
    "einsum",
    "activation",
    "pool",
    "unfold",
    "reshape",
    "permute",
    "kept",
    "other",
]
"""``kept`` leaves the shape as it is (normalisation, dropout, a sum with a skip); ``other`` changes
it in a way that nothing here can mirror."""


@dataclass(frozen=True)
class Geometry:
    """Of a convolution or of patches; one number for each spatial dimension."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    """In front; of ``same`` padding with an odd total the extra zero goes behind."""
    dilation: tuple[int, ...]
    groups: int


@dataclass(frozen=True)
class Activation:
    """An elementwise function of ``torch.nn.functional`` and its options."""

    name: str
    options: tuple[tuple[str, float | str], ...] = ()

    def __call__(self, x: Tensor) -> Tensor:
        """Apply it."""
        result: Tensor = getattr(F, self.name)(x, **dict(self.options))
        return result

    def __str__(self) -> str:
        options = ", ".join(f"{key}={value}" for key, value in self.options)
        return f"{self.name}({options})" if options else self.name


@dataclass(frozen=True)
class Operation:
    """One step from a tensor to the next. Shapes include the batch dimension."""

    kind: OperationKind
    name: str
    """Of the module class or function, for people."""
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    site: str | None = None
    weight_shape: tuple[int, ...] = ()
    geometry: Geometry | None = None
    equation: tuple[str, str, str] | None = None
    """Subscripts of the input, the weight and the output of an einsum."""
    activation: Activation | None = None
    dims: tuple[int, ...] = ()
    """Of a permutation: where each dimension of the output comes from."""


_ACTIVATIONS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(["relu", "relu6", "selu", "silu", "mish", "tanh", "sigmoid", "hardswish"], ()),
    **dict.fromkeys(["hardsigmoid", "softsign", "tanhshrink", "logsigmoid"], ()),
    **dict.fromkeys(["elu", "celu"], ("alpha",)),
    **dict.fromkeys(["softshrink", "hardshrink"], ("lambd",)),
    "leaky_relu": ("negative_slope",),
    "gelu": ("approximate",),
    "softplus": ("beta", "threshold"),
    "hardtanh": ("min_val", "max_val"),
}
"""Functions of ``torch.nn.functional`` with the options that matter, in the order of arguments."""

_ACTIVATION_MODULES = {name.replace("_", ""): name for name in _ACTIVATIONS}
_RESHAPES = {"flatten", "unflatten", "view", "reshape", "squeeze", "unsqueeze"}
_TRANSPOSITIONS = {"transpose", "permute", "movedim", "swapaxes", "swapdims"}


def read_operation(
    model: nn.Module, node: fx.Node, source: fx.Node | None, site: Site | None
) -> Operation:
    """Step that a node does to the tensor that comes from ``source``.

    Args:
        model: the module that was captured.
        node: a node of its graph.
        source: the node before it on the way that is followed; ``None`` at an input.
        site: the site that the node executes, if it is one.
    """
    module = model.get_submodule(str(node.target)) if node.op == "call_module" else None
    name = type(module).__name__ if module is not None else _function_name(node)
    before = _shape(source) if source is not None or site is None else site.input_shape
    shapes = (before, _shape(node))
    if site is not None and site.multiplies:
        return _weighted(model, node, module, name, shapes, site)
    key = name.rstrip("_") if module is None else _ACTIVATION_MODULES.get(name.lower(), name)
    if key in _ACTIVATIONS:
        return Operation("activation", name, *shapes, activation=_activation(key, node, module))
    if key in _TRANSPOSITIONS:
        dims = _permutation(key, node, len(before))
        return Operation("permute" if dims[0] == 0 else "other", name, *shapes, dims=dims)
    if node.target is F.unfold:
        return Operation("unfold", name, *shapes, geometry=_patches(*node.args[1:], **node.kwargs))
    return Operation(_kind(key.lower(), *shapes), name, *shapes)


def _kind(name: str, before: tuple[int, ...], after: tuple[int, ...]) -> OperationKind:
    if before == after:
        return "kept"
    if "pool" in name and len(before) == len(after) and _pools(before, after):
        return "pool"
    if name == "mean" and len(after) in (2, len(before)) and _pools(before, after):
        return "pool"
    if name in _RESHAPES and _reshapes(before, after):
        return "reshape"
    return "other"


def range_of(operations: Sequence[Operation]) -> Activation | None:
    """The activation whose range a tensor is in, from the operations that made it, first to last.

    ``None`` where there is none, or something after it leaves that range.
    """
    for operation in reversed(operations):
        if operation.activation is not None:
            return operation.activation
        dropout = operation.kind == "kept" and "dropout" in operation.name.lower()
        if not dropout and operation.kind not in ("pool", "reshape", "permute"):
            return None
    return None


def _shape(node: fx.Node | None) -> tuple[int, ...]:
    return () if node is None else tuple(node.meta.get("shape", ()))


def _function_name(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target))


def _activation(name: str, node: fx.Node, module: nn.Module | None) -> Activation:
    options = _ACTIVATIONS[name]
    given = vars(module) if module is not None else node.kwargs
    values = {**dict(zip(options, node.args[1:], strict=False)), **given}
    return Activation(name, tuple((o, values[o]) for o in options if o in values))


def _pools(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """True if batch and channel stay in front, and something behind them shrinks or is gone."""
    return len(before) > 2 and before[:2] == after[:2]


def _reshapes(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    same_batch = bool(before and after) and before[0] == after[0]
    return same_batch and math.prod(before) == math.prod(after)


def _permutation(name: str, node: fx.Node, rank: int) -> tuple[int, ...]:
    """Origin of each dimension of the result, found by trying it on distinct sizes."""
    sizes = tuple(range(2, rank + 2))
    probe = torch.empty(sizes, device="meta")
    moved = getattr(torch.Tensor, name)(probe, *node.args[1:], **node.kwargs)
    return tuple(sizes.index(size) for size in moved.shape)


def _weighted(
    model: nn.Module,
    node: fx.Node,
    module: nn.Module | None,
    name: str,
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    site: Site,
) -> Operation:
    if site.op == "linear":
        return Operation("linear", name, *shapes, site.name, site.shape)
    if site.op == "matmul":
        equation = _equation(node, shapes[0], site)
        kind: OperationKind = "other" if equation is None else "einsum"
        return Operation(kind, name, *shapes, site.name, site.shape, equation=equation)
    given = _module_geometry(module) if module is not None else _call_geometry(node)
    geometry = _geometry(site, *given)
    kind = "conv_transpose" if site.op.startswith("conv_transpose") else "conv"
    return Operation(kind, name, *shapes, site.name, site.shape, geometry)


def _module_geometry(module: nn.Module) -> tuple[Any, Any, Any]:
    return module.stride, module.padding, module.dilation


def _matched(node: fx.Node) -> Any:
    operand = node.meta["operand"]
    return match_linear_call(
        called_function(node),
        node.args,
        node.kwargs,
        lambda v: isinstance(v, fx.Node) and v.name == operand,
    )


def _call_geometry(node: fx.Node) -> tuple[Any, Any, Any]:
    call = _matched(node)
    if call.target is functional.conv:
        return call.args[3], call.args[4], call.args[5]
    return call.args[3], call.args[4], call.args[7]


def _geometry(site: Site, stride: Any, padding: Any, dilation: Any) -> Geometry:
    kernel = site.shape[2:]
    spread = _each(dilation, len(kernel))
    if padding == "same":
        padding = tuple(d * (k - 1) // 2 for d, k in zip(spread, kernel, strict=True))
    pad = _each(0 if padding == "valid" else padding, len(kernel))
    return Geometry(kernel, _each(stride, len(kernel)), pad, spread, site.groups)


def _patches(kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Geometry:
    """Of ``F.unfold``, whose arguments these are."""
    return Geometry(
        *(_each(kernel_size, 2), _each(stride, 2), _each(padding, 2), _each(dilation, 2)), groups=1
    )


def _each(value: Any, count: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * count if len(values) == 1 else values


def _equation(node: fx.Node, shape: tuple[int, ...], site: Site) -> tuple[str, str, str] | None:
    call = _matched(node)
    if call.target is functional.einsum:
        parts = explicit_equation(call.kwargs["equation"])
        assert parts is not None  # else it would be no site
        at = call.kwargs["weight_at"]
        return parts[1 - at], parts[at], parts[2]
    if len(site.shape) != 2 or len(shape) < 2:
        return None
    lead = "abcdefgh"[: len(shape) - 1]
    if not call.kwargs.get("weight_is_left"):
        return f"{lead}i", "io", f"{lead}o"
    if len(shape) < 3:
        return None  # then the batch is not in front
    return f"{lead[:-1]}in", "oi", f"{lead[:-1]}on"

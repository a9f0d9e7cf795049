"""Oracle of one call of a rule op, from plain torch functions and autograd.

For an operation ``f`` with forward weight ``W`` and feedback weight ``B``

    ``t = f(x, B);  y = f(x.detach(), W) + (t - t.detach())``

has the exact forward value, and its gradients are those of the rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from fxbio.ops.activity import activity_gradient, patches, tokens
from fxbio.ops.feedback_weight import feedback_of, parse_rule
from fxbio.semantics.op_spec import Arguments
from fxbio.semantics.op_table import OPERATIONS
from fxbio.transforms.base import Product, SiteValues, parse_transform
from fxbio.verification.probe import OpCall

__all__ = [
    "backprop_errors",
    "feedback_in_call",
    "oracle_gradients",
    "replayed_output",
    "stock_output",
    "with_random_error",
]

_STOCK: dict[str, Callable[[Arguments], Tensor]] = {
    f"fxbio::{spec.op}": spec.stock for spec in OPERATIONS
}

_SHIFTS = ("bias",)
"""Arguments that are added to the result: they take no part in the feedback path."""


def replayed_output(call: OpCall) -> Tensor:
    """The result of the op on the same arguments.

    What the model itself got may have been overwritten since, and torch chooses other kernels
    here and there while a dispatch mode watches.
    """
    with torch.enable_grad(), call.autocast:
        out = call.op(**call.arguments)
    first: Tensor = out[0] if isinstance(out, tuple) else out
    return first.detach()


def with_random_error(call: OpCall) -> OpCall:
    """The same call sent back a random error, for where the model itself sent only zeros.

    Networks begin that way below a residual branch whose last scale is initialised to zero.
    """
    leaves = {
        key: value.detach().clone().requires_grad_()
        for key, value in call.arguments.items()
        if isinstance(value, Tensor) and value.requires_grad
    }
    with torch.enable_grad(), call.autocast:
        out = call.op(**{**call.arguments, **leaves})
        first: Tensor = out[0] if isinstance(out, tuple) else out
        generator = torch.Generator().manual_seed(0)
        error = torch.randn(first.shape, generator=generator).to(first)
        grads = torch.autograd.grad(first, list(leaves.values()), error, allow_unused=True)
    found: dict[str, Tensor | None] = dict(zip(leaves, grads, strict=True))
    gradients = {key: gradient for key, gradient in found.items() if gradient is not None}
    return replace(call, error=error, gradients=gradients)


def stock_output(call: OpCall) -> Tensor:
    """The result of the function that the op stands for."""
    with torch.enable_grad(), call.autocast:  # with gradients torch takes other paths
        return _STOCK[call.op.name().split(".")[0]](call.arguments).detach()


def feedback_in_call(call: OpCall) -> Tensor | None:
    """The feedback weight that the call used, or ``None`` if no error is sent below."""
    spec = call.arguments["rule"]
    if not parse_rule(spec).passes_error or "feedback" not in call.arguments:
        return None
    drawn = call.arguments["feedback"]
    with torch.no_grad():
        scale: float = call.arguments["scale"]
        return feedback_of(call.weight, drawn, spec, torch.empty(0, dtype=call.dtype)) * scale


def oracle_gradients(
    call: OpCall, error: Tensor, feedback: Tensor | None
) -> dict[str, Tensor | None]:
    """The gradients that each differentiated argument should have got.

    A feedback weight that is differentiated gets the gradient of the weight, that of a loss on
    the activity, or zeros, as its rule says.

    Args:
        call: with its arguments.
        error: gradient of the loss by the output.
        feedback: B, or ``None`` where no error is sent.
    """
    leaves = {
        key: value.detach().clone().requires_grad_()
        for key, value in call.arguments.items()
        if isinstance(value, Tensor) and key in (call.gradients.keys() | {call.weight_name})
    }
    taught = leaves.pop("feedback", None)
    with torch.enable_grad(), call.autocast:
        output = _ruled_output(call, {**call.arguments, **leaves}, feedback)
        if not output.requires_grad:
            return dict.fromkeys(call.gradients)
        found = _gradients(call, output, leaves, error)
    if taught is not None:
        found["feedback"] = _feedback_gradient(call, taught, found[call.weight_name])
    return {key: found.get(key) for key in call.gradients}


def backprop_errors(call: OpCall, error: Tensor) -> dict[str, Tensor | None]:
    """The gradients by the inputs of a call, had it been one of the stock function.

    Args:
        call: with its arguments.
        error: gradient of the loss by the output.
    """
    given = {k: v.detach() if isinstance(v, Tensor) else v for k, v in call.arguments.items()}
    leaves = {key: given[key].clone().requires_grad_() for key in call.sent}
    if not leaves:
        return {}
    with torch.enable_grad(), call.autocast:
        output = _STOCK[call.op.name().split(".")[0]]({**given, **leaves})
        grads = torch.autograd.grad(output, list(leaves.values()), error, allow_unused=True)
    return dict(zip(leaves, grads, strict=True))


def _gradients(
    call: OpCall, output: Tensor, leaves: dict[str, Tensor], error: Tensor
) -> dict[str, Tensor | None]:
    """Gradients of autograd by each leaf for the error that its product is to be made of."""
    if not parse_rule(call.arguments["rule"]).error:
        grads = torch.autograd.grad(output, list(leaves.values()), error, allow_unused=True)
        return dict(zip(leaves, grads, strict=True))
    below, own = _errors_of_products(call, error)
    ours = {call.weight_name, *_SHIFTS}
    found: dict[str, Tensor | None] = {}
    for key, leaf in leaves.items():
        sent = own if key in ours else below
        (found[key],) = torch.autograd.grad(
            output, leaf, sent, retain_graph=True, allow_unused=True
        )
    return found


def _errors_of_products(call: OpCall, error: Tensor) -> tuple[Tensor, Tensor]:
    """The error for what goes below, and for the gradients of weight and bias."""
    transforms = [parse_transform(spec) for spec in parse_rule(call.arguments["rule"]).error]
    activation = "x" if "x" in call.arguments else ({"left", "right"} - {call.weight_name}).pop()
    x = call.arguments[activation]
    many = 1 if "stride" in call.arguments else -1
    site = SiteValues(x, call.weight, many if x.dim() > 1 else None)
    products: list[Product] = ["input", "weight"]
    outputs = _outputs(call, error, x)
    rows = error.movedim(outputs, tuple(range(-len(outputs), 0)))
    errors = []
    for product in products:
        sent = rows.flatten(-len(outputs)) if outputs else rows
        for transform in transforms:
            sent = transform.apply(sent, site) if transform.where in ("both", product) else sent
        errors.append(sent.reshape(rows.shape).movedim(tuple(range(-len(outputs), 0)), outputs))
    return errors[0], errors[1]


def _outputs(call: OpCall, error: Tensor, x: Tensor) -> tuple[int, ...]:
    """Dimensions of the error of products of matrices that belong to the weight."""
    if "equation" in call.arguments:
        operands, _, result = call.arguments["equation"].replace(" ", "").partition("->")
        of_x = operands.split(",")[1 - call.arguments["weight_at"]]
        return tuple(i for i, letter in enumerate(result) if letter not in of_x)
    columns = call.arguments.get("weight_is_left") and x.dim() > 1
    return (error.dim() - 2,) if columns else ()


def _ruled_output(call: OpCall, given: Arguments, feedback: Tensor | None) -> Tensor:
    """``f(x.detach(), W) + (t - t.detach())`` with ``t = f(x, B)``."""
    stock = _STOCK[call.op.name().split(".")[0]]
    exact_only = {call.weight_name, *_SHIFTS}
    detached = {
        key: value.detach() if isinstance(value, Tensor) and key not in exact_only else value
        for key, value in given.items()
    }
    output = stock(detached)
    if feedback is None:
        return output
    shifts = {k: v.detach() for k, v in given.items() if k in _SHIFTS and v is not None}
    carrier = stock({**given, call.weight_name: feedback, **shifts})
    return output + (carrier - carrier.detach())


def _feedback_gradient(call: OpCall, feedback: Tensor, of_weight: Tensor | None) -> Tensor | None:
    a, rule = call.arguments, parse_rule(call.arguments["rule"])
    if rule.tied:
        return of_weight
    share = rule.watched_share()
    if not share:
        return torch.zeros_like(feedback)
    if "stride" not in a:
        return activity_gradient(rule, tokens(a["x"], share), call.weight, feedback)
    geometry = (a["stride"], a["padding"], a["dilation"], a["groups"], share)
    seen = patches(a["x"], call.weight.shape[2:], *geometry)
    return activity_gradient(rule, seen, call.weight, feedback)

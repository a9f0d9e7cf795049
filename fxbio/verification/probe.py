"""Watching the rule ops of a model while it runs, without changing what they compute."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from fxbio.ops.error_port import LABEL
from fxbio.ops.feedback_weight import trains_weight

__all__ = ["Arrival", "Delivered", "OpCall", "OpProbe", "is_rule_op"]


_INLETS = (torch.ops.fxbio.inlet.default, torch.ops.fxbio.label_inlet.default)


@dataclass
class OpCall:
    """One call of a rule op, with the gradients that its backward pass gave."""

    op: Any
    arguments: dict[str, Any]
    """Arguments by the names of the op's schema; tensors detached."""
    weight_name: str
    """Name of the argument that is the weight."""
    sources: frozenset[str]
    """Parameters that the weight is computed from."""
    dtype: torch.dtype
    """Of the output."""
    autocast: AbstractContextManager[Any]
    """The precision of the region that the call was made in."""
    error: Tensor | None = None
    """Gradient of the loss by the output."""
    gradients: dict[str, Tensor] = field(default_factory=dict)
    """Gradient by each tensor argument that got one."""

    @property
    def weight(self) -> Tensor:
        """The weight that was applied."""
        value: Tensor = self.arguments[self.weight_name]
        return value

    @property
    def sent(self) -> dict[str, Tensor]:
        """The gradients of the inputs: the error that went below."""
        parameters = (self.weight_name, "bias", "feedback")
        return {key: value for key, value in self.gradients.items() if key not in parameters}


@dataclass
class Arrival:
    """One inlet for the error of a source, with the gradients that its receiver got."""

    name: str
    """Of the receiver."""
    receiver: Tensor
    """What receives, as the model holds it; the logits, where that is a classifier."""
    projection: str
    """Spec string, or ``label``."""
    feedback: Tensor | None
    """The matrix that the error is projected by."""
    sent: Tensor | None = None
    """What came through this inlet."""
    arrived: Tensor | None = None
    """What arrived at the receiver from everywhere."""


@dataclass
class Delivered:
    """One call of the op that broadcasts an error."""

    output: Tensor
    """Of the source, detached."""
    targets: bool
    mean: bool
    arrivals: list[Arrival]
    error: Tensor | None = None
    """Gradient of the loss by the output."""


def is_rule_op(func: Any) -> bool:
    """True if a function is one of fxbio's custom ops that apply a weight under a rule."""
    if not isinstance(func, torch._ops.OpOverload) or func.namespace != "fxbio":
        return False
    return any(argument.name == "rule" for argument in func._schema.arguments)


def named_arguments(op: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """The arguments of an op call by the names in its schema."""
    names = [argument.name for argument in op._schema.arguments]
    return {**dict(zip(names, args, strict=False)), **kwargs}


def weight_argument(arguments: dict[str, Any]) -> str:
    """The name of the argument that is the weight."""
    if "weight_is_left" in arguments:
        return "left" if arguments["weight_is_left"] else "right"
    return "weight"


class OpProbe(TorchFunctionMode):
    """Records every call of a rule op that takes part in a backward pass.

    Each tensor argument goes through a view of its own, whose gradient is that of this one use.
    """

    def __init__(self, sources_of: Callable[[Tensor], frozenset[str]]) -> None:
        """Watch nothing yet.

        Args:
            sources_of: names of the parameters that a weight is computed from.
        """
        super().__init__()
        self.calls: list[OpCall] = []
        self.seen: list[tuple[frozenset[str], str]] = []
        """Sources and rule of every call, those without gradients included."""
        self.deliveries: list[Delivered] = []
        self._arrivals: dict[Tensor, Arrival] = {}
        """By inlet."""
        self._sources_of = sources_of

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.fxbio.broadcast.default:
            return self._watched_delivery(func, named_arguments(func, args, kwargs))
        if func in _INLETS:
            return self._watched_inlet(func, named_arguments(func, args, kwargs))
        if not is_rule_op(func):
            return func(*args, **kwargs)
        arguments = named_arguments(func, args, kwargs)
        name = weight_argument(arguments)
        sources = self._sources_of(arguments[name])
        self.seen.append((sources, arguments["rule"]))
        if not torch.is_grad_enabled():
            return func(*args, **kwargs)
        return self._watched(func, arguments, name, sources)

    def _watched_delivery(self, func: Any, arguments: dict[str, Any]) -> Tensor:
        arrivals = [self._arrivals[each] for each in arguments["inlets"]]
        targets, mean = arguments["targets"], arguments["mean"]
        call = Delivered(arguments["output"].detach(), targets, mean, arrivals)
        out: Tensor = func(*arguments.values())
        if out.requires_grad:
            out.register_hook(lambda error: setattr(call, "error", error.detach()))
        self.deliveries.append(call)
        return out

    def _watched_inlet(self, func: Any, arguments: dict[str, Any]) -> Tensor:
        key = "receiver" if "receiver" in arguments else "logits"
        receiver = arguments[key]
        projection, feedback = arguments.get("projection", LABEL), arguments.get("feedback")
        arrival = Arrival(arguments["name"], receiver, projection, feedback)
        tap = receiver.view_as(receiver)
        if tap.requires_grad:
            tap.register_hook(_noting(arrival, "sent"))
            receiver.register_hook(_noting(arrival, "arrived"))
        out: Tensor = func(*{**arguments, key: tap}.values())
        self._arrivals[out] = arrival
        return out

    def _watched(
        self, func: Any, arguments: dict[str, Any], name: str, sources: frozenset[str]
    ) -> Any:
        taps = {k: v.view_as(v) for k, v in arguments.items() if _gets_gradient(v)}
        out = func(*{**arguments, **taps}.values())
        first: Tensor = out[0] if isinstance(out, tuple) else out
        plain = {k: _as_passed(v) for k, v in arguments.items()}
        call = OpCall(func, plain, name, sources, first.dtype, _autocast(first))
        for key, tap in taps.items():
            tap.register_hook(_keep_in(call.gradients, key))
        if first.requires_grad:
            first.register_hook(lambda error: setattr(call, "error", error.detach()))
        if first.requires_grad or not trains_weight(arguments["rule"]):
            self.calls.append(call)  # of a frozen first layer there is a forward pass to judge
        return out


def _as_passed(value: Any) -> Any:
    """An argument without its history; torch takes other paths for what needs a gradient."""
    if not isinstance(value, Tensor):
        return value
    return value.detach().requires_grad_(value.requires_grad)


def _autocast(tensor: Tensor) -> AbstractContextManager[Any]:
    device = tensor.device.type
    dtype = torch.get_autocast_dtype(device)
    return torch.autocast(device, dtype, enabled=torch.is_autocast_enabled(device))


def _gets_gradient(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _noting(arrival: Arrival, name: str) -> Callable[[Tensor], None]:
    """A hook that lets go of the arrival, which holds the tensor that the hook is on."""
    known = weakref.ref(arrival)

    def hook(error: Tensor) -> None:
        noted = known()
        if noted is not None:
            setattr(noted, name, error.detach())

    return hook


def _keep_in(gradients: dict[str, Tensor], key: str) -> Callable[[Tensor], None]:
    def hook(gradient: Tensor) -> None:
        gradients[key] = gradient.detach()

    return hook

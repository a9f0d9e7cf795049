"""From what receives to the sources of its errors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from fxbio.errors import ModelError
from fxbio.ops.broadcast import broadcast
from fxbio.ops.error_port import inlet, label_inlet
from fxbio.rules.decoupled_greedy import classify
from fxbio.runtime.binding import Routes
from fxbio.semantics.error_routing import Head, Unit, check_single_output

__all__ = [
    "Received",
    "check_delivered",
    "check_frozen",
    "check_received",
    "check_single",
    "deliver",
    "receive",
]


@dataclass
class Received:
    """A tensor that is to receive an error."""

    unit: Unit
    """The layer or block that it belongs to."""
    inlets: dict[str, Tensor]
    """Where the error of each source enters, by the name of the source."""
    learns: bool
    """Whether anything would learn from an error there."""
    sources: list[str] = field(default_factory=list)
    """Whose errors it is going to receive."""


def receive(model: nn.Module, routes: Routes, unit: Unit, tensor: Tensor) -> Received:
    """Record of a tensor that is to receive the error of a unit, with an inlet for each source.

    Args:
        model: holds the feedback matrices and classifiers.
        routes: what is sent where.
        unit: whose error it is.
        tensor: its value, with its history.

    Raises:
        ModelError: when a feedback matrix does not fit the tensor.
    """
    if tensor.requires_grad and not torch.is_grad_enabled():  # read where nothing is to learn
        with torch.enable_grad():
            return receive(model, routes, unit, tensor)
    inlets: dict[str, Tensor] = {}
    for source in routes.sources:
        delivery = routes.deliveries.get((source, unit.name))
        if delivery is None:
            continue
        if unit.head is None:
            matrix = getattr(model, delivery.matrix)
            inlets[source] = inlet(tensor, matrix, unit.name, delivery.projection)
        else:
            logits = _classified(model, unit.head, tensor)
            inlets[source] = label_inlet(logits, unit.name, delivery.mean)
    learns = any(each.requires_grad for each in (tensor, *inlets.values()))
    return Received(unit, inlets, learns)


def _classified(model: nn.Module, head: Head, tensor: Tensor) -> Tensor:
    layers = [(getattr(model, w), getattr(model, b)) for w, b in head.layers]
    return classify(tensor, head.channel_dim, head.pooled, layers)


def deliver(routes: Routes, received: list[Received], output: Tensor, source: str) -> Tensor:
    """The output of a source, whose error will reach what has received so far.

    Args:
        routes: what is sent where.
        received: in order of execution.
        output: of the source.
        source: its name, empty for the model itself.

    Raises:
        ModelError: where labels are needed, and autocast is to float16.
    """
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for item in received:
        if source not in item.inlets:
            continue
        item.sources.append(source)
        if not item.inlets[source].requires_grad:
            continue
        delivery = routes.deliveries[source, item.unit.name]
        if delivery.targets:
            _check_precision(item.unit, output)
        groups.setdefault((delivery.targets, delivery.mean), []).append(item.inlets[source])
    for (targets, mean), inlets in groups.items():
        output = broadcast(output, inlets, targets, mean)
    return output


def check_single(routes: Routes, out: Any) -> None:
    """Check that a model returns one tensor, whose error can be sent.

    Raises:
        PolicyError: when it returns none or several.
    """
    found = [t for t in tree_leaves(out) if isinstance(t, Tensor) and t.is_floating_point()]
    check_single_output(routes.units, type(out).__name__, len(found))


def check_delivered(routes: Routes, received: list[Received], ran: list[str]) -> None:
    """Check that whatever received in one forward pass will get its error.

    Args:
        routes: what is sent where.
        received: in one forward pass.
        ran: sources that did.

    Raises:
        ModelError: naming the unit that would learn nothing.
    """
    for item in received:
        name = item.unit.name
        wanted = [*item.inlets]
        late = [source for source in wanted if source in ran and source not in item.sources]
        if not item.learns or (item.sources and not late):
            continue
        if late:
            problem = f"it ran after {' and '.join(_said(source) for source in late)}"
        elif wanted:
            problem = f"{' and '.join(_said(source) for source in wanted)} did not run"
        elif item.unit.point == "input":
            continue  # the input of the model, which learns nothing
        else:
            problem = "this forward pass took another path than the one that was captured"
        raise ModelError(
            f"no error would reach '{name}' after this forward pass",
            notes=[problem, f"decided by {item.unit.decided_by}"],
            help="run it under torch.no_grad() if nothing is to learn from it; otherwise transform "
            "with example inputs that take this path, or name another 'source'",
        )


def check_received(units: Iterable[Unit]) -> None:
    """Check that there are no units that ran and whose outputs were followed to no receiver.

    The lowered graph has one for each, or the model would not have been transformed.

    Raises:
        ModelError: naming the first of them.
    """
    for unit in units:
        raise ModelError(
            f"no error would reach '{unit.name}' after this forward pass",
            notes=[
                "what it put out met no nonlinearity and no layer, where the captured pass did",
                f"decided by {unit.decided_by}",
            ],
            help="undo the rules and transform the model as it is now: fxbio.revert(model)",
        )


def check_frozen(routes: Routes, name: str, module: nn.Module) -> None:
    """Check that a module that ran without gradients has nothing to learn from its receiver.

    Raises:
        ModelError: when it has.
    """
    receives = any((source, name) in routes.deliveries for source in routes.sources)
    if not receives or not any(p.requires_grad for p in module.parameters()):
        return
    raise ModelError(
        f"'{name}' ran without gradients, so no error would reach it",
        notes=[f"decided by {routes.units[name].decided_by}"],
        help="activation checkpointing inside of the model needs use_reentrant=False here; for "
        "torch.no_grad(), freeze its parameters: requires_grad_(False)",
    )


def _said(source: str) -> str:
    return f"'{source}'" if source else "the output of the model"


def _check_precision(unit: Unit, output: Tensor) -> None:
    device = output.device.type
    autocast = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)
    if torch.float16 not in (output.dtype, autocast):
        return
    raise ModelError(
        f"'{unit.name}' learns from labels that are recovered from the error, which float16 with "
        "a gradient scaler makes impossible",
        notes=[f"decided by {unit.decided_by}"],
        help="use bfloat16 without a scaler: torch.autocast(device, torch.bfloat16)",
    )

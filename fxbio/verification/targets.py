"""Blocks that learn from targets: what arrived below each, and what should have.

The expected error is worked out sample by sample from the definition, with the inverse called on
one sample at a time: nothing of the op that the model runs takes part.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fxbio.target_propagation.block_target import BlockTarget
from fxbio.verification.result import SiteVerdict

__all__ = ["Connection", "judge_connection", "watch_targets"]

_TOLERANCE = 1e-4
"""Largest difference that rounding explains, relative to the largest entry: g is called on single
samples here, and with whole batches in the model."""


@dataclass
class Connection:
    """One call of ``BlockTarget.connect``, with the errors that passed it."""

    target: BlockTarget
    x: Tensor
    h: Tensor
    forward_equal: bool
    at_output: Tensor | None = None
    """The error that the rest of the model sent to the output of the block."""
    at_block: Tensor | None = None
    """The error that the weights of the block learn from."""
    below: Tensor | None = None
    """The error that was sent to the input of the block."""


@contextlib.contextmanager
def watch_targets(model: nn.Module, seen: list[Connection]) -> Iterator[None]:
    """Add to ``seen`` what every block of a model is connected to while the ``with`` block runs."""
    targets = [module for module in model.modules() if isinstance(module, BlockTarget)]
    for target in targets:
        vars(target)["connect"] = _watched(target, seen)
    try:
        yield
    finally:
        for target in targets:
            del vars(target)["connect"]


def _watched(target: BlockTarget, seen: list[Connection]) -> Any:
    def connect(h: Tensor, x: Tensor, block: Any) -> Tensor:
        tapped, entry = h.view_as(h), x.view_as(x)
        out = BlockTarget.connect(target, tapped, entry, block)
        found = Connection(target, x.detach(), h.detach(), torch.equal(out, h))
        seen.append(found)
        for tensor, name in ((out, "at_output"), (tapped, "at_block"), (entry, "below")):
            if tensor.requires_grad:
                tensor.register_hook(_keep(found, name))
        return out

    return connect


def _keep(found: Connection, name: str) -> Any:
    def hook(error: Tensor) -> None:
        setattr(found, name, error.detach().clone())

    return hook


def judge_connection(found: Connection) -> SiteVerdict:
    """Compare one block with the formula of its rule."""
    target, problem, worst = found.target, None, 0.0
    if found.at_output is not None:
        error = found.at_output * target.factor
        worst = _difference(found.at_block, error)
        if target.inverse is not None and found.below is not None:
            worst = max(worst, _difference(found.below, _expected_below(found, error)))
        if worst > _TOLERANCE:
            problem = "the error differs from the formula of its rule"
    if not found.forward_equal:
        problem = "the forward pass differs"
    return SiteVerdict(
        site=target.name,
        rule=str(target.rule),
        calls=1,
        forward_equal=found.forward_equal,
        gradient_error=worst,
        differs_from_bp=None,
        problem=problem,
        path="as it came" if target.inverse is None else "by its inverse",
    )


@torch.no_grad()
def _expected_below(found: Connection, error: Tensor) -> Tensor:
    """``(x − x̂)/N``: x̂ is ``x − g(h) + g(h − N e)``, or ``g(h − N e)`` without the correction."""
    target = found.target
    samples = len(found.h) if target.rule.reduction == "mean" else 1
    rows = []
    for x, h, e in zip(found.x, found.h, error, strict=True):
        seen = h.softmax(-1) if target.softmax else h
        aimed = _with_features(target, seen - samples * e, x)
        estimate = target.back(aimed)
        reference = target.back(_with_features(target, seen, x)) if target.rule.corrected else x
        rows.append((reference - estimate).reshape(x.shape) / samples)
    return torch.stack(rows)


def _with_features(target: BlockTarget, seen: Tensor, x: Tensor) -> Tensor:
    """A batch of one, with the random features of the input joined where the rule has them."""
    if target.auxiliary is None:
        return seen.unsqueeze(0)
    return torch.cat([seen.unsqueeze(0), target.auxiliary(x.unsqueeze(0))], -1)


def _difference(found: Tensor | None, wanted: Tensor) -> float:
    if found is None:
        return float(wanted.abs().max() > 0)
    scale = max(float(wanted.abs().max()), torch.finfo(wanted.dtype).tiny)
    return float((found - wanted).abs().max()) / scale

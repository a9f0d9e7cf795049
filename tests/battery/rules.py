"""The rules of the battery. A new rule is one line in ``RULES``.

``B``, and the loss by which it learns, are written here once more, as published, without fxbio.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["OF_TABLES", "RULES", "RuleLine"]

Loss = Callable[[Tensor, Tensor, Tensor, Callable[[Tensor, Tensor], Tensor]], Tensor]


@dataclass(frozen=True)
class RuleLine:
    """What is known of a rule without asking it."""

    feedback: Callable[[Tensor, Tensor | None], Tensor | None]
    """``B`` without its scale, from the weight as it is used and the drawn or learned part."""
    differs: bool = True
    """Whether the error below a site differs from backprop's."""
    reads_weight: bool = False
    """Whether the weight is read outside of the forward pass, where a weight that exists only
    inside a forward is not."""
    options: str = ""
    """Options under which the battery runs it, as YAML."""
    without: frozenset[str] = frozenset()
    """Cases whose operation it does not serve."""
    learns: bool = False
    """Whether ``B`` has a gradient: that of the weight where it has no loss of its own."""
    loss: Callable[[Tensor, Tensor], Tensor] | None = None
    """A loss on the weight and ``B``, once in each update."""
    activity_loss: Loss | None = None
    """A loss on the input, the weight, ``B`` and the operation, at every use of the weight."""
    path: Callable[[Tensor, Tensor, tuple[int, ...]], Tensor] | None = None
    """``B`` from a drawn and a learned part, in a given shape, where it is made of two."""
    remembers: bool = False
    """Whether the ``state_dict`` has feedback that no optimizer trains."""

    @property
    def extends_state(self) -> bool:
        """Whether the ``state_dict`` has more keys than the stock model's."""
        return self.learns or self.remembers


def _product(fixed: Tensor, learned: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``Bᵀ R`` of each group, rows for outputs; weights of ``x @ W`` are the other way round."""
    rows = torch.cat([b.T @ r for b, r in zip(fixed, learned, strict=True)])
    if rows.shape[0] == shape[0] or len(shape) != 2:
        return _transposed(rows, shape) if rows.shape[0] != shape[0] else rows.reshape(shape)
    return rows.T


def _transposed(rows: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Rows (outputs, inputs · taps) as the weight of a transposed convolution with one group."""
    return rows.reshape(shape[1], shape[0], *shape[2:]).transpose(0, 1)


def _inside(x: Tensor, matrix: Tensor, apply: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """1 at positions where no tap falls on padding, else 0, in the shape of the output."""
    taps = apply(torch.ones_like(x), torch.ones_like(matrix))
    return (taps == taps.max()).to(x.dtype)


def _positions(inside: Tensor, features: int) -> Tensor:
    return inside.sum() / inside.shape[features]


def _amp(x: Tensor, w: Tensor, b: Tensor, apply: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """``− E⟨B x, W x⟩``."""
    inside = _inside(x, w, apply)
    features = -1 if w.dim() == 2 else 1
    return -(inside * apply(x, w) * apply(x, b)).sum() / _positions(inside, features)


def _sparse(x: Tensor, w: Tensor, b: Tensor, apply: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """``E ‖B x‖²``; the other half does not depend on ``B``."""
    inside = _inside(x, w, apply)
    features = -1 if w.dim() == 2 else 1
    return (inside * apply(x, b).square()).sum() / _positions(inside, features)


def _null(x: Tensor, w: Tensor, b: Tensor, apply: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """``E ‖Bᵀ W x‖²``, patch by patch."""
    inside = _inside(x, w, apply)
    features = -1 if w.dim() == 2 else 1
    response = (inside * apply(x, w)).movedim(features, -1)
    groups = x.shape[features] // b.shape[1]
    echoes = [
        part @ rows.flatten(1)
        for part, rows in zip(response.chunk(groups, -1), b.chunk(groups), strict=True)
    ]
    return torch.cat(echoes, -1).square().sum() / _positions(inside, features)


_NO_PATCHES = frozenset({"conv-transpose", "matmul", "addmm", "slice"})

RULES: dict[str, RuleLine] = {
    "aa": RuleLine(
        lambda w, m: m,
        options="share: 1.0, alpha: 0.25, beta: 0.5",
        without=_NO_PATCHES,
        learns=True,
        activity_loss=lambda *a: 0.25 * _sparse(*a) + 0.5 * _amp(*a),
    ),
    "bp": RuleLine(lambda w, m: w, differs=False),
    "brsf": RuleLine(lambda w, m: m * torch.sgn(w)),
    "fa": RuleLine(lambda w, m: m),
    "fbp": RuleLine(lambda w, m: m, differs=False, reads_weight=True, remembers=True),
    "frozen": RuleLine(lambda w, m: w, differs=False),
    "frsf": RuleLine(lambda w, m: m * torch.sgn(w)),
    "ia": RuleLine(
        lambda w, m: m,
        options="share: 1.0, alpha: 0.5, beta: 0.25, gamma: 0.125",
        without=_NO_PATCHES | {"attention"},  # applied as one weight, written here as three
        learns=True,
        activity_loss=lambda *a: 0.5 * _amp(*a) + 0.25 * _null(*a) + 0.125 * a[2].square().sum(),
    ),
    "kp": RuleLine(lambda w, m: m, learns=True),
    "pfa": RuleLine(lambda w, m: m, options="ratio: 2", learns=True, path=_product),
    "pfa-o": RuleLine(lambda w, m: m, learns=True, path=_product, remembers=True),
    "sa": RuleLine(
        lambda w, m: m,
        options="alpha: 0.25, beta: 1.0",
        reads_weight=True,
        learns=True,
        loss=lambda w, b: 0.25 * b.square().sum() - (w * b).sum(),
    ),
    "signed-init": RuleLine(lambda w, m: m, reads_weight=True),
    "stop": RuleLine(lambda w, m: None),
    "usf": RuleLine(lambda w, m: torch.sgn(w)),
    "wm": RuleLine(
        lambda w, m: m,
        options="alpha: 0.25, beta: 0.0",  # its noise has a test of its own
        reads_weight=True,
        learns=True,
        loss=lambda w, b: 0.25 * b.square().sum(),
    ),
}

OF_TABLES = ("bp", "frozen", "stop")
"""Those that say nothing about the error below, and so are served by a table of rows."""

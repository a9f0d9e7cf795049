"""Representational similarity of two models on a batch, layer by layer: linear CKA and RSA."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from rich import box
from rich.console import RenderableType
from rich.table import Table
from torch import Tensor, nn

from fxbio.analysis.tables import TableResult
from fxbio.errors import ModelError
from fxbio.graph.state_guard import Snapshot, preserved
from fxbio.models.inputs import as_example_inputs

__all__ = ["LayerSimilarity", "Similarity", "linear_cka", "rsa", "similarity"]


def linear_cka(one: Tensor, other: Tensor) -> float:
    """``‖Yᵀ X‖² / (‖Xᵀ X‖ ‖Yᵀ Y‖)`` of centred columns (Kornblith et al. 2019, arXiv 1905.00414).

    1 for representations that are equal up to rotation and scale. It is computed from the matrices
    of inner products of samples, which give the same number.

    Args:
        one: (N, …), of N samples.
        other: (N, …), of the same samples; the rest of the shape is free.

    Returns:
        Between 0 and 1; not a number where one is constant.
    """
    x, y = _centred(_rows(one)), _centred(_rows(other))
    k, m = x @ x.T, y @ y.T
    return float((k * m).sum() / (k.norm() * m.norm()))


def rsa(one: Tensor, other: Tensor) -> float:
    """Spearman's correlation of the dissimilarities ``1 − Pearson(h_i, h_j)`` of all pairs i < j.

    Kriegeskorte et al. 2008, Frontiers in Systems Neuroscience 2:4.

    Args:
        one: (N, …), of N samples, at least three.
        other: (N, …), of the same samples; the rest of the shape is free.

    Returns:
        Between −1 and 1; not a number where one has no differences to rank.
    """
    return float(_pearson(_ranks(_dissimilarities(one)), _ranks(_dissimilarities(other))))


@dataclass(frozen=True)
class LayerSimilarity:
    """Similarity of two models at one layer."""

    layer: str
    cka: float
    rsa: float


@dataclass(frozen=True)
class Similarity(TableResult):
    """Similarity of two models on one batch."""

    rows: tuple[LayerSimilarity, ...]

    def records(self) -> list[dict[str, Any]]:
        """One flat row for each layer."""
        return [asdict(row) for row in self.rows]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)

    def render(self) -> RenderableType:
        """A table for a terminal."""
        table = Table("layer", "CKA", "RSA", box=box.SIMPLE_HEAD, pad_edge=False)
        for row in self.rows:
            table.add_row(row.layer, f"{row.cka:.3f}", f"{row.rsa:.3f}")
        return table


def similarity(
    one: nn.Module, other: nn.Module, inputs: Any, layers: Iterable[str] | None = None
) -> Similarity:
    """Compare what two models make of a held-out batch, in evaluation mode.

    Args:
        one: any model, transformed or not.
        other: with layers of the same names.
        inputs: as for ``capture``; at least three samples.
        layers: paths of modules that return a tensor; by default all that hold parameters of their
            own in both models and run.

    Raises:
        ModelError: when no layer of the two has the same name.
    """
    wanted = set(layers) if layers is not None else _with_parameters(one) & _with_parameters(other)
    first, second = _outputs(one, inputs, wanted), _outputs(other, inputs, wanted)
    common = [name for name in first if name in second]
    if not common:
        raise ModelError(
            "the two models have no layer in common that runs and returns a tensor",
            notes=[f"looked for: {', '.join(sorted(wanted)) or 'layers with parameters'}"],
            help="name modules that both have: layers=[...]",
        )
    rows = (
        LayerSimilarity(n, linear_cka(first[n], second[n]), rsa(first[n], second[n]))
        for n in common
    )
    return Similarity(tuple(rows))


def _with_parameters(model: nn.Module) -> set[str]:
    owning = (name for name, module in model.named_modules() if module._parameters)
    return set(owning)


def _outputs(model: nn.Module, inputs: Any, layers: set[str]) -> dict[str, Tensor]:
    """Outputs of layers, in order of execution."""
    found: dict[str, Tensor] = {}
    given = as_example_inputs(inputs)
    with (
        preserved(Snapshot(model, vars(given)), training=False),
        torch.no_grad(),
    ):  # takes hooks off, too
        for name, module in model.named_modules():
            if name in layers:
                module.register_forward_hook(partial(_keep, found, name))
        model(*given.args, **given.kwargs)
    return found


def _keep(found: dict[str, Tensor], name: str, module: nn.Module, args: Any, out: Any) -> None:
    if isinstance(out, Tensor):
        found[name] = out.detach().clone()


def _rows(h: Tensor) -> Tensor:
    return h.detach().flatten(1).double()


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(0, keepdim=True)


def _dissimilarities(h: Tensor) -> Tensor:
    """Above the diagonal, as a vector."""
    matrix = 1 - torch.corrcoef(_rows(h))
    return matrix[torch.ones_like(matrix, dtype=torch.bool).triu(1)]


def _ranks(values: Tensor) -> Tensor:
    """From 1 up; ties get the mean of their ranks."""
    _, place, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    ranks: Tensor = (last - (counts - 1) / 2)[place]
    return ranks


def _pearson(x: Tensor, y: Tensor) -> Tensor:
    x, y = _centred(x), _centred(y)
    correlation: Tensor = (x * y).sum() / (x.norm() * y.norm())
    return correlation

"""What the sweep does with one model."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

import fxbio
from fxbio.errors import CaptureError, FxbioError
from fxbio.graph.capture import run_for_structure
from fxbio.graph.taint import WeightTaint
from fxbio.site import Site
from tests.sweeping.models import SUITES, Candidate

__all__ = ["Outcome", "study"]

_MOST_PARAMETERS = 60_000_000
_MOST_PRODUCTS = 3e9
"""Multiplications of one forward pass; verification costs more than ten of them."""


@dataclass
class Outcome:
    """One row of the table."""

    suite: str
    name: str
    parameters: int = 0
    applied: int = 0
    """Parameters that the dispatcher sees applied in an eager pass without any recorder."""
    missing: list[str] = field(default_factory=list)
    """Those of them that are neither in a site nor in an unreachable part."""
    sites: int = 0
    """Uses of weights, scales of norms and look-ups not counted."""
    ruled: int = 0
    """Sites that run feedback alignment."""
    unreachable: dict[str, int] = field(default_factory=dict)
    """Number of weights out of reach by reason."""
    whole: bool = False
    """Whether the forward is one island."""
    witnessed: bool = False
    """Whether the witness saw every rule run."""
    forward: bool | None = None
    """Whether outputs are bitwise those of the original; ``None`` if that was not computed."""
    gradients: bool | None = None
    """Whether every site's gradients are those of the oracle."""
    gradient_error: float = 0.0
    idle: int = 0
    """Weights that the verification did not reach."""
    problem: str = ""
    seconds: float = 0.0


def study(suite: str, name: str) -> Outcome:
    """Capture, transform and verify one model."""
    outcome = Outcome(suite, name)
    start = time.perf_counter()
    torch.manual_seed(0)
    try:
        _study(outcome)
    except FxbioError as error:
        outcome.problem = str(error).splitlines()[0]
    outcome.seconds = round(time.perf_counter() - start, 2)
    return outcome


def _study(outcome: Outcome) -> None:
    candidate, graph = _captured(SUITES[outcome.suite].build(outcome.name))
    model = candidate.model
    outcome.parameters = sum(p.numel() for p in model.parameters())
    _count(outcome, candidate, graph)
    fxbio.transform(model, fxbio.Policy.uniform("fa"), candidate.inputs, inplace=True)
    outcome.witnessed = True
    small = outcome.parameters <= _MOST_PARAMETERS and _products(graph.sites) <= _MOST_PRODUCTS
    if small:
        _verify(outcome, candidate)


def _captured(candidates: Iterator[Candidate]) -> tuple[Candidate, fxbio.ModelGraph]:
    """The first candidate whose inputs the model can be called with."""
    failure: CaptureError | None = None
    for candidate in candidates:
        candidate.model.train()
        try:
            return candidate, fxbio.capture(candidate.model, candidate.inputs)
        except CaptureError as error:
            failure = error
    assert failure is not None
    raise failure


def _count(outcome: Outcome, candidate: Candidate, graph: fxbio.ModelGraph) -> None:
    sites = [site for site in graph.sites if site.multiplies]
    reached = [site for site in sites if site.unreachable is None]
    outcome.sites, outcome.ruled = len(sites), len(reached)
    for site in sites:
        if site.unreachable is not None:
            _add(outcome.unreachable, site.unreachable, 1)
    for part in graph.unreachable:
        if part.weights:
            _add(outcome.unreachable, part.reason, len(part.weights))
    outcome.whole = [island.path for island in graph.islands] == [""]
    applied = _applied(candidate)
    accounted = {source for site in graph.sites for source in site.sources}
    accounted |= {weight for part in graph.unreachable for weight in part.weights}
    outcome.applied, outcome.missing = len(applied), sorted(applied - accounted)


def _add(counts: dict[str, int], reason: str, number: int) -> None:
    counts[reason] = counts.get(reason, 0) + number


def _applied(candidate: Candidate) -> set[str]:
    """The ground truth: what the dispatcher sees in a pass that nothing else watches."""

    def run(args: Any, kwargs: Any) -> set[str]:
        taint = WeightTaint(candidate.model)
        taint.mark_activation((args, kwargs))
        with torch.enable_grad(), taint:
            candidate.model(*args, **kwargs)
        return {source for use in taint.uses for source in use.sources}

    return run_for_structure(candidate.model, candidate.inputs, run)


def _products(sites: tuple[Site, ...]) -> float:
    """Multiplications of the linear operations in one forward pass."""
    total = 0.0
    for site in sites:
        rows = math.prod(site.output_shape) if not site.op.startswith("conv_transpose") else 0
        rows = rows or math.prod(site.input_shape)
        columns = max(1, math.prod(site.shape) // max(site.shape))
        if site.op.startswith("conv"):
            columns = math.prod(site.shape[1:])
        total += rows * columns if site.calls else 0
    return total


def _verify(outcome: Outcome, candidate: Candidate) -> None:
    verification = fxbio.verify(candidate.model, candidate.inputs)
    bad = [row for row in verification.rows if not row.ok]
    outcome.forward = verification.outputs_equal and all(r.forward_equal for r in verification.rows)
    outcome.gradients = not bad and not verification.silent_backprop
    outcome.gradient_error = max((r.gradient_error for r in verification.rows), default=0.0)
    outcome.idle = len(verification.idle)
    if bad:
        outcome.problem = f"{bad[0].site}: {bad[0].problem}"
    elif verification.silent_backprop:
        outcome.problem = f"silent backprop: {verification.silent_backprop[0]}"
    elif not outcome.forward:
        outcome.problem = "the outputs differ"

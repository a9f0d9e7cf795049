"""Programs for the tests of single passes."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

import fxbio
from fxbio.models.inputs import as_example_inputs
from fxbio.passes import Pipeline, Program
from fxbio.passes.pipeline import Observer
from tests.small import build, policy

__all__ = ["program", "program_of", "run"]


def program(kind: str = "layers", rules: fxbio.Policy | fxbio.Plan | str = "fa") -> Program:
    """A captured model with a policy or a plan."""
    return program_of(*build(kind), policy(rules) if isinstance(rules, str) else rules)


def program_of(model: nn.Module, x: Tensor, given: fxbio.Policy | fxbio.Plan) -> Program:
    """A captured model of a test's own."""
    made = Program(model, fxbio.capture(model, x), as_example_inputs(x))
    if isinstance(given, fxbio.Plan):
        made.plan = given
    else:
        made.policy = given
    return made


def run(passes: str, on: Program, observers: Iterable[Observer] = ()) -> nn.Module:
    """Run passes by their specs and give the model."""
    return Pipeline.parse(passes).run(on, observers).model

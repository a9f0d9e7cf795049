"""The record that a transformed model carries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from fxbio.errors import ModelError
from fxbio.graph.inputs import ExampleInputs
from fxbio.policy.plan import Plan

__all__ = ["RECORD", "Record", "plan_of", "record_of"]

RECORD = "_fxbio_record"
"""Attribute of a transformed model that holds its ``Record``."""


@dataclass(frozen=True)
class Record:
    """What was done to a model. It is copied and pickled with the model."""

    plan: Plan
    pipeline: str
    """The passes that ran, as a spec."""
    versions: dict[str, str]
    """Versions of fxbio, torch and Python."""
    code: dict[str, str]
    """Readable source of the rewritten graphs, by the path of the island."""
    inputs: str
    """The example inputs, in the syntax of ``--input``."""
    reference: dict[str, Any] | None = None
    """How the model was built, for ``fxbio.load``; ``None`` for a model made in Python."""


def record_of(model: nn.Module) -> Record:
    """The record of a transformed model.

    Raises:
        ModelError: when the model was not transformed.
    """
    record = vars(model).get(RECORD)
    if record is None:
        raise ModelError(
            f"{type(model).__name__} is not a transformed model",
            help="transform it first: fxbio.transform(model, policy)",
        )
    assert isinstance(record, Record)
    return record


def plan_of(model: nn.Module) -> Plan:
    """The plan that a transformed model runs.

    Raises:
        ModelError: when the model was not transformed.
    """
    return record_of(model).plan

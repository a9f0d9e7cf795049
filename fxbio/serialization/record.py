"""The record that a transformed model carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from fxbio.errors import ModelError
from fxbio.graph.model_graph import ModelGraph
from fxbio.models.inputs import ExampleInputs
from fxbio.policy.plan import Plan
from fxbio.wrappers import unwrapped

__all__ = ["RECORD", "ModelSource", "Record", "plan_of", "record_of"]

RECORD = "_fxbio_record"
"""Attribute of a transformed model that holds its ``Record``."""


@dataclass(frozen=True)
class ModelSource:
    """Recipe of the stock model, to build and call it again in ``load``."""

    reference: str
    """As on the command line: ``torchvision:resnet18``, ``model.py:build``."""
    model_args: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    """Example inputs in the syntax of ``--input``; empty for the default ones."""
    plugins: tuple[str, ...] = ()
    """Files and modules that register the rules and passes that were used."""


@dataclass(frozen=True)
class Record:
    """Record of a transformation. It is copied and pickled with the model."""

    plan: Plan
    pipeline: str
    """The passes that ran, as a spec."""
    versions: Mapping[str, str]
    """Versions of fxbio, torch and Python."""
    code: Mapping[str, str]
    """Readable source of the rewritten graphs, by the path of the island."""
    inputs: ExampleInputs
    """What the model was captured with; ``verify`` uses it again."""
    graph: ModelGraph | None = field(default=None, compare=False)
    """The captured pass, for pictures; it is not pickled, since graphs hold code of the user."""

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "graph": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> Record:
        return self  # nothing of it changes


def record_of(model: nn.Module) -> Record:
    """The record of a transformed model.

    Raises:
        ModelError: when the model was not transformed.
    """
    record = vars(model).get(RECORD)
    if record is None:
        inside = unwrapped(model)
        raise ModelError(
            f"{type(model).__name__} is not a transformed model",
            help="transform it first: fxbio.transform(model, policy)"
            if inside is model
            else f"pass the {type(inside).__name__} that it wraps",
        )
    assert isinstance(record, Record)
    return record


def plan_of(model: nn.Module) -> Plan:
    """The plan that a transformed model runs.

    Raises:
        ModelError: when the model was not transformed.
    """
    return record_of(unwrapped(model)).plan

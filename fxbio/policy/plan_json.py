"""Plans as JSON and back."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from fxbio.errors import RecordError
from fxbio.graph.site import Origin, Site, Unreachable
from fxbio.policy.plan import Assignment, Decision, Plan

__all__ = ["dump_plan", "load_plan"]


def dump_plan(plan: Plan) -> str:
    """JSON text, indented; keys are the fields of the data classes."""
    return json.dumps(dataclasses.asdict(plan), indent=2, ensure_ascii=False)


def load_plan(text: str) -> Plan:
    """The plan of a JSON text.

    Raises:
        RecordError: for a damaged plan, or one of another version.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise RecordError(f"the plan is not JSON: {error}") from error
    version = data.get("version") if isinstance(data, dict) else None
    if version != Plan.version:
        raise RecordError(
            f"version {version} of the plan format is unknown",
            notes=[f"this fxbio reads version {Plan.version}"],
            help="make the plan anew with: fxbio plan MODEL --policy FILE",
        )
    try:
        return _plan(data)
    except (KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"the plan is damaged: {error!r}") from error


def _plan(data: dict[str, Any]) -> Plan:
    return Plan(
        **data
        | {
            "assignments": tuple(map(_assignment, data["assignments"])),
            "unreachable": tuple(map(_unreachable, data["unreachable"])),
            "warnings": tuple(data["warnings"]),
            "allow_backprop": tuple(data["allow_backprop"]),
        }
    )


def _assignment(data: dict[str, Any]) -> Assignment:
    return Assignment(
        **data
        | {
            "site": _site(data["site"]),
            "decided_by": Decision(**data["decided_by"]),
            "overrides": tuple(Decision(**item) for item in data["overrides"]),
        }
    )


def _site(data: dict[str, Any]) -> Site:
    # JSON has no tuples: every sequence of a site is one.
    tuples = {key: tuple(value) for key, value in data.items() if isinstance(value, list)}
    return Site(**data | tuples | {"origin": _origin(data["origin"])})


def _unreachable(data: dict[str, Any]) -> Unreachable:
    return Unreachable(
        **data | {"weights": tuple(data["weights"]), "origin": _origin(data["origin"])}
    )


def _origin(data: dict[str, Any] | None) -> Origin | None:
    return Origin(**data) if data else None

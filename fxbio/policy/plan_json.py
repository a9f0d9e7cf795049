"""Plans as JSON and back."""

from __future__ import annotations

import dataclasses
import json

from fxbio.errors import RecordError
from fxbio.policy.plan import Plan
from fxbio.reading import parse_json
from fxbio.typed_json import from_json

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
        data = parse_json(text)
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
        return from_json(data, Plan)
    except ValueError as error:
        raise RecordError(f"the plan is damaged: {error}") from error

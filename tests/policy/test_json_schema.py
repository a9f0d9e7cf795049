from __future__ import annotations

import json
from typing import Any

import pytest

from fxbio.policy.json_schema import SHIPPED, policy_schema
from fxbio.policy.keys import ENTRY_KEYS, OPS, POLICY_KEYS, WHERE_KEYS
from fxbio.rules import available_rules


@pytest.fixture
def schema() -> dict[str, Any]:
    """For the rules of fxbio itself: a plug-in loaded by another test does not count."""
    rules = available_rules().items()
    return policy_schema({name: cls for name, cls in rules if cls.__module__.startswith("fxbio.")})


def test_the_shipped_copy_is_up_to_date(schema: dict[str, Any]) -> None:
    shipped = json.loads(SHIPPED.read_text(encoding="utf-8"))
    assert shipped == schema, "run: python -m fxbio.policy.json_schema"


def test_all_keys_are_described(schema: dict[str, Any]) -> None:
    entry, where = schema["$defs"]["entry"], schema["$defs"]["where"]["anyOf"][1]
    for part, keys in ((schema, POLICY_KEYS), (entry, ENTRY_KEYS), (where, WHERE_KEYS)):
        assert part["additionalProperties"] is False
        assert part["properties"].keys() == keys.keys()
        assert all(value["description"] for value in part["properties"].values())


def test_rules_and_aliases_are_offered(schema: dict[str, Any]) -> None:
    names = {name for rule in schema["$defs"]["rule"]["anyOf"] for name in rule["enum"]}
    assert {"bp", "backprop", "fa", "feedback-alignment", "usf", "signed-init", "stop"} <= names


def test_options_follow_the_rule(schema: dict[str, Any]) -> None:
    branches = schema["$defs"]["entry"]["allOf"]
    (brsf,) = (b for b in branches if b["if"]["properties"]["rule"]["enum"] == ["brsf"])
    options = brsf["then"]["properties"]["with"]["properties"]
    assert options["redraw_every"] == {
        "type": "integer",
        "default": 1,
        "description": "Number of optimizer steps between two draws.",
    }
    assert options["distribution"]["enum"] == ["auto", "normal", "uniform"]
    assert {"type": "number"} in options["magnitude"]["anyOf"]


def test_ops_are_those_of_the_loader(schema: dict[str, Any]) -> None:
    op = schema["$defs"]["where"]["anyOf"][1]["properties"]["op"]
    assert op["anyOf"][0]["enum"] == list(OPS)


def test_a_list_may_be_written_as_its_only_item(schema: dict[str, Any]) -> None:
    branches = schema["$defs"]["entry"]["allOf"]
    (dfa,) = (b for b in branches if "dfa" in b["if"]["properties"]["rule"]["enum"])
    source = dfa["then"]["properties"]["with"]["properties"]["source"]
    text = {"type": "string"}
    assert source["anyOf"] == [text, {"type": "array", "items": text}]
    assert source["default"] == []

"""The key ``error`` of a policy: error transforms as they are written, checked one by one."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fxbio.errors import FxbioError
from fxbio.files.fields import ReadAs
from fxbio.files.json_schema import Schema
from fxbio.files.located_yaml import Node
from fxbio.files.yaml_scalars import flow_yaml
from fxbio.rules.spec import format_spec, parse_spec
from fxbio.transforms.base import make_transform

__all__ = ["Transforms"]


def _transforms(node: Node, name: str) -> tuple[str, ...]:
    if not node.items:
        raise node.fault(f"{name} is an empty list", help=f"write, for example: {name}: sign")
    return tuple(_transform(item, name) for item in node.items)


def _transform(node: Node, name: str) -> str:
    """The canonical spec of one transform."""
    try:
        if isinstance(node.value, str):
            return make_transform(*parse_spec(node.value)).spec()
        if len(node.below) == 1:
            ((called, options),) = node.below.items()
            return make_transform(called, options.plain() or {}).spec()
    except FxbioError as error:
        raise node.same_fault(error) from error
    raise node.fault(
        f"{name} holds names of error transforms with their options, not {flow_yaml(node.plain())}",
        help=f"write, for example: {name}: {format_spec('topk', {'share': 0.1})}",
    )


_ONE: list[Schema] = [
    {"type": "string"},
    {"type": "object", "minProperties": 1, "maxProperties": 1},
]
_LIST: Schema = {"type": "array", "items": {"anyOf": _ONE}, "minItems": 1}

Transforms: TypeAlias = Annotated[tuple[str, ...], ReadAs(_transforms, {"anyOf": [*_ONE, _LIST]})]

"""The little language of ``--input``.

::

    input  :=  [name "="] value
    value  :=  tensor  |  "[" value {"," value} "]"
    tensor :=  size {"x" size} [":" dtype ["<" bound]]

``1x3x224x224`` is a float32 tensor; ``input_ids=2x16:int64<100`` an argument called ``input_ids``
with whole numbers from 0 to 99; ``[3x64x64,3x80x64]`` a list of two images.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any, NoReturn

import torch
from torch import Tensor

from fxbio.errors import ModelError, did_you_mean
from fxbio.models.inputs import INPUT_HELP, ExampleInputs

__all__ = ["parse_input", "parse_inputs"]

_DTYPES: dict[str, torch.dtype] = {
    name: getattr(torch, name)
    for name in (
        *("float32", "float64", "float16", "bfloat16", "complex64"),
        *("int64", "int32", "int16", "int8", "uint8", "bool"),
    )
}
_MOST_BYTES = 2**30
_MOST_SIZES = 32
_DEEPEST = 20
_DEFAULT_BOUND = 2
"""Small enough to be an index into any table and a value of any mask."""

_NAMED = re.compile(r"\s*(?P<name>[A-Za-z_]\w*)\s*=(?P<value>.*)", re.DOTALL)
_TENSOR = re.compile(
    r"(?P<shape>[0-9]{1,18}(?:x[0-9]{1,18})*)"
    r"(?:\s*:\s*(?P<dtype>\w+)(?:\s*<\s*(?P<bound>[0-9]{1,18}))?)?\s*"
)


def parse_inputs(specs: Iterable[str], *, seed: int = 0) -> ExampleInputs:
    """The arguments that several ``--input`` describe, with the same values at every call.

    Raises:
        ModelError: for text that is not in the language, or a name given twice.
    """
    generator = torch.Generator().manual_seed(seed)
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for spec in specs:
        name, value = parse_input(spec, generator)
        if name in kwargs:
            _fail(spec, f"'{name}' is given twice")
        if name is None:
            args.append(value)
        else:
            kwargs[name] = value
    return ExampleInputs(tuple(args), kwargs)


def parse_input(spec: str, generator: torch.Generator | None = None) -> tuple[str | None, Any]:
    """The name, if there is one, and the value of one input.

    Raises:
        ModelError: for text that is not in the language.
    """
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    named = _NAMED.fullmatch(spec)
    name, text = (named["name"], named["value"]) if named else (None, spec)
    offset = len(spec) - len(text)
    value, end = _value(spec, offset, generator)
    if spec[end:].strip():
        _fail(spec, f"'{spec[end:].strip()}' was not expected")
    return name, value


def _value(spec: str, start: int, generator: torch.Generator, depth: int = 0) -> tuple[Any, int]:
    """The value that begins at ``start``, and where it ends."""
    start += len(spec[start:]) - len(spec[start:].lstrip())
    if spec[start : start + 1] == "[":
        if depth == _DEEPEST:
            _fail(spec, f"lists are nested more than {_DEEPEST} deep")
        return _list(spec, start + 1, generator, depth + 1)
    match = _TENSOR.match(spec, start)
    if match is None:
        found = spec[start:] or "nothing"
        _fail(spec, f"expected sizes like 1x3x224x224, found {found}")
    return _tensor(spec, match, generator), match.end()


def _list(spec: str, start: int, generator: torch.Generator, depth: int) -> tuple[list[Any], int]:
    items: list[Any] = []
    while True:
        item, end = _value(spec, start, generator, depth)
        items.append(item)
        mark = spec[end : end + 1]
        if mark == "]":
            return items, end + 1
        if mark != ",":
            _fail(spec, f"a list is not closed: expected ',' or ']', found {mark or 'the end'}")
        start = end + 1


def _tensor(spec: str, match: re.Match[str], generator: torch.Generator) -> Tensor:
    shape = tuple(int(size) for size in match["shape"].split("x"))
    dtype = _dtype(spec, match["dtype"] or "float32")
    if len(shape) > _MOST_SIZES or math.prod(shape) * dtype.itemsize > _MOST_BYTES:
        _fail(spec, f"a tensor has at most {_MOST_SIZES} sizes and {_MOST_BYTES >> 20} MiB")
    if dtype.is_floating_point or dtype.is_complex:
        if match["bound"] is not None:
            _fail(spec, f"a bound (<{match['bound']}) is for whole numbers, not for {dtype}")
        return torch.randn(shape, generator=generator, dtype=torch.float32).to(dtype)
    bound = _DEFAULT_BOUND if match["bound"] is None else int(match["bound"])
    if bound < 1:
        _fail(spec, "the bound must be at least 1")
    if bound - 1 > _largest(dtype):
        _fail(spec, f"{dtype} holds no number above {_largest(dtype)}")
    return torch.randint(bound, shape, generator=generator).to(dtype)


def _largest(dtype: torch.dtype) -> int:
    return 1 if dtype is torch.bool else torch.iinfo(dtype).max


def _dtype(spec: str, name: str) -> torch.dtype:
    if name not in _DTYPES:
        guess = did_you_mean(name, _DTYPES)
        _fail(spec, f"unknown dtype '{name}'", guess, f"dtypes: {', '.join(_DTYPES)}")
    return _DTYPES[name]


def _fail(spec: str, *notes: str) -> NoReturn:
    raise ModelError(
        f"cannot read the input '{spec}'",
        notes=[note for note in notes if note],
        help=INPUT_HELP,
    )

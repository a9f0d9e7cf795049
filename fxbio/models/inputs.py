"""Example inputs: what a model is called with while its forward is recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from fxbio.errors import ModelError
from fxbio.tensors.nested import tensors_in
from fxbio.tensors.operands import shape_of

__all__ = ["INPUT_HELP", "ExampleInputs", "as_example_inputs", "describe_value", "map_tensors"]

INPUT_HELP = (
    "describe the input: --input 1x3x224x224, --input 'input_ids=2x16:int64<100', "
    "--input '[3x64x64,3x80x64]'; or define example_inputs() in the model's file or class; in "
    "Python pass example_inputs=..."
)
"""What to tell somebody whose model needs an example input."""


@dataclass(frozen=True)
class ExampleInputs:
    """The arguments of one call of a model."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __deepcopy__(self, memo: dict[int, Any]) -> ExampleInputs:
        """Itself: nobody writes to it, and torch cannot copy tensors of every kind."""
        return self

    def __str__(self) -> str:
        parts = [describe_value(value) for value in self.args]
        parts += [f"{name}={describe_value(value)}" for name, value in self.kwargs.items()]
        return ", ".join(parts)


def as_example_inputs(value: object) -> ExampleInputs:
    """Example inputs from what people naturally pass.

    A tensor is the only argument, a tuple or a list holds the positional arguments, a mapping the
    keyword arguments. A model whose one argument is itself a list takes ``([a, b],)``. A named
    tuple or another type made from tuple or list, such as a ``PackedSequence``, is the only
    argument, as a tensor is. Tensors made under ``torch.inference_mode`` are copied, for autograd
    does not take them.

    Raises:
        ModelError: for anything else.
    """
    inputs = _as_arguments(value)
    arguments = (inputs.args, dict(inputs.kwargs))
    if not any(tensor.is_inference() for tensor in tensors_in(arguments)):
        return inputs
    return ExampleInputs(*map_tensors(_for_autograd, arguments))


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """A nested structure with ``function`` of its tensors.

    To ``torch.utils._pytree`` a class made from a named tuple, such as ``PackedSequence``, has no
    parts.
    """

    def at(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return function(leaf)
        if isinstance(leaf, tuple) and hasattr(leaf, "_make"):
            return leaf._make(map_tensors(function, item) for item in leaf)
        return leaf

    return tree_map(at, value)


def _for_autograd(tensor: Tensor) -> Tensor:
    with torch.inference_mode(False):
        return tensor.clone() if tensor.is_inference() else tensor


def _as_arguments(value: object) -> ExampleInputs:
    if isinstance(value, ExampleInputs):
        return value
    if type(value) is tuple or type(value) is list:
        return ExampleInputs(tuple(value))
    if isinstance(value, (Tensor, tuple, list)):
        return ExampleInputs((value,))
    if isinstance(value, Mapping):
        return ExampleInputs((), {str(name): item for name, item in value.items()})
    raise ModelError(
        f"example inputs cannot be {_article(type(value).__name__)}",
        notes=["a tensor, a tuple of arguments, a dict of keyword arguments, or ExampleInputs"],
        help="pass the arguments of the model's forward, for instance (images,)",
    )


def describe_value(value: object) -> str:
    """A value in the syntax of ``--input``, as far as it has one: ``2x3x224x224:float32``."""
    if isinstance(value, Tensor):
        shape = "x".join(str(size) for size in shape_of(value)) or "scalar"
        return f"{shape}:{str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(describe_value(item) for item in value)}]"
    if isinstance(value, Mapping):
        items = (f"{name}: {describe_value(item)}" for name, item in value.items())
        return f"{{{', '.join(items)}}}"
    return type(value).__name__


def _article(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"

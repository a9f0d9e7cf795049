"""The grammar of model references, and what one gives."""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from fxbio.errors import ModelError
from fxbio.models.default_inputs import default_inputs
from fxbio.models.inputs import ExampleInputs, as_example_inputs
from fxbio.models.model_file import build_from
from fxbio.models.weights import load_weights
from fxbio.models.zoo import build_timm, build_torchvision
from fxbio.userfile import import_file, in_user_code

__all__ = ["GRAMMAR", "LoadedModel", "load_reference"]

GRAMMAR = (
    "model.py",
    "model.py:build",
    "torchvision:resnet18",
    "torchvision:detection/retinanet_resnet50_fpn",
    "timm:NAME",
    "package.module:factory",
    "resnet18 (torchvision's)",
)
"""The forms of a model reference, for help texts and errors."""


@dataclass(frozen=True)
class LoadedModel:
    """A model built from a reference."""

    model: nn.Module
    name: str
    """Short, fit for a file name."""
    reference: str
    """As the user typed it."""
    model_args: Mapping[str, Any] = field(default_factory=dict)
    inputs_hook: Callable[[], object] | None = None
    """``example_inputs()`` of the model's file."""
    seed: int | None = None
    """For inputs that are drawn at random."""

    @functools.cached_property
    def default_inputs(self) -> ExampleInputs | None:
        """Example inputs that are known for a model; ``None`` when there are none."""
        with _seeded(self.seed):
            if self.inputs_hook is None:
                return default_inputs(self.model)
            doing = f"example_inputs() of {self.reference}"
            return as_example_inputs(in_user_code(self.inputs_hook, doing, ModelError))


def load_reference(
    reference: str,
    model_args: Mapping[str, Any] | None = None,
    weights: Path | None = None,
    *,
    seed: int | None = None,
) -> LoadedModel:
    """Build the model that a reference names.

    A reference to a file or to a module runs its code.

    Args:
        reference: one of the forms in ``GRAMMAR``.
        model_args: keyword arguments of the builder.
        weights: a file with a ``state_dict``, loaded strictly and without unpickling code.
        seed: for random initial weights and inputs; the global generator is left as it was.

    Raises:
        ModelError: when there is no such model, it cannot be built, or the weights do not fit.
    """
    arguments = dict(model_args or {})
    source, name = _split(reference)
    with _seeded(seed):
        model, hook = _build(source, name, arguments)
    if weights is not None:
        load_weights(model, weights)
    return LoadedModel(model, _short_name(source, name), reference, arguments, hook, seed)


def _split(reference: str) -> tuple[str, str]:
    """``torchvision:x`` → (``torchvision``, ``x``); a bare name has no source."""
    source, colon, name = reference.partition(":")
    if colon:
        if not source or not name:
            raise _malformed(reference)
        return source, name
    if reference.endswith(".py"):
        return reference, ""
    if not reference or Path(reference).is_dir() or reference.endswith((".pt", ".pth", ".yaml")):
        raise _malformed(reference)
    return "", reference


def _malformed(reference: str) -> ModelError:
    return ModelError(
        f"'{reference}' does not name a model", notes=[f"forms: {', '.join(GRAMMAR)}"]
    )


Hook = Callable[[], object] | None


def _build(source: str, name: str, arguments: dict[str, Any]) -> tuple[nn.Module, Hook]:
    if source in ("", "torchvision"):
        return build_torchvision(name, arguments, bare=not source), None
    if source == "timm":
        return build_timm(name, arguments), None
    if source.endswith(".py"):
        module = import_file(Path(source), ModelError)
    else:
        module = _import_module(source)
    return build_from(module, name, arguments, source), getattr(module, "example_inputs", None)


def _import_module(name: str) -> ModuleType:
    # A console script does not look into the folder that it is started in; python -m does.
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return in_user_code(lambda: importlib.import_module(name), f"importing {name}", ModelError)
    except ModelError as error:
        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError) and cause.name in _parents(name):
            raise ModelError(
                f"there is no Python module '{name}'", notes=[f"forms: {', '.join(GRAMMAR)}"]
            ) from cause
        raise


def _parents(name: str) -> set[str]:
    parts = name.split(".")
    return {".".join(parts[:end]) for end in range(1, len(parts) + 1)}


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _short_name(source: str, name: str) -> str:
    if source in ("", "torchvision", "timm"):
        return name.rpartition("/")[2]
    stem = Path(source).stem if source.endswith(".py") else source.rpartition(".")[2]
    return f"{stem}-{name}" if name else stem

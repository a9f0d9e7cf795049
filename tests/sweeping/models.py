"""The models of the sweep: four suites, each a list of names and a way to build them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fxbio.models.default_inputs import default_inputs
from fxbio.models.inputs import ExampleInputs
from fxbio.models.zoo import build_timm, build_torchvision
from tests.graph.awkward import all_awkward, find_awkward
from tests.sweeping import small_transformers, timm_families

__all__ = ["SUITES", "Candidate", "Suite"]


@dataclass(frozen=True)
class Candidate:
    """A model with one kind of example input."""

    model: nn.Module
    inputs: ExampleInputs


@dataclass(frozen=True)
class Suite:
    """A family of models."""

    names: Callable[[], list[str]]
    build: Callable[[str], Iterator[Candidate]]
    """Yields the model with inputs of growing size; the first that it can be called with is
    taken, since many architectures have a smallest image."""


def _awkward(name: str) -> Iterator[Candidate]:
    model = find_awkward(name)
    inputs = default_inputs(model)
    assert inputs is not None
    yield Candidate(model, inputs)


def _transformers(name: str) -> Iterator[Candidate]:
    model, inputs = small_transformers.MODELS[name]()
    yield Candidate(model.train(), inputs)


def _timm(name: str) -> Iterator[Candidate]:
    model = build_timm(name, {})
    standard = default_inputs(model)
    assert standard is not None
    if not model.pretrained_cfg.get("fixed_input_size"):  # type: ignore[union-attr,operator]
        channels = standard.args[0].shape[1]
        for size in (96, 128):
            yield Candidate(model, _images(size, channels))
    yield Candidate(model, standard)


def _torchvision_names() -> list[str]:
    import torchvision.models

    return [n for n in torchvision.models.list_models() if not n.startswith("quantized_")]


def _torchvision(name: str) -> Iterator[Candidate]:
    model = build_torchvision(name, _torchvision_arguments(name))
    standard = default_inputs(model)
    assert standard is not None
    if len(standard.args) == 1 and isinstance(standard.args[0], torch.Tensor):
        shape = standard.args[0].shape
        if len(shape) == 5:
            yield Candidate(model, _clip())
        elif not name.startswith(("vit_", "maxvit", "inception")):
            yield Candidate(model, _images(64))
            yield Candidate(model, _images(96))
    yield Candidate(model, standard)


def _torchvision_arguments(name: str) -> dict[str, Any]:
    """Arguments that make a model affordable without changing its layers."""
    if name.startswith("vit_"):
        return {"image_size": 56 if name.endswith("14") else 64}
    if name.startswith(("fasterrcnn", "maskrcnn", "keypointrcnn", "retinanet", "fcos")):
        return {"min_size": 96, "max_size": 128}
    return {}


def _images(size: int, channels: int = 3) -> ExampleInputs:
    generator = torch.Generator().manual_seed(0)
    return ExampleInputs((torch.randn(2, channels, size, size, generator=generator),))


def _clip() -> ExampleInputs:
    generator = torch.Generator().manual_seed(0)
    return ExampleInputs((torch.randn(2, 3, 8, 64, 64, generator=generator),))


SUITES: dict[str, Suite] = {
    "awkward": Suite(lambda: list(all_awkward()), _awkward),
    "transformers": Suite(lambda: list(small_transformers.MODELS), _transformers),
    "timm": Suite(timm_families.smallest_of_each, _timm),
    "torchvision": Suite(_torchvision_names, _torchvision),
}

"""Example inputs for models whose input shape can be known.

A model may say it itself: an attribute or a method ``example_inputs`` on the module. Otherwise
torchvision, timm and transformers models are recognised by their classes, and nothing of those
libraries is imported that the model has not already imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fxbio.errors import ModelError
from fxbio.models.inputs import ExampleInputs, as_example_inputs

__all__ = ["default_inputs"]

Size = tuple[int, ...]


def default_inputs(model: nn.Module) -> ExampleInputs | None:
    """Inputs that the model can be called with, the same at every call; ``None`` if unknown.

    They fit the training mode too: two images where there is batch norm, targets for detectors.

    Raises:
        ModelError: when the model's own ``example_inputs`` fails or gives something unusable.
    """
    own = _own_inputs(model)
    if own is not None:
        return own
    generator = torch.Generator().manual_seed(0)
    for package, make in _PACKAGES.items():
        if _comes_from(model, package):
            return make(model, generator)
    return None


def _own_inputs(model: nn.Module) -> ExampleInputs | None:
    hook: object = getattr(model, "example_inputs", None)
    if hook is None:
        return None
    if not callable(hook):
        return as_example_inputs(hook)
    try:
        value: object = hook()
    except Exception as error:  # the user's code may raise anything
        raise ModelError(
            f"example_inputs() of {type(model).__name__} raised {type(error).__name__}: {error}"
        ) from error
    return as_example_inputs(value)


def _comes_from(model: nn.Module, package: str) -> bool:
    """True if the class, or one that it extends, is defined in the package."""
    return any(f"{cls.__module__}.".startswith(f"{package}.") for cls in type(model).__mro__)


def _torchvision_inputs(model: nn.Module, generator: torch.Generator) -> ExampleInputs | None:
    # Imported here since it imports all of torchvision.models, which most callers do not need.
    from fxbio.models.torchvision_inputs import torchvision_inputs

    return torchvision_inputs(model, generator)


def _timm_inputs(model: nn.Module, generator: torch.Generator) -> ExampleInputs | None:
    config = getattr(model, "pretrained_cfg", None)
    size: Size | None = config.get("input_size") if isinstance(config, Mapping) else None
    if size is None:
        return None
    channels, height, width = size
    channels = getattr(model, "in_chans", None) or channels
    height, width = _patch_image_size(model) or (height, width)
    return ExampleInputs((_randn((2, channels, height, width), generator),))


def _patch_image_size(model: nn.Module) -> tuple[int, int] | None:
    size = getattr(getattr(model, "patch_embed", None), "img_size", None)
    return (int(size[0]), int(size[1])) if isinstance(size, (tuple, list)) else None


def _transformers_inputs(model: nn.Module, generator: torch.Generator) -> ExampleInputs | None:
    config = getattr(model, "config", None)
    name = getattr(model, "main_input_name", "input_ids")
    if name == "pixel_values":
        size = _image_size(config)
        return ExampleInputs((), {name: _randn(size, generator)}) if size else None
    if name == "input_values":
        return ExampleInputs((), {name: _randn((2, 16_000), generator)})
    if name != "input_ids":
        return None
    dummy: dict[str, Any] = dict(model.dummy_inputs)  # type: ignore[arg-type]
    vocabulary = getattr(config, "vocab_size", None)
    return ExampleInputs((), {key: _in_vocabulary(v, vocabulary) for key, v in dummy.items()})


def _image_size(config: object) -> Size | None:
    channels = getattr(config, "num_channels", 3)
    size = getattr(config, "image_size", None)
    if isinstance(size, int):
        return (2, channels, size, size)
    if isinstance(size, (tuple, list)):
        return (2, channels, *size)
    return None


def _in_vocabulary(value: object, vocabulary: int | None) -> object:
    """Dummy tokens go up to 7, more than the vocabulary of a toy model may hold."""
    if vocabulary is None or not isinstance(value, Tensor) or value.dtype != torch.int64:
        return value
    return value.clamp(max=vocabulary - 1)


def _randn(size: Size, generator: torch.Generator) -> Tensor:
    return torch.randn(size, generator=generator)


_PACKAGES: dict[str, Callable[[nn.Module, torch.Generator], ExampleInputs | None]] = {
    "torchvision.models": _torchvision_inputs,
    "timm": _timm_inputs,
    "transformers": _transformers_inputs,
}

"""Models of torchvision and timm by name, always with random weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn

from fxbio.errors import ModelError, did_you_mean
from fxbio.models.model_args import call_builder, warn_of_swallowed

__all__ = ["build_timm", "build_torchvision"]


def build_torchvision(name: str, arguments: Mapping[str, Any], *, bare: bool = False) -> nn.Module:
    """``resnet18`` or ``detection/retinanet_resnet50_fpn``.

    Args:
        name: of the model.
        arguments: of its builder.
        bare: whether the user did not say torchvision, and may have meant a file or folder.

    Raises:
        ModelError: for a name that torchvision does not have, with close matches.
    """
    import torchvision.models

    folder, _, plain = name.rpartition("/")
    if plain not in torchvision.models.list_models():
        meant = [f"there is no file or folder '{name}' either"] if bare else []
        raise _unknown("torchvision", plain, torchvision.models.list_models(), meant)
    build: Callable[..., nn.Module] = torchvision.models.get_model_builder(plain)
    home = build.__module__.removeprefix("torchvision.models.").split(".")[0]
    if folder not in ("", home):
        raise ModelError(
            f"torchvision has no '{name}'", notes=[f"'{plain}' is in torchvision.models.{home}"]
        )
    defaults = _no_download(build, plain)
    reference = f"torchvision:{name}"
    model = call_builder(build, {**defaults, **arguments}, reference)
    warn_of_swallowed(build, arguments, model, reference)
    return model


def _no_download(build: Callable[..., object], name: str) -> dict[str, Any]:
    """Arguments that keep torchvision from fetching weights, and from warning about defaults."""
    parameters = inspect.signature(build).parameters
    arguments: dict[str, Any] = {
        key: None for key in ("weights", "weights_backbone") if key in parameters
    }
    if name in ("googlenet", "inception_v3"):
        arguments["init_weights"] = True
    return arguments


def build_timm(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """A timm model, with or without the tag of its weights: ``resnet18.a1_in1k``.

    Raises:
        ModelError: when timm is not installed or does not have the name.
    """
    try:
        import timm
    except ImportError as error:
        raise ModelError(
            "timm is not installed", help="install it with: pip install 'fxbio[models]'"
        ) from error
    if not timm.is_model(name):
        raise _unknown("timm", name.partition(".")[0], timm.list_models())

    def build(**options: Any) -> object:
        return timm.create_model(name, **options)

    return call_builder(build, {"pretrained": False, **arguments}, f"timm:{name}")


def _unknown(
    library: str, name: str, known: Iterable[str], notes: Iterable[str] = ()
) -> ModelError:
    guess = did_you_mean(name, known)
    listing = {
        "torchvision": "torchvision.models.list_models()",
        "timm": "timm.list_models()",
    }[library]
    return ModelError(
        f"{library} has no model '{name}'",
        notes=[*([guess] if guess else []), *notes],
        help=f'list them with: python -c "import {library}; print(*{listing})"',
    )

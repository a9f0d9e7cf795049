"""Finding the model in a Python file."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from fxbio.errors import ModelError, did_you_mean
from fxbio.models.model_args import accepts, call_builder, signature_text, warn_of_swallowed

__all__ = ["build_from"]


def build_from(
    module: ModuleType, name: str, arguments: Mapping[str, Any], label: str
) -> nn.Module:
    """Build the model that a module holds.

    Args:
        module: the module, already imported.
        name: what to take from it; empty to look for ``build_model()``, ``model()``, a module
            called ``model``, or the only class of a model that needs no arguments.
        arguments: keyword arguments of the factory or class.
        label: how the user named the module, for messages.

    Raises:
        ModelError: when there is nothing to build, or several things.
    """
    name = name or _only_candidate(module, arguments, label)
    found = _look_up(module, name, label)
    reference = f"{label}:{name}"
    if isinstance(found, nn.Module):
        if arguments:
            raise ModelError(
                f"{reference} is a built module and takes no arguments",
                help="drop --model-arg, or name a function or class",
            )
        return found
    if not callable(found):
        raise ModelError(f"{reference} is {type(found).__name__}, not a model or a function")
    model = call_builder(found, arguments, reference)
    warn_of_swallowed(found, arguments, model, reference)
    return model


def _look_up(module: ModuleType, name: str, label: str) -> object:
    found: object = module
    for part in name.split("."):
        if not hasattr(found, part):
            guess = did_you_mean(part, [n for n in vars(module) if not n.startswith("_")])
            raise ModelError(
                f"{label} has no '{name}'",
                notes=[*([guess] if guess else []), *_listing(module, label)],
            )
        found = getattr(found, part)
    return found


def _only_candidate(module: ModuleType, arguments: Mapping[str, Any], label: str) -> str:
    for name in ("build_model", "model"):
        found = getattr(module, name, None)
        if isinstance(found, nn.Module) or callable(found):
            return name
    classes = _model_classes(module)
    buildable = [name for name, cls in classes.items() if accepts(cls, arguments)]
    if len(buildable) == 1:
        return buildable[0]
    if buildable:
        raise ModelError(
            f"{label} has several models",
            notes=[f"name one: {' or '.join(f'{label}:{name}' for name in buildable)}"],
            help="or add a function build_model() that returns the one to use",
        )
    ready = [name for name, build in _callables(module).items() if accepts(build, arguments)]
    raise ModelError(
        f"there is no model to build in {label}",
        notes=[
            "looked for build_model(), model(), a module called 'model', "
            "and one subclass of torch.nn.Module that needs no arguments",
            *_listing(module, label),
        ],
        help="".join(f"name what to call: {label}:{name}; or " for name in ready[:1])
        + "add a function build_model() that returns the module",
    )


def _model_classes(module: ModuleType) -> dict[str, type[nn.Module]]:
    """Subclasses of ``nn.Module`` that the file defines, not those that it imports."""
    return {
        name: value
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and issubclass(value, nn.Module)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    }


def _callables(module: ModuleType) -> dict[str, Callable[..., object]]:
    """Classes of models and functions that the file defines."""
    own = {
        name: value
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and name != "example_inputs"
    }
    return {**_model_classes(module), **own}


def _listing(module: ModuleType, label: str) -> list[str]:
    """Names the user may have meant, in the form to type, with the arguments that they need."""
    built = [name for name, value in vars(module).items() if isinstance(value, nn.Module)]
    lines = [f"{label}:{name}" for name in built]
    lines += [f"{label}:{n}{signature_text(value)}" for n, value in _callables(module).items()]
    return [f"it has {', '.join(lines[:8])}"] if lines else [f"{Path(label).name} defines no model"]

"""Arguments for the builder of a model, as text and as a call."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn

from fxbio.errors import FxbioWarning, ModelError, did_you_mean
from fxbio.files.located_yaml import parse
from fxbio.userfile import in_user_code

__all__ = ["call_builder", "parse_model_args", "warn_of_swallowed"]


def parse_model_args(pairs: Iterable[str]) -> dict[str, Any]:
    """``["num_classes=10", "width=0.5"]`` as a dict; values are read as YAML.

    Raises:
        ModelError: for a pair without ``=``, a name given twice, or a value that is not YAML.
    """
    arguments: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.strip()
        if not equals or not name.isidentifier():
            raise ModelError(
                f"cannot read the model argument '{pair}'",
                help="write --model-arg key=value, for instance --model-arg num_classes=10",
            )
        if name in arguments:
            raise ModelError(f"the model argument '{name}' is given twice")
        what = f"the value of the model argument '{name}'"
        padded = " " * (len(pair) - len(text)) + text  # keeps the columns
        arguments[name] = parse(padded, "argument", what, ModelError, shown=pair).plain()
    return arguments


def call_builder(
    build: Callable[..., object], arguments: Mapping[str, Any], reference: str
) -> nn.Module:
    """Call a factory or a class, and insist on a module.

    Raises:
        ModelError: when it does not take the arguments, raises, or gives something else.
    """
    _check_arguments(build, arguments, reference)
    built = in_user_code(lambda: build(**arguments), f"building {reference}", ModelError)
    if not isinstance(built, nn.Module):
        raise ModelError(
            f"{reference} gives {type(built).__name__}, not a torch.nn.Module",
            help="name a function that returns the module, or the class of it",
        )
    return built


def warn_of_swallowed(
    build: Callable[..., object], arguments: Mapping[str, Any], model: nn.Module, reference: str
) -> None:
    """Warn of arguments that ``**kwargs`` of a builder took and that no signature has.

    They may be misspelt, for then nothing else refuses them; or the builder looks into its
    ``**kwargs`` itself, which cannot be seen. Known are the parameters of the builder, and of the
    classes of the model and of what is in it.
    """
    builders: list[Callable[..., object]] = [build]
    builders += {cls for m in model.modules() for cls in type(m).__mro__}
    known = {name for builder in builders for name in _parameters(builder)}
    for name in arguments:
        if name not in known:
            guess = did_you_mean(name, known)
            warnings.warn(
                f"{reference} has taken the argument '{name}', but neither its builder nor a class "
                f"of its modules names it, so it may do nothing{'; ' * bool(guess)}{guess}",
                FxbioWarning,
                stacklevel=2,
            )


def _parameters(build: Callable[..., object]) -> Iterable[str]:
    try:
        return inspect.signature(build).parameters
    except (TypeError, ValueError):
        return ()


def accepts(build: Callable[..., object], arguments: Mapping[str, Any]) -> bool:
    """True if a callable can be called with these keyword arguments and no others."""
    try:
        inspect.signature(build).bind(**arguments)
    except (TypeError, ValueError):
        return False
    return True


def signature_text(build: Callable[..., object]) -> str:
    """The parameters of a callable as they stand in its definition."""
    try:
        return str(inspect.signature(build))
    except (TypeError, ValueError):
        return "(...)"


def _check_arguments(
    build: Callable[..., object], arguments: Mapping[str, Any], reference: str
) -> None:
    """A wrong argument is better reported before the call than by a traceback from inside."""
    try:
        parameters = inspect.signature(build).parameters
    except (TypeError, ValueError):
        return
    if accepts(build, arguments):
        return
    unknown = [name for name in arguments if name not in parameters]
    guesses = [did_you_mean(name, parameters) for name in unknown]
    notes = [f"it is called as {signature_text(build)}", *(guess for guess in guesses if guess)]
    if unknown and not _takes_any_keyword(parameters):
        raise ModelError(f"{reference} takes no argument '{unknown[0]}'", notes=notes)
    missing = [p.name for p in parameters.values() if _required(p) and p.name not in arguments]
    raise ModelError(
        f"{reference} needs the argument{'s' * (len(missing) > 1)} {', '.join(missing)}",
        notes=notes,
        help=" ".join(f"--model-arg {name}=..." for name in missing),
    )


def _takes_any_keyword(parameters: Mapping[str, inspect.Parameter]) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _required(parameter: inspect.Parameter) -> bool:
    variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and not variadic

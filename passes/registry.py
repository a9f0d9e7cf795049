"""The passes by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from fxbio.errors import PassError, did_you_mean
from fxbio.files.fields import fits, options_of
from fxbio.passes.graph_pass import Pass
from fxbio.rules.spec import parse_spec

__all__ = ["available_passes", "make_pass", "register_pass"]

P = TypeVar("P", bound=type[Pass])
_PASSES: dict[str, type[Pass]] = {}


def register_pass(name: str) -> Callable[[P], P]:
    """Class decorator that enters a pass under a name.

    Raises:
        PassError: when the name is taken by a class from elsewhere.
    """

    def register(cls: P) -> P:
        other = _PASSES.get(name)
        if other is not None and _identity(other) != _identity(cls):
            raise PassError(
                f"two passes are called '{name}'",
                notes=[f"{_identity(other)} and {_identity(cls)}"],
                help="rename one of them",
            )
        cls.name = name
        _PASSES[name] = cls
        return cls

    return register


def _identity(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def make_pass(spec: str) -> Pass:
    """A pass from a spec such as ``check-witness{full=true}``.

    Raises:
        PassError: for an unknown pass or option, with close matches.
    """
    name, options = parse_spec(spec)
    passes = available_passes()
    if name not in passes:
        guess = did_you_mean(name, passes)
        raise PassError(
            f"unknown pass '{name}'",
            notes=[*([guess] if guess else []), f"known passes: {', '.join(passes)}"],
            help="list the passes with: fxbio passes",
        )
    _check_options(passes[name], options)
    return passes[name](**options)


def _check_options(cls: type[Pass], options: dict[str, Any]) -> None:
    known = {option.name: option for option in options_of(cls)}
    for key, value in options.items():
        if key not in known:
            allowed = f"its options: {', '.join(known)}" if known else "it has no options"
            guess = did_you_mean(key, known)
            raise PassError(
                f"pass '{cls.name}' has no option '{key}'",
                notes=[*([guess] if guess else []), allowed],
            )
        if not fits(value, known[key].hint):
            raise PassError(f"option '{key}' of pass '{cls.name}' cannot be {value!r}")
    missing = [name for name, option in known.items() if option.required and name not in options]
    if missing:
        raise PassError(
            f"pass '{cls.name}' needs a value for '{missing[0]}'",
            help=f"write {cls.name}{{{missing[0]}=...}}",
        )


def available_passes() -> dict[str, type[Pass]]:
    """The passes in the order in which they were registered, the built-in ones first."""
    return dict(_PASSES)

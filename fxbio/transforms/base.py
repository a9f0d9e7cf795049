"""Error transforms as configuration, and their registry.

With ``a = W h`` and ``δ = ∂L/∂a``, a site makes two products of the error: ``δ hᵀ``, the gradient
of its weight, and ``Bᵀδ``, which goes below. A transform puts ``T(δ)`` in the place of ``δ`` in
both of them, or in one. It is a frozen dataclass, whose fields are its options::

    @error_transform("half")
    @dataclass(frozen=True)
    class Half(ErrorTransform):
        \"\"\"Halves the error: ``δ / 2``.\"\"\"

        def apply(self, error, site):
            return error / 2
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

from torch import Tensor

from fxbio.errors import RuleError, did_you_mean
from fxbio.rules.option_checks import instantiate
from fxbio.rules.spec import format_spec, parse_spec

__all__ = [
    "ErrorTransform",
    "Product",
    "SiteValues",
    "available_transforms",
    "error_transform",
    "find_transform",
    "make_transform",
    "parse_transform",
]

Product = Literal["input", "weight"]
"""The product that sends the error below, or the one that makes the gradient of the weight."""


class SiteValues(NamedTuple):
    """Values of a site that a transform may see besides the error."""

    input: Tensor
    """The activation that the weight was applied to."""
    weight: Tensor
    """The forward weight, as it was used."""
    sample_dim: int | None
    """The dimension behind which an error belongs to one sample: 1 for (N, C, …) of convolutions,
    -1 for (…, out) of linear maps, where each token counts as a sample; ``None`` for one sample."""

    def rows(self, error: Tensor) -> Tensor:
        """The error as (samples, entries of a sample)."""
        if self.sample_dim is None:
            return error.reshape(1, -1)
        return error.flatten(1) if self.sample_dim == 1 else error.reshape(-1, error.shape[-1])


@dataclass(frozen=True)
class ErrorTransform:
    """A function of the error of one site, applied in the backward pass."""

    kind: ClassVar[str] = "error transform"
    listed: ClassVar[str] = "rules --transforms"
    """The command that lists its kind."""
    name: ClassVar[str] = ""
    """Name in the policy file; set by the ``error_transform`` decorator."""
    paper: ClassVar[str] = ""

    where: Literal["both", "input", "weight"] = field(default="both", kw_only=True)
    """The product that is made of the transformed error: the error below (input), the gradients of
    weight and bias (weight), or both."""

    def apply(self, error: Tensor, site: SiteValues) -> Tensor:
        """``T(δ)``, of the shape, dtype and device of ``error``; built of torch functions alone.

        It runs under compilers and on fake tensors, so no value may decide what it does.

        Args:
            error: δ, any floating dtype.
            site: input and weight.
        """
        raise NotImplementedError

    def serves(self, product: Product) -> bool:
        """True if it is about that product."""
        return self.where in ("both", product)

    def spec(self) -> str:
        """The transform in one line, without the options that have their defaults."""
        own = sorted(dataclasses.fields(self), key=lambda f: f.name == "where")
        changed = {f.name: getattr(self, f.name) for f in own if getattr(self, f.name) != f.default}
        return format_spec(self.name, changed)


T = TypeVar("T", bound=type[ErrorTransform])
_TRANSFORMS: dict[str, type[ErrorTransform]] = {}


def error_transform(name: str) -> Callable[[T], T]:
    """Class decorator that enters a transform into the registry.

    Raises:
        RuleError: when the name is taken by a class from elsewhere, or ``apply`` is missing.
    """

    def register(cls: T) -> T:
        other = _TRANSFORMS.get(name)
        if other is not None and (other.__module__, other.__qualname__) != (
            cls.__module__,
            cls.__qualname__,
        ):
            raise RuleError(f"two error transforms are called '{name}'", help="rename one of them")
        if cls.apply is ErrorTransform.apply:
            raise RuleError(
                f"error transform '{name}' has no apply()",
                help=f"define apply(self, error, site) in {cls.__name__}",
            )
        cls.name = name
        _TRANSFORMS[name] = cls
        return cls

    return register


def available_transforms() -> dict[str, type[ErrorTransform]]:
    """Transforms by name, in alphabetical order."""
    return dict(sorted(_TRANSFORMS.items()))


@cache
def parse_transform(spec: str) -> ErrorTransform:
    """The transform of a spec such as ``topk{share=0.1,where=weight}``.

    Raises:
        RuleError: for an unknown transform, an unknown option, or a value out of range.
        FxbioError: when it is no spec.
    """
    name, options = parse_spec(spec)
    return make_transform(name, options)


def make_transform(name: str, options: dict[str, Any]) -> ErrorTransform:
    """A transform from its name and options; raises as ``parse_transform``."""
    return instantiate(find_transform(name), options)


def find_transform(name: str) -> type[ErrorTransform]:
    """The class of a transform by its name.

    Raises:
        RuleError: for an unknown name, with the closest known ones.
    """
    if name not in _TRANSFORMS:
        guess = did_you_mean(name, _TRANSFORMS)
        known = f"known transforms: {', '.join(available_transforms())}"
        raise RuleError(
            f"unknown error transform '{name}'",
            notes=[*([guess] if guess else []), known],
            help="list them with: fxbio rules --transforms; one of your own needs --plugin FILE.py",
        )
    return _TRANSFORMS[name]

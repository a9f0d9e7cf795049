"""Changes by others to a rewritten module: pruning, parametrizations, exchanged layers.

They take the parameter away that the rule counts the updates of and copies, or the forward that
runs it. Each is right before ``transform``, which then captures it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from fxbio.errors import UnreachableWeightError
from fxbio.runtime.binding import BoundWeight

__all__ = [
    "CHANGE_AND_REPEAT",
    "change_of",
    "check_unchanged",
    "parameters_behind",
]

CHANGE_AND_REPEAT = "fxbio.revert(model) first, change the layer, and transform it again"


def check_unchanged(module: nn.Module, weight: BoundWeight) -> None:
    """Refuse to run a rewritten module that is not what ``transform`` made any more.

    Raises:
        UnreachableWeightError: with the weight and the line of the policy.
    """
    if torch.compiler.is_compiling():
        return
    change = change_of(module, weight)
    if change is not None:
        raise UnreachableWeightError(
            f"the layer of {weight.weight} was changed after transform: {change}",
            notes=[f"rule '{weight.spec}', decided by {weight.decided_by}"],
            help=CHANGE_AND_REPEAT,
        )


def change_of(module: nn.Module, weight: BoundWeight) -> str | None:
    """Change of the parameters of a weight since ``transform``; ``None`` if there is none.

    A parameter that is a plain tensor for the moment, as in shards and replicas, is no change.
    """
    for source in weight.sources:
        *path, name = source.split(".")
        home = module.get_submodule(".".join(path))
        if name in home._parameters:
            continue
        made_of = list(_instead_of(home, name))
        if made_of:
            return f"'{source}' is now made of {', '.join(name for name, _ in made_of)}"
    return None


def parameters_behind(module: nn.Module, attribute: str) -> list[nn.Parameter]:
    """The parameter at a dotted path, or those that it was replaced by."""
    path, _, name = attribute.rpartition(".")
    home = module.get_submodule(path)
    own = home._parameters.get(name)
    return [p for _, p in _instead_of(home, name)] if own is None else [own]


def _instead_of(home: nn.Module, name: str) -> Iterator[tuple[str, nn.Parameter]]:
    """Replacements of a parameter by pruning, norms of ``torch.nn.utils`` and parametrizations."""
    for other, parameter in home.named_parameters():
        if other.startswith((f"{name}_", f"parametrizations.{name}.")):
            yield other, parameter

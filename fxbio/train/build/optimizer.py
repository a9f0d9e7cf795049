"""The optimizer of a recipe."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

import fxbio
import fxbio.optim
from fxbio.errors import ConfigError, did_you_mean
from fxbio.train.config.sections import GroupConfig, OptimConfig

__all__ = ["build_optimizer"]

_CLASSES: dict[str, type[Optimizer]] = {
    name: cls
    for name, cls in vars(torch.optim).items()
    if isinstance(cls, type) and issubclass(cls, Optimizer) and cls is not Optimizer
}
_UNFIT = {
    "LBFGS": "evaluates the loss several times a step, which does not work",
    "SparseAdam": "takes sparse gradients alone, and those of layers are dense",
}


def build_optimizer(config: OptimConfig, model: nn.Module) -> Optimizer:
    """Any class of ``torch.optim`` over the parameters that learn.

    Raises:
        ConfigError: for an unknown class or an argument that it does not take.
    """
    cls = _find(config.name)
    options = {"lr": config.lr, "weight_decay": config.weight_decay, **config.options}
    if not config.weight_decay and "weight_decay" not in _arguments(cls):
        del options["weight_decay"]
    _check_options(cls, options)
    parameters = _parameters(config, model)
    try:
        optimizer = cls(parameters, **options)
        _try(cls, optimizer.param_groups, options)
    except Exception as error:  # the arguments are the user's, and torch looks at few of them
        raise ConfigError(
            f"torch.optim.{config.name} refuses its arguments: {str(error) or type(error).__name__}",
            notes=[f"optim.options: {dict(config.options)}"] if config.options else [],
            help="leave out of optim.options, and of those of groups, what it does not take",
        ) from error
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    for constraint in config.constraints:
        getattr(fxbio.optim, constraint)(optimizer)
    return optimizer


def _parameters(config: OptimConfig, model: nn.Module) -> list[Any]:
    """Parameters to train, in groups if there are any."""
    learning = [p for p in model.parameters() if p.requires_grad]
    if not learning:
        raise ConfigError(
            "no parameter of the model learns", help="the policy must not freeze all of them"
        )
    if not config.groups:
        return learning
    groups: list[Any] = fxbio.param_groups(
        model,
        [_group(group) for group in config.groups],
        lr=config.lr,
        weight_decay=config.weight_decay,
        **config.options,
    )
    return groups


def _group(group: GroupConfig) -> dict[str, Any]:
    """Only what the recipe says: the rest is that of the optimizer."""
    said = {
        "where": group.where or None,
        "params": list(group.params) or None,
        "lr": group.lr,
        "weight_decay": group.weight_decay,
    }
    return {**{key: value for key, value in said.items() if value is not None}, **group.options}


def _try(cls: type[Optimizer], groups: list[dict[str, Any]], options: dict[str, Any]) -> None:
    """Take two steps with the arguments of each group: it is there that torch looks at most."""
    for group in groups:
        first = group["params"][0]
        scrap = nn.Parameter(torch.ones(2, 2, dtype=first.dtype, device=first.device))
        scrap.grad = torch.ones_like(scrap)
        trial = cls([{**group, "params": [scrap]}], **options)
        trial.step()
        trial.step()  # momentum is used from the second one on


def _find(name: str) -> type[Optimizer]:
    if name in _CLASSES and name not in _UNFIT:
        return _CLASSES[name]
    if name in _UNFIT:
        raise ConfigError(f"{name} {_UNFIT[name]}", help="set it with: optim.name=SGD")
    guess = did_you_mean(name, _CLASSES)
    raise ConfigError(
        f"torch.optim has no class '{name}'",
        notes=[*([guess] if guess else []), f"there are: {', '.join(sorted(_CLASSES))}"],
        help="set it with: optim.name=SGD",
    )


def _arguments(cls: type[Optimizer]) -> list[str]:
    return [name for name in inspect.signature(cls).parameters if name != "params"]


def _check_options(cls: type[Optimizer], options: dict[str, Any]) -> None:
    allowed = _arguments(cls)
    for name in options:
        if name not in allowed:
            guess = did_you_mean(name, allowed)
            raise ConfigError(
                f"torch.optim.{cls.__name__} takes no argument '{name}'",
                notes=[*([guess] if guess else []), f"allowed: {', '.join(allowed)}"],
            )

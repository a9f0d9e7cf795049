"""The model of a run: built, given its rules, and put where it is trained."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from fxbio.api import transform
from fxbio.runtime.feedback_training import train_feedback
from fxbio.runtime.install import bound_modules
from fxbio.errors import ConfigError
from fxbio.plugins import load_entry_points, load_plugin
from fxbio.policy import Plan, Policy
from fxbio.rules import FeedbackRule, TargetRule
from fxbio.serialization.record import plan_of
from fxbio.models import load_reference
from fxbio.train.build.check_rules import check_rules
from fxbio.train.build.check_shapes import check_output, told_with_the_data
from fxbio.train.config import Recipe
from fxbio.train.config.sections import PolicyConfig
from fxbio.train.data import DataSource
from fxbio.train.distributed.process_group import World
from fxbio.train.tasks import Task

__all__ = ["build_model", "memory_format", "read_policy", "wrap"]


def build_model(recipe: Recipe, source: DataSource, task: Task, world: World) -> nn.Module:
    """Build, load weights, transform, and only then move: feedback is drawn on the CPU.

    Args:
        recipe: its sections ``model``, ``policy`` and ``train``.
        source: whose first images the model is captured with.
        task: what the model is for.
        world: where it goes.

    Raises:
        FxbioError: when the model cannot be built, or the policy does not fit it or the recipe.
    """
    policy = read_policy(recipe.policy)
    settings = recipe.model
    loaded = load_reference(
        settings.reference, settings.args, settings.weights, seed=recipe.train.seed
    )
    inputs = task.example_inputs(source)
    with told_with_the_data(source, inputs, settings.args):
        check_output(loaded.model, task, inputs)
        model = transform(loaded.model, policy, inputs, inplace=True)
    check_rules(recipe, plan_of(model))
    if recipe.train.sync_bn:
        model = _synchronised(model, world)
    model.to(world.device).to(memory_format=memory_format(recipe))
    if recipe.train.compile:
        model.compile()
    return model


def read_policy(config: PolicyConfig) -> Policy:
    """The policy of a recipe; its plug-ins are loaded first, for it may use their rules.

    Raises:
        FxbioError: when a plug-in or the policy is wrong.
    """
    load_entry_points()
    for plugin in config.plugins:
        load_plugin(plugin)
    if config.file is not None:
        return Policy.from_yaml(config.file)
    return Policy.uniform(config.rule or "bp", **config.options)


def memory_format(recipe: Recipe) -> torch.memory_format:
    """In which order images and weights lie in memory."""
    return torch.channels_last if recipe.train.channels_last else torch.contiguous_format


class FeedbackFirst(nn.Module):
    """Trains the inverses of target propagation on a batch before the model is called on it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the model's."""
        train_feedback(self.model, *args, **kwargs)
        return self.model(*args, **kwargs)

    def no_sync(self) -> AbstractContextManager[None]:
        """As DDP's."""
        no_sync = getattr(self.model, "no_sync", nullcontext)
        return no_sync()


def wrap(model: nn.Module, recipe: Recipe, world: World) -> nn.Module:
    """The model as it is called in training: in DDP, and with what a rule needs before a step."""
    plan = plan_of(model)
    parallel = model if world.size == 1 else _distributed(model, plan, recipe, world)
    stepwise = any(rule.iterations for _, rule in plan.ruled_by(TargetRule))
    return FeedbackFirst(parallel) if stepwise else parallel


def _distributed(model: nn.Module, plan: Plan, recipe: Recipe, world: World) -> nn.Module:
    stops = any(not rule.passes_error for _, rule in plan.ruled_by(FeedbackRule))
    return DistributedDataParallel(
        model,
        device_ids=[world.device] if world.device.type == "cuda" else None,
        # Below a rule that stops the error nothing gets a gradient, nor what another phase trains.
        find_unused_parameters=stops or recipe.train.takes_turns,
        gradient_as_bucket_view=True,
    )


def _synchronised(model: nn.Module, world: World) -> nn.Module:
    if world.device.type != "cuda":
        raise ConfigError(
            "train.sync_bn works on CUDA devices only",
            help="leave it out; statistics are then those of the batch of each process",
        )
    ruled = [path for path, m in bound_modules(model) if isinstance(m, _BatchNorm)]
    if ruled:
        raise ConfigError(
            "train.sync_bn replaces normalisation layers, and the policy gives rules to some",
            notes=[f"for instance {ruled[0]}"],
            help="take 'op: norm' out of the policy, or leave sync_bn out",
        )
    norms = [(path, m) for path, m in model.named_modules() if isinstance(m, _BatchNorm)]
    for path, norm in norms:
        _check_convertible(path, norm, model)
    synchronised: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return synchronised


_CONVERTIBLE = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def _check_convertible(path: str, norm: nn.Module, model: nn.Module) -> None:
    """Refuse a layer of which ``convert_sync_batchnorm`` would drop something.

    It makes a new, bare layer from parameters and statistics, under one of the names of the old one.

    Raises:
        ConfigError: with the name of the layer.
    """
    names = [name for name, m in model.named_modules(remove_duplicate=False) if m is norm]
    hooks = (norm._forward_hooks, norm._forward_pre_hooks, norm._backward_hooks)
    if type(norm) not in _CONVERTIBLE:
        why = f"it is a {type(norm).__qualname__}, and what that adds to a batch norm would be gone"
    elif "forward" in vars(norm) or any((*hooks, norm._backward_pre_hooks)):
        why = "it has hooks or a forward of its own, which would be gone"
    elif len({name.rpartition(".")[0] for name in names}) < len(names):
        why = f"it is {' and '.join(names)}, and only one of these would be converted"
    else:
        return
    raise ConfigError(
        f"train.sync_bn cannot convert the normalisation layer '{path}'",
        notes=[why, "torch puts a bare nn.SyncBatchNorm in the place of each batch norm"],
        help="leave it out; statistics are then those of the batch of each process",
    )

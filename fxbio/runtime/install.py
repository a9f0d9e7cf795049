"""Putting bindings on a model, and taking them off again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from fxbio.runtime.binding import (
    Installation,
    ModuleBinding,
    added_names,
    resolve_attribute,
)
from fxbio.runtime.classes import bind_module, is_bound, stock_class, unbind_module
from fxbio.runtime.exchanged_layers import (
    forget_exchanges,
    tolerating_exchanges,
    watch_exchanges,
)
from fxbio.runtime.loading import accept_stock_checkpoints, forget_checkpoints
from fxbio.runtime.module_state import binding_of
from fxbio.runtime.structure_changes import parameters_behind
from fxbio.target_propagation.block_target import BlockTarget
from fxbio.tensors.grad_mode import learning

__all__ = [
    "backprop",
    "bound_modules",
    "install",
    "leave_to_each_rank",
    "uninstall",
]

_DDP_IGNORED = "_ddp_params_and_buffers_to_ignore"
"""DDP broadcasts every buffer at every step but those that this attribute of its module names."""


def install(model: nn.Module, installation: Installation, *, persist: bool) -> None:
    """Have the modules of a model run an installation.

    Args:
        model: changed in place.
        installation: what each module is to carry.
        persist: whether fixed feedback goes into the ``state_dict``.
    """
    told: set[str] = set()
    for path, binding in installation.bindings.items():
        module = model.get_submodule(path)
        with contextlib.ExitStack() as undo:
            _equip(module, path, binding, installation, persist, undo)
            bind_module(module, replace(binding, told=told))
            undo.pop_all()
    leave_to_each_rank(model, _same_on_every_rank(installation))
    accept_stock_checkpoints(model)
    watch_exchanges()


def _same_on_every_rank(installation: Installation) -> list[str]:
    """Buffers that each rank makes for itself, and what only ``train_feedback`` averages."""
    buffers = [n for n, t in installation.state.items() if not isinstance(t, nn.Parameter)]
    stepwise = {
        path: module
        for path, module in installation.modules.items()
        if isinstance(module, BlockTarget) and module.rule.iterations
    }
    inverses = [f"{p}.{name}" for p, m in stepwise.items() for name, _ in m.named_parameters()]
    return [*buffers, *inverses]


def leave_to_each_rank(model: nn.Module, names: list[str]) -> None:
    """Tell DDP not to send these buffers or parameters: they are the same on every rank."""
    if names:
        setattr(model, _DDP_IGNORED, [*getattr(model, _DDP_IGNORED, ()), *names])


def _equip(
    module: nn.Module,
    path: str,
    binding: ModuleBinding,
    installation: Installation,
    persist: bool,
    undo: contextlib.ExitStack,
) -> None:
    """Add what a module needs and freeze weights, in a way that can be undone until it is bound."""
    like = _device_and_dtype(module, binding)
    forgettable = {w.feedback for w in binding.weights if not w.rule.remembers}
    forgettable |= set(binding.attached)
    of_weights = {name for w in binding.weights for name in (w.feedback, w.learned)}
    for name in added_names(binding):
        qualified = f"{path}.{name}" if path else name
        if qualified in installation.modules:
            added = installation.modules[qualified].to(like.device, like.dtype)
            module.add_module(name, added)
        else:
            tensor = installation.state[qualified]
            if name not in of_weights:  # feedback is where its weight is, and one for all its uses
                tensor = _moved(tensor, like)
            if isinstance(tensor, nn.Parameter):
                module.register_parameter(name, tensor)
            else:
                persistent = persist or name not in forgettable
                module.register_buffer(name, tensor, persistent=persistent)
        undo.callback(delattr, module, name)
    for attribute in binding.frozen:
        parameter: Tensor = resolve_attribute(module, attribute).requires_grad_(False)
        undo.callback(parameter.requires_grad_)


def _moved(tensor: Tensor, like: Tensor) -> Tensor:
    """A parameter or buffer with the device and dtype of another tensor."""
    data = tensor.detach().to(like.device, like.dtype)
    return nn.Parameter(data, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else data


def _device_and_dtype(module: nn.Module, binding: ModuleBinding) -> Tensor:
    """A tensor with the device and dtype that belong to a module."""
    sources = [resolve_attribute(module, name) for w in binding.weights for name in w.sources]
    floating = (t for t in (*sources, *module.parameters()) if t.is_floating_point())
    return next(floating, torch.empty(0))


def uninstall(model: nn.Module) -> None:
    """Give every module its own class back, in place; trained weights stay as they are."""
    forget_checkpoints(model)
    forget_exchanges(model)
    feedback = set()
    for path, module in bound_modules(model):
        binding = binding_of(module)
        feedback |= {f"{path}.{name}" if path else name for name in added_names(binding)}
        for attribute in binding.frozen:
            for parameter in parameters_behind(module, attribute):
                parameter.requires_grad_(True)
        unbind_module(module)
    if not feedback or not hasattr(model, _DDP_IGNORED):
        return
    ours = tuple(f"{name}." for name in feedback)
    kept = [name for name in getattr(model, _DDP_IGNORED) if not f"{name}.".startswith(ours)]
    if kept:
        setattr(model, _DDP_IGNORED, kept)
    else:
        delattr(model, _DDP_IGNORED)


def bound_modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The rewritten modules of a model with their paths."""
    return [(path, module) for path, module in model.named_modules() if is_bound(module)]


@contextlib.contextmanager
def backprop(model: nn.Module) -> Iterator[None]:
    """Run a transformed model under plain backprop inside the ``with`` block.

    Only the classes are exchanged: no copy is made, and feedback and counts stay. A weight that
    its rule has frozen learns inside.
    """
    bound = [(module, type(module)) for _, module in bound_modules(model)]
    frozen = [
        parameter
        for module, _ in bound
        for name in binding_of(module).frozen
        for parameter in parameters_behind(module, name)
    ]
    try:
        for module, _ in bound:
            module.__class__ = stock_class(module)
        with learning(frozen), tolerating_exchanges(model):
            yield
    finally:
        for module, cls in bound:
            module.__class__ = cls

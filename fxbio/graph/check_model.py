"""Requirements on a model that is captured or transformed."""

from __future__ import annotations

from itertools import chain

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from fxbio.errors import ModelError

__all__ = ["check_capturable"]


def check_capturable(model: object) -> None:
    """Raise ``ModelError`` with the way out, unless the model can be captured as it is."""
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"a model must be a torch.nn.Module, not {type(model).__name__}",
            help="pass the module itself",
        )
    for path, module in model.named_modules():
        _check_module(path or "the model", module)
        _check_names(path or "the model", module)
    for name, tensor in model.named_parameters():
        if isinstance(tensor, nn.UninitializedParameter):
            raise ModelError(
                f"parameter '{name}' of a lazy layer has no shape yet",
                help="run the model once on an input before capturing it",
            )
        if tensor.is_meta:
            raise ModelError(
                f"parameter '{name}' is on the meta device and has no values",
                help="materialise the model first: model.to_empty(device=...) and initialise it",
            )
    for name, held in chain(model.named_parameters(), model.named_buffers()):
        if held.is_inference():
            raise ModelError(
                f"'{name}' was made under torch.inference_mode and cannot take part in training",
                help="build the model outside of torch.inference_mode; or load the state_dict() of "
                "this one into a model that was",
            )


def _check_module(path: str, module: nn.Module) -> None:
    if isinstance(module, DistributedDataParallel | DataParallel):
        raise ModelError(
            f"{path} is wrapped in {type(module).__name__}",
            help="transform model.module first, then wrap the result",
        )
    compiled = isinstance(module, torch._dynamo.OptimizedModule)
    if compiled or getattr(module, "_compiled_call_impl", None) is not None:
        raise ModelError(
            f"{path} is compiled already",
            help="transform the plain model first, then compile the result",
        )


def _check_names(path: str, module: nn.Module) -> None:
    """Refuse what ``add_module`` refuses: everything here finds modules by their paths."""
    for name, child in module._modules.items():
        if child is not None and (not name or "." in name or _is_hidden(module, name)):
            raise ModelError(
                f"{path} holds a module under the name {name!r:.80}, by which it cannot be found",
                notes=["names are not empty, have no '.', and are not those of other attributes"],
                help="rename it, and register it as torch does: module.add_module(name, child)",
            )


def _is_hidden(module: nn.Module, name: str) -> bool:
    """True if an attribute of that name stands before a child."""
    if name not in vars(module) and not hasattr(type(module), name):
        return False
    try:
        return getattr(module, name) is not module._modules[name]
    except Exception:  # a property of the user's, which may raise anything
        return True

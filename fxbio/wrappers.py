"""Models inside of the wrappers that train them: DDP, FSDP, ``torch.compile``, averages, Fabric."""

from __future__ import annotations

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

__all__ = ["unwrapped"]

_BY_NAME = {
    "OptimizedModule": "_orig_mod",  # torch.compile
    "AveragedModel": "module",
    "FullyShardedDataParallel": "_fsdp_wrapped_module",
    "_FabricModule": "_original_module",
}
"""By class, the child that it wraps; these are not imported, which takes long."""


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside of all its wrappers, or the model itself.

    Paths of modules and names of parameters are those of the model that was transformed.
    """
    while (inner := _inner(model)) is not None:
        model = inner
    return model


def _inner(model: nn.Module) -> nn.Module | None:
    if isinstance(model, DistributedDataParallel | DataParallel):
        wrapped: nn.Module = model.module
        return wrapped
    for cls in type(model).__mro__:
        if cls.__name__ in _BY_NAME:
            return model._modules.get(_BY_NAME[cls.__name__])
    return None

"""Loading a checkpoint into a freshly built model, without ever unpickling code."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fxbio.errors import ModelError
from fxbio.models.plain_load import load_plain

__all__ = ["load_weights"]

_QUANTIZED = (torch.qint8, torch.quint8, torch.qint32)
_SHOWN = 5
"""How many keys of each kind an error lists."""
_WRAPPERS = ("state_dict", "model", "model_state_dict")
"""Keys under which trainers put the weights of a checkpoint."""


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a file of weights strictly.

    Raises:
        ModelError: when the file is no plain dict of tensors, or does not fit the model.
    """
    state = _read(path)
    _check_fits(model, state, path)
    _check_dense(state, path)
    _check_kinds(model, state, path)
    model.load_state_dict(dict(state), strict=True)


def _check_dense(state: Mapping[str, Any], path: Path) -> None:
    for name, value in state.items():
        if isinstance(value, Tensor) and (value.is_meta or value.layout is not torch.strided):
            raise ModelError(f"'{name}' in '{path}' is no dense tensor with values")


def _check_kinds(model: nn.Module, state: Mapping[str, Any], path: Path) -> None:
    """Copying rounds to the precision of the model, but cuts off fractions and imaginary parts."""
    for name, wanted in model.state_dict().items():
        found = state[name]
        if isinstance(wanted, Tensor) and _kind(found.dtype) != _kind(wanted.dtype):
            raise ModelError(
                f"'{name}' in '{path}' is {found.dtype}, and {wanted.dtype} in the model",
                help="save the weights as the model has them",
            )


def _kind(dtype: torch.dtype) -> str:
    if dtype.is_complex:
        return "complex"
    if dtype.is_floating_point:
        return "real"
    return "truth" if dtype is torch.bool else "quantized" if dtype in _QUANTIZED else "whole"


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise ModelError(f"there is no weights file '{path}'")
    try:
        loaded: object = load_plain(path)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"'{path}' is not a plain file of weights",
            notes=["files that run code when they are loaded are refused"],
            help="save the weights alone: torch.save(model.state_dict(), 'weights.pt')",
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(
            f"'{path}' cannot be read as a file of weights", notes=[str(error)]
        ) from error
    return _unwrap(loaded, path)


def _unwrap(loaded: object, path: Path) -> Mapping[str, Any]:
    if isinstance(loaded, Mapping):
        for key in _WRAPPERS:
            inner = loaded.get(key)
            if isinstance(inner, Mapping):
                return inner
        if all(isinstance(key, str) for key in loaded):
            return loaded
    raise ModelError(
        f"'{path}' holds {type(loaded).__name__}, not a dict of tensors",
        help="save the weights alone: torch.save(model.state_dict(), 'weights.pt')",
    )


def _check_fits(model: nn.Module, state: Mapping[str, Any], path: Path) -> None:
    wanted = model.state_dict()
    missing = [key for key in wanted if key not in state]
    unexpected = [key for key in state if key not in wanted]
    reshaped = [
        f"{key} {_shape(state[key])} instead of {_shape(tensor)}"
        for key, tensor in wanted.items()
        if key in state and _shape(state[key]) != _shape(tensor)
    ]
    if not (missing or unexpected or reshaped):
        return
    notes = [
        *_listing("missing", missing),
        *_listing("unexpected", unexpected),
        *_listing("other shape", reshaped),
    ]
    if unexpected and all(key.startswith("module.") for key in unexpected):
        notes.append("keys with 'module.' were saved from a DDP wrapper: save model.module's")
    raise ModelError(f"the weights in '{path}' do not fit {type(model).__name__}", notes=notes)


def _listing(what: str, keys: Iterable[str]) -> list[str]:
    keys = list(keys)
    if not keys:
        return []
    more = f", and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return [f"{what}: {', '.join(keys[:_SHOWN])}{more}"]


def _shape(value: object) -> str:
    return "x".join(str(n) for n in value.shape) if isinstance(value, Tensor) else "(no tensor)"

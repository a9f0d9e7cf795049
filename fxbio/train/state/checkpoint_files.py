"""Checkpoint files: written whole or not at all, and known to be whole when they are read."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fxbio.errors import TrainError
from fxbio.files.atomic_file import atomic_file, write_whole
from fxbio.files.reading import read_text, require_regular_file
from fxbio.models.plain_load import load_plain

__all__ = [
    "host_copy",
    "is_whole",
    "read_checkpoint",
    "remove_checkpoint",
    "set_aside",
    "write_checkpoint",
]


def host_copy(value: Any) -> Any:
    """Nested plain data with every tensor copied to host memory, so that training can go on."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: host_copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(host_copy(item) for item in value)
    return value


def write_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write a file and its checksum, which ``sha256sum -c`` understands.

    The checksum comes first: where the file is, its checksum is too, whenever the power fails.
    While one file replaces another of its name, the checksums of both are there.

    Raises:
        TrainError: when it cannot be written; what was there before is untouched.
    """
    checksum = _checksum_of(path)
    try:
        old = read_text(checksum) if path.exists() and checksum.exists() else ""
        with atomic_file(path, durable=True) as file:
            torch.save(state, file)
            file.flush()
            new = f"{_digest(Path(file.name))}  {path.name}\n"
            write_whole(checksum, new + old, durable=True)
        if old:
            write_whole(checksum, new, durable=True)
    except (OSError, RuntimeError) as error:  # torch adds one of its own to that of a full disk
        reason = error.__context__ if isinstance(error.__context__, OSError) else error
        raise TrainError(
            f"the checkpoint '{path}' cannot be written: {reason}",
            notes=["earlier checkpoints are untouched"],
            help="make room on the disk, then continue with --resume auto",
        ) from error


def is_whole(path: Path) -> bool:
    """True if a file is what was written under its name."""
    try:
        return _digest(path) in read_text(_checksum_of(path)).split()
    except (OSError, UnicodeDecodeError):
        return False


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state in a file, loaded without running code.

    Raises:
        TrainError: when it is missing or damaged.
    """
    if not path.is_file():
        raise TrainError(f"there is no checkpoint '{path}'")
    if _checksum_of(path.resolve()).exists() and not is_whole(path.resolve()):
        raise TrainError(
            f"the checkpoint '{path}' is damaged: its checksum differs",
            help="continue from the newest that is whole: --resume auto",
        )
    try:
        state = load_plain(path)
    except (OSError, ValueError, pickle.UnpicklingError) as error:
        raise TrainError(f"'{path}' cannot be read as a checkpoint: {error}") from error
    if not isinstance(state, dict) or "format" not in state:
        raise TrainError(f"'{path}' is not a checkpoint of fxbio train")
    return state


def remove_checkpoint(path: Path) -> None:
    """Remove a file, then its checksum."""
    path.unlink(missing_ok=True)
    _checksum_of(path).unlink(missing_ok=True)


def set_aside(path: Path) -> None:
    """Give a damaged file a name that nothing looks for; somebody may want to look into it."""
    os.replace(path, path.with_name(f"damaged-{path.name}"))
    _checksum_of(path).unlink(missing_ok=True)


def _checksum_of(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _digest(path: Path) -> str:
    with require_regular_file(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

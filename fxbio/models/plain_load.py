"""Loading what ``torch.save`` wrote, without running code and whatever the file holds."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from fxbio.files.reading import require_regular_file

__all__ = ["load_plain"]


def load_plain(path: Path) -> Any:
    """The plain data in a file, on the CPU.

    Raises:
        OSError: when it is no regular file, or cannot be read.
        pickle.UnpicklingError: when it would run code.
        ValueError: when it is damaged.
    """
    try:
        return torch.load(require_regular_file(path), map_location="cpu", weights_only=True)
    except (OSError, MemoryError, pickle.UnpicklingError):
        raise
    except Exception as error:  # an unpickler raises anything when it is given anything
        raise ValueError(f"{type(error).__name__}: {error}") from error

"""The file format of MNIST: a header with the sizes, then bytes; packed by gzip or not."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fxbio.errors import DataError

__all__ = ["find_idx", "read_idx"]

_FOLDERS = ("MNIST/raw", "raw", ".")
"""Where torchvision puts the files, and where people do."""

_UNSIGNED_BYTE = 8
_INT = 4


def find_idx(root: Path, name: str) -> Path | None:
    """The file of that name, or the one with ``.gz``, in one of the usual folders."""
    candidates = (root / folder / f"{name}{end}" for folder in _FOLDERS for end in ("", ".gz"))
    return next((path for path in candidates if path.is_file()), None)


def read_idx(path: Path) -> Tensor:
    """The bytes of a file, in the shape that its header says.

    Raises:
        DataError: when it is damaged, cut off, or something else.
    """
    content = _unpacked(path)
    kind, dimensions = content[2:4] if content[:2] == b"\0\0" and len(content) > 3 else (0, 0)
    start = _INT * (1 + dimensions)
    if kind != _UNSIGNED_BYTE or len(content) < start:
        raise DataError(f"{path} is no file of bytes in the idx format")
    shape = struct.unpack(f">{dimensions}I", content[_INT:start])
    wanted, found = int(np.prod(shape)), len(content) - start
    if found != wanted:
        raise DataError(
            f"{path} has {found:,} bytes behind its header, which speaks of {wanted:,}",
            help="fetch the file again",
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy())


def _unpacked(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be unpacked: {error}", help="fetch the file again"
        ) from error

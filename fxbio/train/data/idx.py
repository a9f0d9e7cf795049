"""The file format of MNIST: a header with the sizes, then bytes; packed by gzip or not."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import torch
from torch import Tensor

from fxbio.errors import DataError
from fxbio.files.reading import require_regular_file

__all__ = ["find_idx", "read_idx"]

_FOLDERS = ("MNIST/raw", "raw", ".")
"""Where torchvision puts the files, and where people do."""

_UNSIGNED_BYTE = 8
_INT = 4
_MOST_BYTES = 2**31


def find_idx(root: Path, name: str) -> Path | None:
    """The file of that name, or the one with ``.gz``, in one of the usual folders."""
    candidates = (root / folder / f"{name}{end}" for folder in _FOLDERS for end in ("", ".gz"))
    return next((path for path in candidates if path.is_file()), None)


def read_idx(path: Path) -> Tensor:
    """The bytes of a file, in the shape that its header says.

    Raises:
        DataError: when it is damaged, cut off, or something else.
    """
    try:
        with _opened(require_regular_file(path)) as stream:
            shape = _shape(stream, path)
            wanted = math.prod(shape)
            content = stream.read(wanted + 1)
    except (EOFError, OSError, zlib.error) as error:
        doing = "unpacked" if path.suffix == ".gz" else "read"
        raise DataError(
            f"{path} cannot be {doing}: {error}", help="fetch the file again"
        ) from error
    if len(content) != wanted:
        found = f"{len(content):,}" if len(content) < wanted else "more"
        raise DataError(
            f"{path} has {found} bytes behind its header, which speaks of {wanted:,}",
            help="fetch the file again",
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8).reshape(shape).copy())


def _opened(path: Path) -> BinaryIO:
    """Read as far as the header says, and no further: what is packed may be of any size."""
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _shape(stream: BinaryIO, path: Path) -> tuple[int, ...]:
    start = stream.read(_INT)
    kind, dimensions = start[2:] if start[:2] == b"\0\0" and len(start) == _INT else (0, 0)
    sizes = stream.read(_INT * dimensions)
    if kind != _UNSIGNED_BYTE or len(sizes) != _INT * dimensions:
        raise DataError(f"{path} is no file of bytes in the idx format")
    shape = struct.unpack(f">{dimensions}I", sizes)
    if math.prod(shape) > _MOST_BYTES:
        raise DataError(
            f"{path} speaks of {math.prod(shape):,} bytes: that is no data set of MNIST"
        )
    return shape

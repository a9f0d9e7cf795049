"""Writing a folder so that it is there completely or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fxbio.errors import DataError

__all__ = ["new_folder"]


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path``, which takes that name when the block has succeeded.

    Raises:
        DataError: when there is something already, or nothing can be written there.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise _exists(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    except OSError as error:
        raise DataError(f"nothing can be written to {path.parent}: {error.strerror}") from error
    try:
        partial.chmod(0o755)
        yield partial
        os.rename(partial, path)
    except OSError as error:
        if path.is_dir() and any(path.iterdir()):  # another process was quicker
            raise _exists(path) from error
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _exists(path: Path) -> DataError:
    return DataError(f"{path} is there already", help="give another path, or remove it")

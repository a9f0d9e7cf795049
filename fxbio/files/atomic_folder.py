"""Writing a folder so that it is there completely or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic_folder"]


@contextmanager
def atomic_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder beside ``path``, which takes that name when the block has succeeded.

    Args:
        path: of the folder; those above it are made.
        overwrite: exchange what is there. Otherwise only an empty folder gives way.

    Raises:
        OSError: when nothing can be written there, or something is there that must stay.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield scratch
        scratch.chmod(0o755)  # mkdtemp's are for their owner alone
        if overwrite and path.exists():
            _exchange(scratch, path)
        else:
            os.rename(scratch, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _exchange(scratch: Path, path: Path) -> None:
    """Exchange folders so that one of the two is there at any moment."""
    old = path.with_name(f".{path.name}-old-{os.getpid()}")
    path.rename(old)
    try:
        scratch.rename(path)
    except BaseException:
        old.rename(path)
        raise
    shutil.rmtree(old)

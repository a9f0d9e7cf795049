"""Folders of generated data, which never take the place of others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fxbio.errors import DataError
from fxbio.files.atomic_folder import atomic_folder

__all__ = ["new_folder"]


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``path`` when the block has succeeded.

    Raises:
        DataError: when there is something already, or nothing can be written there.
    """
    _check_free(path)
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(atomic_folder(path))
        except OSError as error:
            raise DataError(f"nothing can be written to {path.parent}: {error.strerror}") from error
        yield folder
        _check_free(path)  # another process may have been quicker


def _check_free(path: Path) -> None:
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise DataError(f"{path} is there already", help="give another path, or remove it")

"""Writing a file so that it is there completely, as it was before, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from fxbio.files.reading import require_regular_file

__all__ = ["WrongPlaceError", "atomic_file", "atomic_link", "remove_leftovers", "write_whole"]


class WrongPlaceError(OSError):
    """Something that is no file stands where one is to be written."""


@contextmanager
def atomic_file(path: Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """A scratch file beside ``path``, which takes that name when the block has succeeded.

    A link at ``path`` is replaced, wherever it leads; a block that fails leaves what was there.

    Args:
        path: of the file, in a folder that exists.
        durable: have the content and the name on the disk before this returns.

    Raises:
        WrongPlaceError: for a folder, device, pipe or socket at ``path`` or at the scratch file.
        OSError: when nothing can be written there.
    """
    scratch = _scratch(path)
    for place in (path, scratch):
        _check_place(place)
    scratch.unlink(missing_ok=True)  # of a killed process, or a link that leads elsewhere
    try:
        with scratch.open("xb") as stream:
            yield stream
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        os.replace(scratch, path)
    except BaseException:
        with suppress(OSError):  # the folder may be gone, too
            scratch.unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(path.parent)


def write_whole(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Write a small file: a reader sees the old content or the new one. Text is UTF-8.

    Raises:
        OSError: as for ``atomic_file``.
    """
    with atomic_file(path, durable=durable) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


def atomic_link(path: Path, target: str) -> None:
    """Let a symbolic link lead elsewhere, with no moment at which there is none.

    Raises:
        OSError: when it cannot be made.
    """
    scratch = _scratch(path)
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(target)
    os.replace(scratch, path)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes had not written to the end."""
    for scratch in folder.glob(_scratch(Path("*")).name):
        scratch.unlink()


def _scratch(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _check_place(path: Path) -> None:
    """A device must not be replaced, nor can a folder be; a link goes, wherever it leads."""
    if path.is_symlink() or not path.exists():
        return
    try:
        require_regular_file(path)
    except OSError as error:
        raise WrongPlaceError(str(error)) from error


def _sync_folder(folder: Path) -> None:
    """A rename is on disk only when its folder is; not every system can open one."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

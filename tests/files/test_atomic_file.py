"""A file is there completely, as it was before, or not at all, whatever happens to its writer."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from fxbio.errors import ConfigError, TrainError
from fxbio.files.atomic_file import (
    WrongPlaceError,
    atomic_file,
    atomic_link,
    remove_leftovers,
    write_whole,
)
from fxbio.train.output.run_folder import write_text
from fxbio.train.state.checkpoint_files import write_checkpoint
from tests.files.full_disk import files_end_after

SCRATCH = ".a.txt.part"


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("before", [{}, {"a.txt": "old"}])
@pytest.mark.parametrize("end", [None, KeyboardInterrupt, ValueError, OSError])
def test_the_new_content_or_the_old_one(
    tmp_path: Path, durable: bool, before: dict[str, str], end: type[BaseException] | None
) -> None:
    for name, text in before.items():
        (tmp_path / name).write_text(text)
    with (
        suppress(KeyboardInterrupt, ValueError, OSError),
        atomic_file(tmp_path / "a.txt", durable=durable) as stream,
    ):
        stream.write(b"new")
        stream.flush()
        assert content(tmp_path) == {**before, SCRATCH: "new"}
        if end is not None:
            raise end
    assert content(tmp_path) == (before if end else {"a.txt": "new"})


def test_a_killed_writer_leaves_the_old_content_and_the_next_one_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    code = (
        "import os\nfrom pathlib import Path\nfrom fxbio.files.atomic_file import atomic_file\n"
        "with atomic_file(Path('a.txt')) as stream:\n"
        "    stream.write(b'half')\n    stream.flush()\n    os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == -9
    assert content(tmp_path) == {"a.txt": "old", SCRATCH: "half"}
    write_whole(tmp_path / "a.txt", "whole")
    assert content(tmp_path) == {"a.txt": "whole"}


def test_leftovers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (SCRATCH, ".b.pt.part", "c.part", ".d", "a.txt"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert content(tmp_path).keys() == {"c.part", ".d", "a.txt"}


@pytest.mark.parametrize("name", ["a.txt", SCRATCH])
@pytest.mark.parametrize("target", ["mine", "/dev/null", "nowhere", "a.txt"])
def test_a_link_is_replaced_and_not_written_through(tmp_path: Path, name: str, target: str) -> None:
    (tmp_path / "mine").write_text("kept")
    (tmp_path / name).symlink_to(target)
    write_whole(tmp_path / "a.txt", "new")
    assert content(tmp_path) == {"mine": "kept", "a.txt": "new"}
    assert not (tmp_path / "a.txt").is_symlink()


WRITERS: dict[str, tuple[Callable[[Path], None], type[Exception]]] = {
    "whole": (lambda path: write_whole(path, "new"), WrongPlaceError),
    "text of a run": (lambda path: write_text(path, "new"), ConfigError),
    "checkpoint": (lambda path: write_checkpoint({"format": 1}, path), TrainError),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
@pytest.mark.parametrize("name", ["a.txt", SCRATCH])
def test_what_is_no_file_stays(
    tmp_path: Path, writer: str, make: Callable[[Path], None], name: str
) -> None:
    make(tmp_path / name)
    kind = stat.S_IFMT((tmp_path / name).stat().st_mode)
    write, error = WRITERS[writer]
    with pytest.raises(error, match=r"it is a (named pipe|folder), not a file"):
        write(tmp_path / "a.txt")
    assert os.listdir(tmp_path) == [name]
    assert stat.S_IFMT((tmp_path / name).stat().st_mode) == kind


@pytest.mark.parametrize("writer", WRITERS)
def test_a_disk_without_room_leaves_what_was_there(tmp_path: Path, writer: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    write, _ = WRITERS[writer]
    with files_end_after(2), pytest.raises((OSError, TrainError), match="File too large"):
        write(path)
    assert content(tmp_path) == {"a.txt": "old"}


@pytest.mark.parametrize(
    ("durable", "expected"), [(True, ["sync file", "rename", "sync folder"]), (False, ["rename"])]
)
def test_what_is_durable_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool, expected: list[str]
) -> None:
    happened = []
    replace = os.replace

    def fsync(descriptor: int) -> None:
        mode = os.fstat(descriptor).st_mode
        happened.append("sync folder" if stat.S_ISDIR(mode) else "sync file")
        if stat.S_ISREG(mode):
            assert (tmp_path / SCRATCH).read_text() == "new"  # nothing is left in a buffer

    def rename(source: Path, target: Path) -> None:
        happened.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", rename)
    write_whole(tmp_path / "a.txt", "new", durable=durable)
    assert happened == expected


def test_text_is_utf_8_and_bytes_are_as_they_are(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.txt", "δ ± ²")
    assert (tmp_path / "a.txt").read_bytes() == "δ ± ²".encode()
    write_whole(tmp_path / "a.txt", b"\xff\r\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xff\r\n"


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "nowhere" / "a.txt", "new")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("leftover", [False, True])
def test_a_link_leads_elsewhere_at_once(tmp_path: Path, leftover: bool) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    if leftover:
        (tmp_path / ".last.part").symlink_to("one")
    for name in ("one", "two"):
        atomic_link(tmp_path / "last", name)
        assert (tmp_path / "last").read_text() == name
    assert content(tmp_path).keys() == {"one", "two", "last"}

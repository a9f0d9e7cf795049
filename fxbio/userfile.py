"""Running Python files of the user: a ``model.py``, a ``my_rules.py``."""

from __future__ import annotations

import hashlib
import importlib.util
import linecache
import sys
import sysconfig
import traceback
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from fxbio.errors import FxbioError, Location
from fxbio.files.reading import require_regular_file

__all__ = ["import_file", "in_user_code", "user_location"]

T = TypeVar("T")


def import_file(path: Path, error: type[FxbioError]) -> ModuleType:
    """Run a Python file and give its module; its neighbours can be imported as in a script.

    The module's name follows from the file's path: its classes can be pickled, and files of one
    name in two folders, or a file called like an installed package, do not get in each other's way.

    Raises:
        FxbioError: of the class ``error``, when there is no such file or it raises.
    """
    path = _existing(path, error)
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    name = f"fxbio_file_{path.stem}_{digest}"
    loader = SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module

    def run() -> None:
        # Compiled anew: the byte-code cache would serve an old text to a file saved twice a second.
        code = loader.source_to_code(loader.get_data(str(path)), str(path))
        exec(code, module.__dict__)

    try:
        in_user_code(run, f"running {path.name}", error)
    except FxbioError:
        del sys.modules[name]
        raise
    return module


def _existing(path: Path, error: type[FxbioError]) -> Path:
    try:
        require_regular_file(path)
    except FileNotFoundError as cause:
        raise error(f"there is no file '{path}'", help=_neighbours(path)) from cause
    except OSError as cause:
        raise error(f"'{path}' cannot be run: {cause.strerror or cause}") from cause
    return path.resolve()


def in_user_code(call: Callable[[], T], doing: str, error: type[FxbioError]) -> T:
    """Call something that is not ours; what it raises becomes an error that points at its line.

    Raises:
        FxbioError: of the class ``error``, chained to what was raised.
    """
    try:
        return call()
    except FxbioError:
        raise
    except (Exception, SystemExit) as cause:  # the user's code may raise anything, or exit
        text = str(cause)
        what = f"{type(cause).__name__}: {text}" if text else type(cause).__name__
        raise error(
            f"{doing} raised {what}",
            location=user_location(cause),
            help="see the whole traceback with: fxbio --debug ...",
        ) from cause


def user_location(error: BaseException) -> Location | None:
    """The innermost line outside of fxbio, the standard library and installed packages."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        text = (error.text or "").rstrip("\n")
        return Location(error.filename, error.lineno, error.offset or 1, text)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_users(f.filename)]
    if not frames or frames[-1].lineno is None:
        return None
    frame = frames[-1]
    line = linecache.getline(frame.filename, frame.lineno or 1).rstrip("\n")
    column, length = _span(frame, line)
    return Location(frame.filename, frame.lineno or 1, column, line, length)


def _span(frame: traceback.FrameSummary, line: str) -> tuple[int, int]:
    """Column, from 1, and length of what the frame was executing, at most to the line's end."""
    indent = len(line) - len(line.lstrip())
    start = indent if frame.colno is None else frame.colno
    same_line = frame.end_lineno == frame.lineno and frame.end_colno is not None
    end = frame.end_colno if same_line and frame.end_colno else len(line)
    return start + 1, max(1, end - start)


def _is_users(filename: str) -> bool:
    path = Path(filename)
    if filename.startswith("<") or {"site-packages", "dist-packages"} & set(path.parts):
        return False
    ours = (Path(__file__).parent, Path(sysconfig.get_paths()["stdlib"]))
    return not any(path.is_relative_to(folder) for folder in ours)


def _neighbours(path: Path) -> str:
    files = sorted(p.name for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
    return f"Python files there: {', '.join(files[:8])}" if files else "check the path"

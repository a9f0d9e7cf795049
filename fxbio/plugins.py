"""Rules and passes from elsewhere: files given on the command line, and installed packages."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
from pathlib import Path
from types import ModuleType

from fxbio.errors import RuleError
from fxbio.userfile import import_file, in_user_code

__all__ = ["GROUPS", "load_entry_points", "load_plugin"]

GROUPS = ("fxbio.rules", "fxbio.passes")
"""Entry-point groups; each entry names a module that registers what it has when imported."""


def load_plugin(path_or_module: str | Path) -> ModuleType:
    """Import a plug-in, so that the rules and passes in it are registered.

    Args:
        path_or_module: ``my_rules.py`` or ``package.module``. The file's code is run.

    Raises:
        RuleError: when it is missing or raises, or a name in it is taken.
    """
    text = str(path_or_module)
    if isinstance(path_or_module, Path) or text.endswith(".py"):
        return import_file(Path(text), RuleError)
    return in_user_code(
        lambda: importlib.import_module(text), f"importing the plug-in '{text}'", RuleError
    )


@functools.cache
def load_entry_points() -> tuple[str, ...]:
    """Import the plug-ins of installed packages, once; gives their names.

    Raises:
        RuleError: when one of them cannot be imported, naming the package that brought it.
    """
    entries = [e for group in GROUPS for e in importlib.metadata.entry_points(group=group)]
    for entry in entries:
        provider = entry.dist.name if entry.dist is not None else "an unknown package"
        doing = f"loading the plug-in '{entry.name}' ({entry.value}) of {provider}"
        in_user_code(entry.load, doing, RuleError)
    return tuple(entry.name for entry in entries)

"""The user's own inverse, by reference: ``file.py:function`` or ``package.module:function``."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from fxbio.errors import RuleError, did_you_mean
from fxbio.target_propagation.inverse import InverseFactory
from fxbio.userfile import import_file, in_user_code

__all__ = ["load_factory"]


def load_factory(reference: str) -> InverseFactory:
    """Factory of an inverse: a function or a class that is called with a ``Block``.

    Importing the file or module runs its code.

    Raises:
        RuleError: when there is no such thing.
    """
    source, colon, name = reference.rpartition(":")
    if not colon or not source or not name:
        raise RuleError(
            f"'{reference}' does not name an inverse",
            help="write file.py:function or package.module:function; it gets a block and returns "
            "a torch.nn.Module from the shape of its output to that of its input",
        )
    module = _import(source)
    found = getattr(module, name, None)
    if not callable(found):
        own = [n for n, value in vars(module).items() if callable(value) and n[0] != "_"]
        guess = did_you_mean(name, own)
        raise RuleError(f"{source} has no function '{name}'", notes=[guess] if guess else [])
    factory: InverseFactory = found
    return factory


def _import(source: str) -> ModuleType:
    if source.endswith(".py"):
        return import_file(Path(source), RuleError)
    return in_user_code(lambda: importlib.import_module(source), f"importing {source}", RuleError)

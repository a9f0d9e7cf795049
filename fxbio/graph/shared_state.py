"""Globals, class attributes and caches that the code of a model reaches by name."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from fxbio.graph.python_state import (
    UNSET,
    LruCache,
    Restore,
    contents,
    is_foreign,
    owned_state,
    restore_of,
)

__all__ = ["SharedState"]


class SharedState:
    """Values of names before a forward pass, and contents of the objects behind them.

    Other code relies on it too, so that only what a caller points at is put back.
    """

    def __init__(self, owned: Iterable[Any]) -> None:
        """Read the state that code refers to.

        Args:
            owned: the state of a model; its functions and classes are followed.
        """
        self._homes: dict[int, tuple[Any, dict[str, Any]]] = {}
        self._holders: dict[int, tuple[Any, Restore | None]] = {}
        open_, seen, read = list(_code_of(owned)), set[int](), set[tuple[int, str]]()
        while open_:
            code = open_.pop()
            if id(code) in seen:
                continue
            seen.add(id(code))
            for home, name in _names_in(code):
                if (id(home), name) not in read:
                    read.add((id(home), name))
                    open_ += _code_of(self._read(home, name))

    def _read(self, home: Any, name: str) -> list[Any]:
        """Remember a namespace and what is behind one of its names, and return the latter."""
        if id(home) not in self._homes:
            self._homes[id(home)] = home, dict(_namespace(home))
        _, before = self._homes[id(home)]
        reached = list(owned_state([before.get(name)], self._holders))
        self._holders.update((id(value), (value, restore_of(value))) for value in reached)
        return reached

    def restore(self, chosen: Callable[[Any], bool]) -> None:
        """Put back every name and every object that came to hold what is chosen.

        Caches of ``functools`` are emptied: what was in them cannot be told.
        """
        known: dict[int, Any] = dict(self._holders)
        for home, before in self._homes.values():
            for name, now in list(_namespace(home).items()):
                if now is not before.get(name, UNSET) and _holds([now], chosen, known):
                    _put(home, name, before.get(name, UNSET))
        for value, undo in self._holders.values():
            if undo is not None and _holds(contents(value), chosen, known):
                undo()
        for value in gc.get_objects():
            if type(value) is LruCache and _holds(contents(value), chosen, known):
                value.cache_clear()


def _holds(values: list[Any], chosen: Callable[[Any], bool], known: dict[int, Any]) -> bool:
    """True if something chosen is reached beyond what is known; if not, all of it is known then.

    Caches of a process lead to the same objects again and again.
    """
    reached = list(owned_state(values, known))
    if any(map(chosen, reached)):
        return True
    known.update((id(value), value) for value in reached)  # kept, or an id could be another's
    return False


def _namespace(home: Any) -> Any:
    return vars(home) if isinstance(home, type) else home


def _put(home: Any, name: str, value: Any) -> None:
    if isinstance(home, type):
        delattr(home, name) if value is UNSET else setattr(home, name, value)
    elif value is UNSET:
        del home[name]
    else:
        home[name] = value


def _code_of(values: Iterable[Any]) -> Iterator[Any]:
    """The functions and classes among some objects, and the classes of the others."""
    for value in values:
        yield value if isinstance(value, type | FunctionType) else type(value)


def _names_in(code: Any) -> Iterator[tuple[Any, str]]:
    """The namespaces that a function or a class refers to, with the names there.

    They are the dictionaries of modules, and classes.
    """
    if isinstance(code, type):
        own = (base for base in code.__mro__ if not is_foreign(base))
        yield from ((base, name) for base in own for name in vars(base))
    elif not is_foreign(code):
        home, names = code.__globals__, set(_names_of(code.__code__))
        for name in names:
            yield home, name
            module = home.get(name)
            if isinstance(module, ModuleType) and not is_foreign(module):
                yield from ((vars(module), inner) for inner in names & vars(module).keys())


def _names_of(code: CodeType) -> Iterator[str]:
    """The global names and attributes in a function, and in the functions that it defines."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_of(constant)

"""Sites gathered into boxes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fxbio.graph.partition import within
from fxbio.policy.assignment import Assignment

__all__ = ["Box", "by_block", "by_weight"]


@dataclass(frozen=True)
class Box:
    """Sites that are drawn as one."""

    key: str
    """Path of the module, or name of the first site."""
    module: str | None
    """Path of the module all of whose work belongs to the box; ``None`` for single weights."""
    assignments: tuple[Assignment, ...]
    members: tuple[str, ...] = ()
    """Keys of all the boxes in whose place it stands, its own included."""

    @property
    def ruled(self) -> tuple[Assignment, ...]:
        """Its assignments without those that keep backprop for no entry speaks of their kind."""
        spoken_of = tuple(a for a in self.assignments if not a.is_kept)
        return spoken_of or self.assignments


def by_weight(assignments: Iterable[Assignment]) -> tuple[Box, ...]:
    """One box per weight and module, however often the weight is used."""
    first: dict[tuple[str, str, str], str] = {}

    def key(a: Assignment) -> tuple[str, str | None]:
        identity = (a.site.weight, a.site.path, a.site.op)
        return first.setdefault(identity, a.site.name), None

    return _gather(assignments, key)


def by_block(
    assignments: Iterable[Assignment], blocks: Iterable[str], depth: int
) -> tuple[Box, ...]:
    """One box per block and one per weight outside of blocks.

    Args:
        assignments: of the plan.
        blocks: paths of the modules that are blocks.
        depth: what lies deeper than so many segments of a path is gathered in the module there.
    """
    whole = tuple(blocks)
    first: dict[tuple[str, str, str], str] = {}

    def key(a: Assignment) -> tuple[str, str | None]:
        module = next((block for block in whole if within(a.site.path, block)), None)
        segments = (module or a.site.path).split(".")
        if len(segments) > depth:
            module = ".".join(segments[:depth])
        if module is not None:
            return module, module
        return first.setdefault((a.site.weight, a.site.path, a.site.op), a.site.name), None

    return _gather(assignments, key)


def _gather(
    assignments: Iterable[Assignment], key: Callable[[Assignment], tuple[str, str | None]]
) -> tuple[Box, ...]:
    """Norms without an entry of their own go with the layer before them."""
    found: dict[str, list[Assignment]] = {}
    modules: dict[str, str | None] = {}
    last: str | None = None
    for a in assignments:
        name, module = key(a)
        if module is None and last is not None and a.is_kept and a.site.op == "norm":
            name, module = last, modules[last]
        found.setdefault(name, []).append(a)
        modules.setdefault(name, module)
        last = name
    return tuple(Box(name, modules[name], tuple(inside), (name,)) for name, inside in found.items())

"""Selection of the sites of a model."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Protocol

from fxbio.globs import Pattern
from fxbio.policy.entries import Where
from fxbio.policy.where_values import OPS, Depth, Span
from fxbio.site import Site, Unreachable

__all__ = ["Graph", "candidates", "meant_patterns", "named_kinds", "patterns_of", "select"]


class Graph(Protocol):
    """Protocol of a captured model, as policies need it."""

    @property
    def name(self) -> str:
        """Name of the model, for messages."""

    @property
    def digest(self) -> str:
        """Changes with the structure of the model."""

    @property
    def sites(self) -> tuple[Site, ...]:
        """In order of execution."""

    @property
    def unreachable(self) -> tuple[Unreachable, ...]:
        """Parts that cannot be seen into."""

    def between(self, sources: set[str], targets: set[str]) -> set[str]:
        """Names of the sites on a dataflow path from ``sources`` to ``targets``, inclusive."""


def select(where: Where, graph: Graph) -> tuple[Site, ...]:
    """The sites that a selector matches, in order of execution.

    Scales of normalisation layers, and embeddings, are candidates only where the selector names
    their kind, so that a rule for a whole subtree leaves them alone.
    """
    return _select(where, candidates(where, graph), graph)


def candidates(where: Where, graph: Graph) -> tuple[Site, ...]:
    """The sites of the kinds that a selector can mean."""
    named = named_kinds(where)
    return tuple(site for site in graph.sites if site.multiplies or site.op in named)


def named_kinds(where: Where) -> frozenset[str]:
    """Kinds under ``op`` anywhere in the selector, other than under ``not``."""
    return frozenset(where.op).union(*map(named_kinds, (*where.all_of, *where.any_of)))


def patterns_of(where: Where) -> Iterator[Pattern]:
    """All patterns on module paths in a selector, those of nested selectors included."""
    yield from where.module
    if where.regex:
        yield where.regex
    yield from where.between or ()
    for child in (*where.all_of, *where.any_of, *([where.not_of] if where.not_of else [])):
        yield from patterns_of(child)


def meant_patterns(where: Where) -> Iterator[Pattern]:
    """The patterns on module paths of which a selected site matches one."""
    yield from where.module
    if where.regex:
        yield where.regex
    for child in (*where.all_of, *where.any_of):
        yield from meant_patterns(child)


def _select(where: Where, pool: tuple[Site, ...], graph: Graph) -> tuple[Site, ...]:
    left = _by_site(where, pool, graph)
    for names in _combined(where, left, graph):
        left = tuple(site for site in left if site.name in names)
    return _by_position(where, left)


def _by_site(where: Where, pool: tuple[Site, ...], graph: Graph) -> tuple[Site, ...]:
    between = _between(where.between, graph) if where.between else None
    deepest = max((site.depth for site in graph.sites), default=0)
    return tuple(
        site
        for site in pool
        if (not where.module or any(glob.matches(site.path) for glob in where.module))
        and (where.regex is None or where.regex.matches(site.path))
        and (not where.op or any(_is_op(site, op) for op in where.op))
        and (not where.type or any(fnmatchcase(site.type, glob) for glob in where.type))
        and (where.depth is None or _is_within(site, where.depth, deepest))
        and (between is None or site.name in between)
    )


def _is_op(site: Site, op: str) -> bool:
    return site.attention if op == "attention" else site.op in OPS[op]


def _is_within(site: Site, depth: Depth, deepest: int) -> bool:
    place: float = site.depth
    if depth.fraction:
        place = site.depth / deepest if deepest else 0.0
    return (depth.low is None or depth.low <= place) and (depth.high is None or place <= depth.high)


def _between(ends: tuple[Pattern, Pattern], graph: Graph) -> set[str]:
    sources, targets = ({s.name for s in graph.sites if end.matches(s.path)} for end in ends)
    return graph.between(sources, targets)


def _combined(where: Where, pool: tuple[Site, ...], graph: Graph) -> Iterator[set[str]]:
    """Names admitted by each of the nested selectors; all of them look at the same pool."""

    def names(child: Where) -> set[str]:
        return {site.name for site in _select(child, pool, graph)}

    for child in where.all_of:
        yield names(child)
    if where.any_of:
        yield set().union(*map(names, where.any_of))
    if where.not_of:
        yield {site.name for site in pool} - names(where.not_of)


def _by_position(where: Where, pool: tuple[Site, ...]) -> tuple[Site, ...]:
    if where.index is None and not where.first and not where.last:
        return pool
    # Weights are counted, not uses: the last layer of a head that runs on five levels is one. What
    # the captured pass did not run has no position: it would come behind the last layer.
    weights = list(dict.fromkeys(site.weight for site in pool if site.calls))
    chosen: set[str] = set()
    if where.index is not None:
        chosen = set(_indexed(weights, where.index))
    if where.first:
        chosen = set(weights[: where.first])
    if where.last:
        chosen = set(weights[-where.last :])
    return tuple(site for site in pool if site.weight in chosen)


def _indexed(weights: list[str], index: tuple[int, ...] | Span) -> list[str]:
    if isinstance(index, Span):
        return weights[index.start : index.stop]
    return [weights[i] for i in index if -len(weights) <= i < len(weights)]

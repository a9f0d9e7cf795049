"""Matches of one entry, and the errors of entries that do not match as they should."""

from __future__ import annotations

from collections.abc import Iterator

from fxbio.errors import PolicyError, UnreachableWeightError
from fxbio.globs import Pattern, suggest_paths
from fxbio.policy.entries import Entry, Where
from fxbio.policy.selector import (
    Graph,
    candidates,
    meant_patterns,
    named_kinds,
    patterns_of,
    select,
)
from fxbio.site import Site, Unreachable

__all__ = ["match_entry"]

_WORDS = {"norm": "normalisation scales", "embedding": "embeddings"}
"""Of the kinds that are selected only where they are named."""
_INSPECT = "list the sites with: fxbio inspect MODEL"


def match_entry(entry: Entry, graph: Graph) -> tuple[Site, ...]:
    """The sites of an entry, in order of execution.

    Raises:
        PolicyError: when it, or one of its patterns, matches nothing although it must, or it
            matches another number of weights than it expects.
        UnreachableWeightError: when it means a part of the model that cannot be seen into.
    """
    sites = select(entry.where, graph)
    if not entry.allow_unmatched:
        names_opaque_part = _check_patterns(entry, graph)
        if not sites and not names_opaque_part:
            raise _unmatched(entry, graph)
        _check_kinds(entry, graph)
    if sites:
        _check_expect(entry, sites)
    return sites


def _check_patterns(entry: Entry, graph: Graph) -> bool:
    """True if a pattern names an opaque part; raises for a pattern that names nothing.

    Patterns are looked at one by one: a dead one among several others would pass unseen.
    """
    paths = list(dict.fromkeys(site.path for site in graph.sites))
    dead = [p for p in patterns_of(entry.where) if not any(p.matches(path) for path in paths)]
    leaves_alone = entry.on_unsupported == "bp" or not entry.rule.rule().rewrites
    for pattern in dead:
        part = _opaque_part(pattern, graph)
        if part is None:
            raise PolicyError(
                f"'{pattern}' matches no site of {graph.name}",
                location=pattern.location or entry.location,
                notes=suggest_paths(pattern.text, paths) if pattern.kind == "glob" else [],
                help=_INSPECT,
            )
        if not leaves_alone:
            raise _asks_for_opaque(pattern, part, entry)
    return bool(dead)


def _check_kinds(entry: Entry, graph: Graph) -> None:
    """Raise for a pattern that names norms or embeddings alone where their kind is not named."""
    meant = set(candidates(entry.where, graph))
    for pattern in meant_patterns(entry.where):
        named = [site for site in graph.sites if pattern.matches(site.path)]
        if named and meant.isdisjoint(named):
            raise PolicyError(
                f"'{pattern}' matches no site that the entry means",
                location=pattern.location or entry.location,
                notes=[_named_by_kind(kind) for kind in sorted({site.op for site in named})],
                help=_INSPECT,
            )


def _named_by_kind(kind: str) -> str:
    return f"the sites of that name are {_WORDS[kind]}: select them with op: {kind}"


def _opaque_part(pattern: Pattern, graph: Graph) -> Unreachable | None:
    for part in graph.unreachable:
        holders = (weight.rpartition(".")[0] for weight in part.weights)
        if any(pattern.matches(path) for path in (part.path, *holders)):
            return part
    return None


def _asks_for_opaque(pattern: Pattern, part: Unreachable, entry: Entry) -> UnreachableWeightError:
    origin = f" ({part.origin})" if part.origin else ""
    return UnreachableWeightError(
        f"no rule can be installed in '{part.path}', which '{pattern}' asks for",
        location=pattern.location or entry.location,
        notes=[f"reason: {part.reason}{origin}"],
        help="let it keep bp with 'on_unsupported: bp', or select something else",
    )


def _unmatched(entry: Entry, graph: Graph) -> PolicyError:
    return PolicyError(
        f"{entry} matches no site of {graph.name}",
        location=entry.where.location or entry.location,
        notes=list(_reasons(entry.where, graph)),
        help=f"{_INSPECT}, or add 'allow_unmatched: true'",
    )


def _reasons(where: Where, graph: Graph) -> Iterator[str]:
    """Explanations for keys that match something each, but nothing together."""
    patterns = list(meant_patterns(where))
    named = [s for s in graph.sites if any(pattern.matches(s.path) for pattern in patterns)]
    unnamed = {s.op for s in named if not s.multiplies} - named_kinds(where)
    if named and all(site.op in unnamed for site in named):
        for kind in sorted(unnamed):
            yield _named_by_kind(kind)
    elif named and where.op:
        ops = dict.fromkeys(site.op for site in named)
        yield f"ops of the sites of that name: {', '.join(ops)}"
    elif where.op:
        yield f"ops of the model: {', '.join(dict.fromkeys(s.op for s in graph.sites))}"
    if where.type:
        yield f"types in the model: {', '.join(dict.fromkeys(s.type for s in graph.sites))}"
    if where.depth:
        deepest = max((site.depth for site in graph.sites), default=0)
        yield f"the layers of the model count from 0 to {deepest}"
    if where.between:
        yield f"no dataflow path leads from '{where.between[0]}' to '{where.between[1]}'"


def _check_expect(entry: Entry, sites: tuple[Site, ...]) -> None:
    weights = list(dict.fromkeys(site.weight for site in sites))
    if entry.expect is None or entry.expect.admits(len(weights)):
        return
    some = ", ".join(weights[:5]) + (", …" if len(weights) > 5 else "")
    uses = f" (used at {len(sites)} sites)" if len(sites) != len(weights) else ""
    raise PolicyError(
        f"{entry} expects {entry.expect} weights and matches {len(weights)}{uses}",
        location=entry.expect.location or entry.location,
        notes=[f"it matches: {some}"],
        help=_INSPECT,
    )

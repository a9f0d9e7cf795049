"""The table of the sweep, for a terminal and for the documentation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

import torch

from tests.sweeping.study import Outcome

__all__ = ["markdown", "table"]

_HEAD = ("model", "parameters", "weights", "sites", "ruled", "whole", "witness", "forward",
         "gradients", "seconds", "remark")  # fmt: skip
_TOTALS = ("suite", "models", "weights applied", "accounted for", "sites", "ruled", "one graph",
           "witness", "forward bitwise", "gradients = oracle", "seconds")  # fmt: skip


def table(outcomes: Sequence[Outcome]) -> str:
    """Rows of text, then the totals of each suite."""
    rows = [(f"{o.suite}/{o.name}", *_row(o)[1:]) for o in outcomes]
    return f"{_aligned([_HEAD, *rows])}\n\n{_aligned([_TOTALS, *_totals(outcomes)])}"


def markdown(outcomes: Sequence[Outcome]) -> str:
    """The page of the documentation."""
    import timm
    import torchvision
    import transformers

    libraries = (torch, torchvision, timm, transformers)
    versions = ", ".join(f"{m.__name__} {m.__version__}" for m in libraries)
    parts = [_INTRODUCTION.format(versions=versions), _grid(_TOTALS, _totals(outcomes))]
    parts += ["\n## Out of reach\n", *_reasons(outcomes), "\n## Problems\n", *_problems(outcomes)]
    for suite, members in groupby(outcomes, key=lambda o: o.suite):
        parts += [f"\n## {suite}\n", _grid(_HEAD, [_row(o) for o in members])]
    return "\n".join(parts) + "\n"


_INTRODUCTION = """# Coverage

What `fxbio.transform` with `default: feedback-alignment` does to whole zoos of models. Made by
`make sweep`, on {versions}, CPU, random weights, in training mode, with small inputs.

| column | meaning |
|---|---|
| weights applied | parameters that the dispatcher sees in linear operations of an eager pass |
| accounted for | those that the plan lists, with a rule or the reason why there is none |
| sites, ruled | uses of weights, and those that run the rule; without norms and embeddings |
| one graph | the whole forward is one fx graph; else its parts between eager code are |
| witness | in a watched pass every planned rule ran, and no ruled weight without its rule |
| forward | outputs bitwise those of the original model |
| gradients | at every site those of the oracle, and the error sent below is not backprop's |

`–` means that it was not computed: more than 60 million parameters or 3 billion multiplications in
one pass. Such models have the witness only, which looks at which operations run and not at numbers.
Weights that one pass in training mode does not reach (dropped layers, idle experts) have a rule,
but nothing was seen to run it.
"""


def _row(o: Outcome) -> tuple[str, ...]:
    remarks = [o.problem] if o.problem else []
    remarks += [f"NOT ACCOUNTED FOR: {', '.join(o.missing[:3])}"] if o.missing else []
    remarks += [f"{n} out of reach: {reason}" for reason, n in o.unreachable.items()]
    remarks += [f"{o.idle} not reached by this pass"] if o.idle else []
    return (
        o.name,
        f"{o.parameters / 1e6:.2f} M",
        str(o.applied),
        str(o.sites),
        str(o.ruled),
        _mark(o.whole),
        _mark(o.witnessed),
        _mark(o.forward),
        _mark(o.gradients),
        f"{o.seconds:.1f}",
        "; ".join(remarks),
    )


def _mark(value: bool | None) -> str:
    return "–" if value is None else ("yes" if value else "no")


def _totals(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    suites = list(dict.fromkeys(o.suite for o in outcomes))
    rows = [_total(suite, [o for o in outcomes if o.suite == suite]) for suite in suites]
    return [*rows, _total("all", outcomes)] if len(suites) > 1 else rows


def _total(name: str, members: Sequence[Outcome]) -> tuple[str, ...]:
    def share(value: Callable[[Outcome], bool | None]) -> str:
        known = [value(o) for o in members if value(o) is not None]
        return f"{sum(map(bool, known))} of {len(known)}"

    applied = sum(o.applied for o in members)
    return (
        name,
        str(len(members)),
        str(applied),
        str(applied - sum(len(o.missing) for o in members)),
        str(sum(o.sites for o in members)),
        str(sum(o.ruled for o in members)),
        share(lambda o: o.whole),
        share(lambda o: o.witnessed),
        share(lambda o: o.forward),
        share(lambda o: o.gradients),
        f"{sum(o.seconds for o in members):.0f}",
    )


def _reasons(outcomes: Iterable[Outcome]) -> list[str]:
    counts: Counter[str] = Counter()
    for outcome in outcomes:
        counts.update(outcome.unreachable)
    return [f"* {number} weights: {reason}" for reason, number in counts.most_common()] or ["None."]


def _problems(outcomes: Iterable[Outcome]) -> list[str]:
    found = [f"* `{o.suite}/{o.name}`: {_row(o)[-1]}" for o in outcomes if o.problem or o.missing]
    return found or ["None."]


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )

"""Results of an audit: a table, a claim, and data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fxbio.analysis.tables import TableResult
from fxbio.analysis.traced_error_flow import Source

__all__ = ["FAIL_LEVELS", "Audit", "AuditRow", "FailLevel", "Transport"]

Transport = Literal["full", "refreshed", "sign", "magnitude", "copy", "none"]
"""What an error meets of the forward weight where it crosses a site: its entries; a copy of them
that training goes on refreshing; their signs; their magnitudes, or the scale of a normalisation,
which is no matrix; a copy from when the model was transformed; nothing."""

FailLevel = Literal["full", "sign", "magnitude"]

FAIL_LEVELS: dict[FailLevel, frozenset[Transport]] = {
    "full": frozenset({"full", "refreshed"}),
    "sign": frozenset({"full", "refreshed", "sign"}),
    "magnitude": frozenset({"full", "refreshed", "sign", "magnitude"}),
}
"""What is too much at each level of strictness."""


@dataclass(frozen=True)
class AuditRow:
    """One site, or a parameter that is carried outside of all sites."""

    site: str
    op: str
    type: str
    """Class of the module; of a parameter outside of all sites, the autograd nodes that read it."""
    rule: str
    transport: Transport
    input_only: bool = False
    """Whether the transported weight only sends an error to the input of the model, which a
    training step leaves out."""
    carriers: tuple[str, ...] = ()
    """Buffers and parameters, forward weights aside, that errors are multiplied with here."""
    sources: tuple[Source, ...] = ()
    """Where the error of the site comes from; empty for norms, and where none arrives."""
    decided_by: str = ""
    """The line of the policy."""
    ran: bool = True
    """Whether the step executed it."""

    @property
    def local(self) -> bool:
        """True if its error comes from its neighbours downstream alone."""
        return all(source.neighbour for source in self.sources)


@dataclass(frozen=True)
class Audit(TableResult):
    """Reads of the forward weights in the backward pass of one training step."""

    model: str
    policy: str | None
    """File of the policy; ``None`` for a model that is not transformed."""
    rows: tuple[AuditRow, ...]
    """One for each site."""
    others: tuple[AuditRow, ...]
    """Transported parameters that belong to no site."""
    unused: tuple[str, ...]
    """Operations of the backward pass whose result nothing learns from."""
    carriers: tuple[str, ...]
    """Buffers and parameters, forward weights aside, that carry errors."""

    def transported(self, transport: Transport) -> tuple[AuditRow, ...]:
        """The rows of one kind, parameters outside of sites included."""
        return tuple(row for row in (*self.rows, *self.others) if row.transport == transport)

    def failing(self, level: FailLevel) -> tuple[AuditRow, ...]:
        """The rows that transport too much in training: what only meets the input does not."""
        rows = (*self.rows, *self.others)
        return tuple(r for r in rows if r.transport in FAIL_LEVELS[level] and not r.input_only)

    @property
    def claim(self) -> str:
        """Summary of the weight transport of a training step, and of errors that skip layers."""
        return "; ".join([_transport_claim(self), *_flow_claim(self)])

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        counts = Counter(row.transport for row in (*self.rows, *self.others))
        return {"claim": self.claim, "counts": dict(counts), **asdict(self)}

    def records(self) -> list[dict[str, Any]]:
        """One flat row for each site and other parameter; calls that are alike are one."""
        rows = folded_calls([*self.rows, *self.others])
        return [dict(zip(_COLUMNS, _cells(row), strict=True)) for row in rows]

    def caption(self) -> str:
        """The claim."""
        return f"{self.model}: {self.claim}"

    def render(self) -> RenderableType:
        """A table for a terminal; where there are many sites, those alike in one row."""
        rows = folded_calls([*self.rows, *self.others])
        cells = [_cells(row) for row in rows] if len(rows) <= _MANY else list(_together(rows))
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in _COLUMNS:
            table.add_column(name, overflow="fold")
        for line in cells:
            table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in line))
        title = f"{self.model} · {self.policy or 'not transformed'}"
        return Group(Text(title, style="bold"), table, *self._summary())

    def _summary(self) -> Iterator[Text]:
        if any(row.input_only for row in self.rows):
            yield Text("* only towards the input of the model, which a training step leaves out")
        for transport, meaning in _COPIES.items():
            if any(row.transport == transport for row in self.rows):
                yield Text(f"{transport}: {meaning}")
        apart = sorted(set(self.carriers) - {name for row in self.rows for name in row.carriers})
        if apart:
            more = f" and {len(apart) - _NAMED} more" if len(apart) > _NAMED else ""
            yield Text(f"errors are also carried by {', '.join(apart[:_NAMED])}{more}")
        if self.unused:
            yield Text(f"computed, but nothing learns from it: {', '.join(self.unused)}", "yellow")
        yield Text(self.claim, style="bold")


_COLUMNS = ("site", "op", "rule", "transport", "carried by", "error from", "decided by")
_MANY = 30
"""More sites than this are shown together where they are alike."""
_NAMED = 3
"""A claim names so many sites, and counts more."""
_COPIES: dict[Transport, str] = {
    "refreshed": "the error meets a copy that training keeps near the weight: transport, but late",
    "copy": "the error meets a buffer with values from before training, which is no transport",
}
_STYLES = {
    "full": "red",
    "refreshed": "red",
    "sign": "yellow",
    "magnitude": "yellow",
    "none": "green",
}


def folded_calls(rows: Iterable[AuditRow]) -> list[AuditRow]:
    """The rows, those of one weight joined that are alike: ``w_rec ×6`` of calls in time."""
    groups: dict[AuditRow, list[AuditRow]] = {}
    for row in rows:
        key = replace(row, site=_weight_of(row.site), sources=(), carriers=())
        groups.setdefault(key, []).append(row)
    return [_joined(calls) if len(calls) > 1 else calls[0] for calls in groups.values()]


def _joined(calls: list[AuditRow]) -> AuditRow:
    """One row for calls of one weight, with all that carries their errors and sends them some."""
    senders = (replace(s, name=_weight_of(s.name)) for call in calls for s in call.sources)
    carriers = (name for call in calls for name in call.carriers)
    return replace(
        calls[0],
        site=f"{calls[0].site} ×{len(calls)}",
        sources=tuple(dict.fromkeys(senders)),
        carriers=tuple(dict.fromkeys(carriers)),
    )


def _weight_of(site: str) -> str:
    """Name of a site without the number of its call."""
    return site.partition("#")[0].partition(" ×")[0]


def _cells(row: AuditRow) -> tuple[str, ...]:
    transport = row.transport + ("*" if row.input_only else "") if row.ran else "not run"
    senders = (s.name if s.neighbour else f"{s.name} (not a neighbour)" for s in row.sources)
    carried = (
        *_own_carrier(row),
        *(name.removeprefix(f"{_weight_of(row.site)}.") for name in row.carriers),
    )
    return (
        row.site,
        row.op,
        row.rule,
        transport,
        ", ".join(carried),
        ", ".join(senders),
        row.decided_by,
    )


def _own_carrier(row: AuditRow) -> tuple[str, ...]:
    if row.op in ("norm", "scale") and row.transport == "magnitude":
        return ("W",)
    return _CARRIERS.get(row.transport, ())


_CARRIERS = {"full": ("W",), "sign": ("sign W",), "magnitude": ("|W|",)}


def _together(rows: list[AuditRow]) -> Iterator[tuple[str, ...]]:
    """One line for all sites that have all but their names in common."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        _, op, rule, transport, *_, decided = _cells(row)
        flow = "neighbours" if row.local else "beyond neighbours"
        key: tuple[str, ...] = (op, rule, transport, "", flow if row.sources else "", decided)
        groups.setdefault(key, []).append(row.site)
    for key, sites in groups.items():
        many = len(sites) > 1
        yield (f"{sites[0]} and {len(sites) - 1} more" if many else sites[0], *key)


def _transport_claim(audit: Audit) -> str:
    full, refreshed, signs, magnitudes, copies = (
        [row for row in audit.transported(kind) if not row.input_only]
        for kind in ("full", "refreshed", "sign", "magnitude", "copy")
    )
    layers = [
        row
        for row in audit.rows
        if row.op not in ("norm", "embedding") and row.ran and not row.input_only
    ]
    if full and set(layers) <= set(full):
        everything = [*_counted(full), *_scales(magnitudes)]
        return f"all forward weights are transported: {_listed(everything)}"
    text = "no forward weight is transported"
    if exceptions := [*_scales(magnitudes), *_named(full)]:
        text += f", except {_listed(exceptions)}"
    if refreshed:
        text += f"; refreshed copies of {_listed(_counted(refreshed))} are"
    if signs:
        text += f"; the signs of {_listed(_counted(signs))} are"
    if copies:
        text += f"; the error meets old copies of {_listed(_counted(copies))}"
    return text


def _flow_claim(audit: Audit) -> Iterator[str]:
    skipping = [row for row in audit.rows if not row.local]
    if skipping:
        far = (s.name for row in skipping for s in row.sources if not s.neighbour)
        senders = sorted({_weight_of(name) for name in far})
        weights = {_weight_of(row.site) for row in skipping}
        verb = "gets its error" if len(weights) == 1 else "get their errors"
        sites = _listed(_counted(skipping))
        yield f"{sites} {verb} from beyond the neighbours: from {_listed(senders)}"


def _scales(rows: list[AuditRow]) -> list[str]:
    """``20 batch-norm scales``, by the kind of normalisation."""
    kinds = Counter(_NORMS.get(row.type.rstrip("123d"), "norm") for row in rows if row.op == "norm")
    found = [f"{count} {kind} {_plural('scale', count)}" for kind, count in kinds.items()]
    found += _few([row.site for row in rows if row.op == "scale"], "other scales")
    others = [row.site for row in rows if row.op not in ("norm", "scale")]
    return found + [f"the magnitudes of {what}" for what in _few(others, "weights")]


def _few(names: list[str], noun: str) -> list[str]:
    return names if len(names) <= _NAMED else [f"{len(names)} {noun}"]


_NORMS = {
    "BatchNorm": "batch-norm",
    "LayerNorm": "layer-norm",
    "GroupNorm": "group-norm",
    "RMSNorm": "RMS-norm",
    "InstanceNorm": "instance-norm",
}


def _named(rows: list[AuditRow]) -> list[str]:
    names = list(dict.fromkeys(_weight_of(row.site) for row in rows))
    return names if len(names) <= _NAMED else _counted(rows)


def _counted(rows: list[AuditRow]) -> list[str]:
    """``20 convolutions``, by the kind of operation; calls of one weight count once."""
    kinds = Counter({_weight_of(row.site): _noun(row.op) for row in rows}.values())
    return [f"{count} {_plural(noun, count)}" for noun, count in kinds.items()]


def _noun(op: str) -> str:
    if op.startswith("conv"):
        return "convolution"
    return {
        "linear": "linear layer",
        "norm": "norm",
        "matmul": "matrix",
        "embedding": "embedding",
    }.get(op, "parameter")


def _plural(noun: str, count: int) -> str:
    if count == 1:
        return noun
    return "matrices" if noun == "matrix" else f"{noun}s"


def _listed(words: list[str]) -> str:
    return " and ".join([*([", ".join(words[:-1])] if words[1:] else []), *words[-1:]])

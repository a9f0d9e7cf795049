"""Boxes as nodes of a picture: titles, passages and details."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from fxbio.policy.assignment import Assignment
from fxbio.policy.plan import Plan
from fxbio.viz.boxes import Box
from fxbio.viz.crossings import Crossing, transport_of
from fxbio.viz.picture import Detail, Node, Passage
from fxbio.viz.repeats import joint_name

__all__ = ["NodeMaker"]


class NodeMaker:
    """Makes the nodes of one picture."""

    def __init__(
        self,
        plan: Plan,
        crossings: Mapping[str, Crossing],
        labels: Mapping[str, str],
        type_of: Callable[[str], str],
    ) -> None:
        """Take what all nodes are made from.

        Args:
            plan: says the rule of each site, and why.
            crossings: of errors, by the name of the site.
            labels: of rules, by ``str(rule)``.
            type_of: class name of the module at a path.
        """
        self._crossings = crossings
        self._labels = labels
        self._type_of = type_of
        self._rules = {a.site.name: a.make_rule() for a in plan.assignments}

    def box(self, id: str, box: Box) -> Node:
        """The node of a box, or of a run of boxes that are alike."""
        return Node(
            id=id,
            kind="box",
            title=joint_name(box.members),
            subtitle=self._subtitle(box),
            repeat=len(box.members),
            passages=tuple(self._passages(box)),
            details=tuple(self._detail(a) for a in box.assignments),
        )

    def _label(self, a: Assignment) -> str:
        return self._labels[str(self._rules[a.site.name])]

    def _subtitle(self, box: Box) -> str:
        weights = {a.site.sources: a.site.parameters for a in box.ruled}
        parameters = _short_number(sum(weights.values()) // len(box.members))
        site = box.ruled[0].site
        if box.module is None:
            calls = f" · {site.calls} calls" if site.calls > 1 else ""
            known = "" if self._crossings[site.name].followed else " · not followed"
            called = calls if site.calls else " · not called"
            return f"{site.op} {_shape(site.shape)} · {parameters}{called}{known}"
        count = len({a.site.weight for a in box.ruled}) // len(box.members)
        return f"{self._type_of(box.module)} · {count} weights · {parameters}"

    def _passages(self, box: Box) -> Iterable[Passage]:
        groups: dict[tuple[str, str], list[Assignment]] = {}
        for a in box.ruled:
            carrier = self._crossings[a.site.name].carrier
            groups.setdefault((self._label(a), carrier), []).append(a)
        for (label, carrier), inside in groups.items():
            crossings = [self._crossings[a.site.name] for a in inside]
            yield Passage(
                rule=label,
                carrier=carrier,
                transports=transport_of(self._rules[inside[0].site.name], carrier),
                sites=tuple(a.site.name for a in inside),
                used=any(crossing.used for crossing in crossings),
                reached=any(crossing.reached for crossing in crossings),
            )

    def _detail(self, a: Assignment) -> Detail:
        site = a.site
        rule = str(self._rules[site.name])
        return Detail(
            site=site.name,
            op=f"{site.op}, {site.groups} groups" if site.groups > 1 else site.op,
            weight=_shape(site.shape),
            input=_shape(site.input_shape),
            output=_shape(site.output_shape),
            parameters=site.parameters,
            rule=f"{rule} ({a.fallback})" if a.fallback else rule,
            decided_by=str(a.decided_by),
        )


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def _short_number(number: int) -> str:
    """``11.7M``, ``9.4k``, ``512``."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)

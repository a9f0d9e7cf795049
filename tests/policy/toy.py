"""A hand-made model graph, so that policies are tested without PyTorch models."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from textwrap import dedent

from fxbio.policy import Plan, Policy, resolve
from fxbio.site import OpKind, Origin, Site, Unreachable


def make_site(
    path: str,
    op: OpKind = "conv2d",
    shape: tuple[int, ...] = (8, 4, 3, 3),
    *,
    depth: int = 0,
    type: str = "Conv2d",
    weight: str | None = None,
    attention: bool = False,
    unreachable: str | None = None,
    groups: int = 1,
) -> Site:
    weight = weight or f"{path}.weight".removeprefix(".")
    return Site(
        name=path,
        path=path,
        weight=weight,
        sources=(weight,),
        op=op,
        shape=shape,
        input_shape=(1, 4, 8, 8),
        output_shape=(1, 8, 8, 8),
        groups=groups,
        parameters=math.prod(shape),
        call_index=0,
        calls=1,
        order=0,
        depth=depth,
        type=type,
        owner=path,
        attention=attention,
        origin=None,
        unreachable=unreachable,
    )


@dataclass(frozen=True)
class FakeGraph:
    """Sites in a chain: ``between`` is everything from the first source to the last target."""

    sites: tuple[Site, ...]
    unreachable: tuple[Unreachable, ...] = ()
    name: str = "toy"
    digest: str = "d1"

    def between(self, sources: set[str], targets: set[str]) -> set[str]:
        names = [site.name for site in self.sites]
        if not sources or not targets:
            return set()
        first = min(map(names.index, sources))
        last = max(map(names.index, targets))
        return set(names[first : last + 1])


def make_graph(sites: Iterable[Site], unreachable: tuple[Unreachable, ...] = ()) -> FakeGraph:
    """Number the sites and their uses of a weight as capture does."""
    sites = list(sites)
    calls: dict[str, int] = {}
    numbered = []
    for order, site in enumerate(sites):
        use = calls.get(site.weight, 0)
        calls[site.weight] = use + 1
        uses = sum(other.weight == site.weight for other in sites)
        name = f"{site.path}#{use}" if use else site.path
        numbered.append(replace(site, name=name, call_index=use, calls=uses, order=order))
    return FakeGraph(tuple(numbered), unreachable)


LSTM = Unreachable(
    "encoder.lstm", "nn.LSTM runs a fused kernel", ("encoder.lstm.weight_ih_l0",),
    Origin("net.py", 12),
)  # fmt: skip


def policy(text: str) -> Policy:
    return Policy.from_yaml(dedent(text))


def plan(text: str, graph: FakeGraph) -> Plan:
    return resolve(policy(text), graph)


def rules(plan: Plan) -> dict[str, str]:
    return {a.site.name: a.rule for a in plan.assignments}

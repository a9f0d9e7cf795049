"""Partition of the dataflow into groups that belong together as one block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import fx

from fxbio.graph.dataflow import Flow, Segment
from fxbio.graph.model_graph import ModelGraph
from fxbio.site import Site

__all__ = ["SegmentGroup", "group_segments", "is_in", "within"]


@dataclass
class SegmentGroup:
    """Consecutive segments that become one block."""

    segments: list[Segment]
    sites: list[Site]
    """Those that multiply by a matrix."""
    module: str | None = None
    """The named module that it is."""
    norms: list[Site] = field(default_factory=list)
    """Scales and tables in it."""

    @property
    def nodes(self) -> list[fx.Node]:
        """In order of execution."""
        return [node for segment in self.segments for node in segment.nodes]

    @property
    def output(self) -> fx.Node | None:
        """The tensor at its end, if it is one."""
        return self.segments[-1].output if self.segments else None


def within(path: str, module: str) -> bool:
    """True if a path is that of a module or of a part of it."""
    return path == module or path.startswith(f"{module}.")


def group_segments(flow: Flow, graph: ModelGraph, whole: Sequence[str]) -> list[SegmentGroup]:
    """Join segments: a new group begins with each segment that applies a weight.

    What a module does to its input before it applies its weight belongs to its own group; what
    comes before the first weight of all belongs to the first.

    Args:
        flow: of the model.
        graph: its capture.
        whole: paths of modules that must not be divided.
    """
    names = {node: site for site, node in graph.nodes.items()}
    batch = _batch_size(graph)
    groups = [SegmentGroup([], [])]
    for segment in flow.segments:
        sites = [graph.site(names[node]) for node in segment.nodes if node in names]
        weighted = [site for site in sites if site.multiplies]
        module = _module_of(weighted, whole)
        last = groups[-1]
        if weighted and last.sites and (module is None or module != last.module):
            leading = _leading(last, module or weighted[0].owner)
            if _is_cut(last.output, batch):
                last = SegmentGroup(leading, [])
                groups.append(last)
            else:
                last.segments += leading
        last.segments.append(segment)
        last.sites += weighted
        last.module = last.module or module
    for segments in groups:
        found = [graph.site(names[node]) for node in segments.nodes if node in names]
        segments.norms = [site for site in found if not site.multiplies]
    return [segments for segments in groups if segments.sites]


def _leading(last: SegmentGroup, home: str) -> list[Segment]:
    """Take from the end of a group what the module of the next weight does before it."""
    leading: list[Segment] = []
    if not home or any(within(site.path, home) for site in last.sites):
        return leading
    while last.segments and all(is_in(node, home) for node in last.segments[-1].nodes):
        leading.insert(0, last.segments.pop())
    return leading


def is_in(node: fx.Node, module: str) -> bool:
    """True if a node is the call of a module or of a part of it, or lies in one."""
    own = str(node.target) if node.op == "call_module" else node.meta["path"]
    return within(own, module)


def _batch_size(graph: ModelGraph) -> int | None:
    shapes = [n.meta.get("shape") for n in graph.graph.nodes if n.op == "placeholder"]
    return next((shape[0] for shape in shapes if shape), None)


def _is_cut(node: fx.Node | None, batch: int | None) -> bool:
    """True if a node is one tensor with the batch in front."""
    shape: Sequence[int] = () if node is None else node.meta.get("shape", ())
    return bool(shape) and shape[0] == batch


def _module_of(sites: Sequence[Site], whole: Sequence[str]) -> str | None:
    """The named module that holds all of the sites, if there are any."""
    for module in whole if sites else ():
        if all(within(site.path, module) for site in sites):
            return module
    return None

"""Blocks: a model as a chain of parts with one tensor between each and the next.

A block is a site with all that follows it up to the next one: normalisation, activation, pooling,
reshapes, dropout. Where a tensor goes several ways that meet again (a residual connection,
attention), everything in between is one block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from torch import fx, nn

from fxbio.errors import PolicyError
from fxbio.globs import glob_matches, suggest_paths
from fxbio.graph.dataflow import Flow, activation_flow
from fxbio.graph.model_graph import ModelGraph
from fxbio.graph.partition import SegmentGroup, group_segments, is_in, within
from fxbio.target_propagation.operations import Activation, Operation, range_of, read_operation

__all__ = ["Block", "partition"]


@dataclass(frozen=True)
class Block:
    """A part of a model with one tensor going in and one coming out."""

    name: str
    """Path of the module that has exactly its sites, else the name of its first site."""
    module: str | None
    """Path of the module that it is, where a glob named it."""
    sites: tuple[str, ...]
    """Names of its sites in order of execution, without those of norms."""
    norms: tuple[str, ...]
    """Names of the sites that are scales of normalisation layers."""
    input: str | None
    """Node of the graph whose tensor goes in; ``None`` for the first block."""
    output: str
    """Node of the graph whose tensor comes out."""
    input_shape: tuple[int, ...]
    """With the batch in front; empty for the first block."""
    output_shape: tuple[int, ...]
    operations: tuple[Operation, ...]
    """From its input to its output, on the way with the most sites."""
    entry: Activation | None
    """The activation that made its input, if the block before ends with one."""
    predecessor: str | None
    """Name of the block before; the blocks are a chain."""


def partition(model: nn.Module, graph: ModelGraph, blocks: Sequence[str] = ()) -> tuple[Block, ...]:
    """Cut a model into blocks, in order of execution.

    Args:
        model: the module that was captured.
        graph: its capture.
        blocks: globs of module paths; each module that matches becomes one block.

    Raises:
        PolicyError: when a glob matches no module, when a module that it names has more than one
            tensor going in or coming out, or when the model has no single output.
    """
    flow = activation_flow(model, graph)
    whole = _named_modules(model, graph, blocks)
    made: list[Block] = []
    for segments in group_segments(flow, graph, whole):
        made.append(_block(model, graph, segments, made[-1] if made else None))
    _check_named(graph, flow, made, whole)
    return tuple(made)


def _named_modules(model: nn.Module, graph: ModelGraph, globs: Sequence[str]) -> list[str]:
    """The outermost modules that the globs match."""
    paths = [path for path, _ in model.named_modules() if path]
    for glob in globs:
        if not any(glob_matches(glob, path) for path in paths):
            raise PolicyError(
                f"blocks: '{glob}' matches no module of {graph.name}",
                notes=suggest_paths(glob, [site.path for site in graph.sites]),
                help="list the modules with: fxbio inspect MODEL",
            )
    named = [path for path in paths if any(glob_matches(glob, path) for glob in globs)]
    return [p for p in named if not any(within(p, other) for other in named if other != p)]


def _block(
    model: nn.Module, graph: ModelGraph, segments: SegmentGroup, before: Block | None
) -> Block:
    weighted = tuple(site.name for site in segments.sites)
    name = segments.module or _common_module(graph, segments) or weighted[0]
    if segments.output is None or "shape" not in segments.output.meta:
        raise PolicyError(
            f"block '{name}' of {graph.name} does not end in one tensor",
            notes=[
                f"its sites: {', '.join(weighted)}",
                f"it returns: {', '.join(n.name for n in segments.nodes if _is_returned(n))}",
            ],
            help="target propagation needs a chain of blocks; give these sites rule: bp",
        )
    operations = _operations(model, graph, segments, None if before is None else before.output)
    return Block(
        name=name,
        module=segments.module,
        sites=weighted,
        norms=tuple(site.name for site in segments.norms),
        input=None if before is None else before.output,
        output=segments.output.name,
        input_shape=() if before is None else before.output_shape,
        output_shape=tuple(segments.output.meta["shape"]),
        operations=operations,
        entry=None if before is None else range_of(before.operations),
        predecessor=None if before is None else before.name,
    )


def _common_module(graph: ModelGraph, segments: SegmentGroup) -> str | None:
    """The smallest module around all sites of a block, if it has no others."""
    paths = [site.path.split(".") for site in segments.sites]
    same = takewhile(lambda names: len(set(names)) == 1, zip(*paths, strict=False))
    common = ".".join(names[0] for names in same)
    inside = [s for s in graph.sites if s.multiplies and within(s.path, common)]
    return common if common and len(inside) == len(paths) > 1 else None


def _is_returned(node: fx.Node) -> bool:
    return any(user.op == "output" for user in node.users)


def _operations(
    model: nn.Module, graph: ModelGraph, segments: SegmentGroup, start: str | None
) -> tuple[Operation, ...]:
    sites = {graph.nodes[site.name]: site for site in segments.sites}
    way = _longest_way(segments, set(sites))
    first = way[0]
    before = [n for n in first.all_input_nodes if n.name == start]
    sources = [before[0] if before else None, *way]
    return tuple(
        read_operation(model, node, source, sites.get(node))
        for node, source in zip(way, sources, strict=False)
    )


def _longest_way(segments: SegmentGroup, weighted: set[fx.Node]) -> list[fx.Node]:
    """The way to the output of a block on which the most weights are applied."""
    score: dict[fx.Node, tuple[int, int]] = {}
    previous: dict[fx.Node, fx.Node | None] = {}
    for node in segments.nodes:
        sources = [source for source in node.all_input_nodes if source in score]
        best = max(sources, key=lambda source: score[source], default=None)
        sites, steps = (0, 0) if best is None else score[best]
        score[node] = (sites + (node in weighted), steps + 1)
        previous[node] = best
    way: list[fx.Node] = []
    current = segments.output
    while current is not None:
        way.append(current)
        current = previous[current]
    return way[::-1]


def _check_named(graph: ModelGraph, flow: Flow, made: list[Block], whole: list[str]) -> None:
    """Every named module must have come out as one block, no smaller and no larger."""
    for module in whole:
        inside = {s.name for s in graph.sites if within(s.path, module)}
        inside = {name for name in inside if name in graph.nodes and graph.site(name).multiplies}
        for block in made:
            if inside & set(block.sites) and inside != set(block.sites):
                raise _not_a_block(graph, flow, module, inside, block)


def _not_a_block(
    graph: ModelGraph, flow: Flow, module: str, inside: set[str], block: Block
) -> PolicyError:
    members = {n for n in flow.nodes if is_in(n, module)}
    inputs = {s.name for n in members for s in n.all_input_nodes if s in flow.nodes} - {
        n.name for n in members
    }
    outputs = [n.name for n in flow.nodes if n in members and not members.issuperset(n.users)]
    return PolicyError(
        f"module '{module}' of {graph.name} cannot be a block: a block has one tensor going in and "
        "one coming out",
        notes=[
            f"its sites: {', '.join(sorted(inside))}",
            f"going in: {', '.join(sorted(inputs)) or 'nothing'}; "
            f"coming out: {', '.join(outputs) or 'nothing'}",
            f"the smallest block around it has the sites {', '.join(block.sites)}",
        ],
        help="name a larger module under blocks:, or leave this one out",
    )

"""Blocks that learn from targets, in the lowered graph: where they begin, end, and are cut."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn
from torch.fx.node import map_arg

from fxbio.errors import PolicyError
from fxbio.graph.extract import extracted
from fxbio.lowering.lowered_graph import LoweredGraph, qualified
from fxbio.ops.functional import stop
from fxbio.policy.plan import Plan
from fxbio.rules.target_propagation import TargetRule
from fxbio.target_propagation.block_target import BlockTarget
from fxbio.target_propagation.blocks import Block, partition
from fxbio.target_propagation.connect import block_rules, make_targets
from fxbio.target_propagation.connect_block import connect_block

__all__ = ["TARGET", "TargetReport", "lower_targets"]

TARGET = "fxbio_target"
"""Attribute of a layer that holds the inverse of the block that begins with it."""


@dataclass
class TargetReport:
    """Record of the placed targets."""

    blocks: int
    inverses: int
    parameters: int
    """Of all inverses."""


def lower_targets(model: nn.Module, lowered: LoweredGraph, plan: Plan) -> TargetReport:
    """Write differences of targets between the blocks of a plan into the graph.

    Raises:
        PolicyError: when the layers of a block have different rules, when the model is no chain of
            blocks where a plan wants targets, or when a block has no module that it begins with.
        RuleError: when a block has no inverse.
    """
    rules = {a.site.name: a.make_rule() for a in plan.assignments}
    decided = {a.site.name: str(a.decided_by) for a in plan.assignments}
    globs = {g: None for r in rules.values() if isinstance(r, TargetRule) for g in r.blocks}
    blocks = partition(model, lowered.captured, tuple(globs))
    targets = make_targets(blocks, block_rules(blocks, rules), plan.seed)
    chain = [b for b in blocks if b.name in targets or b.predecessor in targets]
    begins = {b.name: _begin(model, lowered, plan, b) for b in chain}
    for block in chain:
        if block.name in targets:
            targets[block.name].sites = block.sites
            targets[block.name].decided_by = decided[block.sites[0]]
    _Writer(lowered, begins, targets).write(chain)
    inverses = [t.inverse for t in targets.values() if t.inverse is not None]
    parameters = sum(p.numel() for inverse in inverses for p in inverse.parameters())
    return TargetReport(len(targets), len(inverses), parameters)


def _begin(model: nn.Module, lowered: LoweredGraph, plan: Plan, block: Block) -> str:
    """Path of the module that a block begins with, and that holds all of its weights.

    Raises:
        PolicyError: when there is no such module.
    """
    modules = dict(model.named_modules())
    sites = [lowered.captured.site(name) for name in block.sites]
    if block.module or (len(sites) > 1 and block.name in modules):
        return block.module or block.name
    owner = sites[0].owner
    inside = {a.site.weight for a in plan.assignments if a.site.owner == owner}
    if len(sites) == 1 and owner and len(inside) == 1:
        return owner
    raise PolicyError(
        f"block '{block.name}' has no module of its own, so targets cannot enter it",
        notes=[f"its sites: {', '.join(block.sites)}"],
        help="name the modules that are blocks: with: {blocks: [GLOB]}",
    )


@dataclass
class _Writer:
    """Writes the blocks of one chain, from the first one up."""

    lowered: LoweredGraph
    begins: dict[str, str]
    """Path of the module that each block begins with."""
    targets: dict[str, BlockTarget]
    connected: dict[fx.Node, fx.Node] = field(default_factory=dict)
    """What stands for the output of a block behind it."""

    def write(self, chain: list[Block]) -> None:
        """Cut and connect each block that has a target; note where the chain ends."""
        entries = [self._entry(self.begins[block.name]) for block in chain]
        for block, x, after in zip(chain, entries, [*entries[1:], None], strict=True):
            begin = self.begins[block.name]
            if block.name not in self.targets:
                self.lowered.target_ends.append(begin)
                continue
            h = self.lowered.node(block.output) if after is None else after
            self._connect(self.targets[block.name], block, x, h)

    def _entry(self, begin: str) -> fx.Node:
        """The captured node whose tensor enters a module."""
        for node in self.lowered.order:
            if node.meta.get("layer") == begin:
                return _first(node.args, node.kwargs)
        call = next(call for call in self.lowered.calls if call.path == begin)
        return _first(*call.inputs)

    def _connect(self, target: BlockTarget, block: Block, x: fx.Node, h: fx.Node) -> None:
        begin = self.begins[block.name]
        body = self._body(x, h)
        x = self._now(x)
        inner = extracted(body, h, [x])
        others = [n for n in inner.find_nodes(op="placeholder") if n.name != x.name]
        outside = {node.name: node for node in self.lowered.graph.nodes}
        if target.cuts:
            cut = self.lowered.insert_before(body[0], stop, (x,), x, requires_grad=False)
            for node in body:
                node.replace_input_with(x, cut)
        name = qualified(self.lowered.captured.site(block.sites[0]).owner, TARGET)
        self.lowered.modules[name], self.lowered.bodies[f"{name}_body"] = target, inner
        self.lowered.begins[begin] = name
        operands = (self.lowered.attribute(name), self.lowered.attribute(f"{name}_body"))
        arguments = (h, x, *operands, [outside[n.name] for n in others])
        made = self.lowered.insert_before(h.next, connect_block, arguments, h, block=block.name)
        self.lowered.replace(h, made, but_in={made, *body})
        self.connected[h] = made

    def _now(self, node: fx.Node) -> fx.Node:
        return self.connected.get(node, node)

    def _body(self, x: fx.Node, h: fx.Node) -> list[fx.Node]:
        """Nodes from the input of a block on the way to its output, in order."""
        x = self._now(x)
        below = {x}
        for node in self.lowered.graph.nodes:
            if not below.isdisjoint(node.all_input_nodes):
                below.add(node)
        needed, open_ = {h}, [h]
        while open_:
            fresh = [n for n in open_.pop().all_input_nodes if n in below and n not in needed]
            needed.update(fresh)
            open_ += [n for n in fresh if n is not x]
        return [n for n in self.lowered.graph.nodes if n in needed and n is not x]


def _first(args: Any, kwargs: Any) -> fx.Node:
    """The first tensor among arguments."""
    found: list[fx.Node] = []
    map_arg((args, kwargs), found.append)
    return next(n for n in found if n.meta.get("dtype") and n.meta["dtype"].is_floating_point)

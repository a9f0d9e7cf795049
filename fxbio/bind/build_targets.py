"""Targets put on a model: its blocks, the marks where they begin, and what each block carries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch import nn

from fxbio.bind.binding import Targets, binding_of
from fxbio.bind.classes import bind_module, mark_module
from fxbio.bind.install import leave_to_each_rank
from fxbio.bind.loading import accept_stock_checkpoints
from fxbio.errors import PolicyError
from fxbio.graph.blocks import Block, partition
from fxbio.graph.model_graph import ModelGraph
from fxbio.ops.mark import ENTER, LEAVE
from fxbio.policy.plan import Plan
from fxbio.rules.target_propagation import TargetRule
from fxbio.targets.block_target import BlockTarget
from fxbio.targets.connect import block_rules, make_targets

__all__ = ["TargetReport", "place_targets"]

_ATTRIBUTE = "fxbio_target"


@dataclass
class TargetReport:
    """What was placed."""

    blocks: int
    inverses: int
    parameters: int
    """Of all inverses."""


def place_targets(model: nn.Module, graph: ModelGraph, plan: Plan) -> TargetReport:
    """Have the blocks of a model learn from targets, in place.

    Raises:
        PolicyError: when the layers of a block have different rules, when the model is no chain of
            blocks where a plan wants targets, or when a block has no module that it begins with.
        RuleError: when a block has no inverse.
    """
    rules = {a.site.name: plan.rule_of(a) for a in plan.assignments}
    decided = {a.site.name: str(a.decided_by) for a in plan.assignments}
    globs = {g: None for r in rules.values() if isinstance(r, TargetRule) for g in r.blocks}
    blocks = partition(model, graph, tuple(globs))
    targets = make_targets(blocks, block_rules(blocks, rules), plan.seed)
    begins = {
        block.name: _begin(model, graph, plan, block)
        for block in blocks
        if block.name in targets or block.predecessor in targets
    }
    for block in (block for block in blocks if block.name in targets):
        targets[block.name].sites = block.sites
        targets[block.name].decided_by = decided[block.sites[0]]
    _wire(model, graph, [block for block in blocks if block.name in begins], begins, targets)
    inverses = [t.inverse for t in targets.values() if t.inverse is not None]
    parameters = sum(p.numel() for inverse in inverses for p in inverse.parameters())
    return TargetReport(len(targets), len(inverses), parameters)


def _wire(
    model: nn.Module,
    graph: ModelGraph,
    blocks: list[Block],
    begins: dict[str, str],
    targets: dict[str, BlockTarget],
) -> None:
    units: dict[str, str] = {}
    ends: list[str] = []
    for block in blocks:
        path = begins[block.name]
        if block.name not in targets:
            mark_module(model.get_submodule(path), path, ENTER)
            ends.append(path)
            continue
        mark_module(model.get_submodule(path), path, ENTER, LEAVE)
        host = graph.site(block.sites[0]).owner
        units[path] = _attach(model, host, targets[block.name])
    bind_module(model, replace(binding_of(model), targets=Targets(units, tuple(ends))))
    leave_to_each_rank(model, _trained_apart(model, units.values()))
    accept_stock_checkpoints(model)


def _begin(model: nn.Module, graph: ModelGraph, plan: Plan, block: Block) -> str:
    """Path of the module that a block begins with, and that holds all of its weights.

    Raises:
        PolicyError: when there is no such module.
    """
    modules = dict(model.named_modules())
    sites = [graph.site(name) for name in block.sites]
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


def _trained_apart(model: nn.Module, paths: Iterable[str]) -> list[str]:
    """Parameters that only ``train_feedback`` trains: it averages their gradients itself."""
    stepwise = [path for path in paths if _target_at(model, path).rule.iterations]
    return [
        f"{path}.{name}"
        for path in stepwise
        for name, _ in _target_at(model, path).named_parameters()
    ]


def _target_at(model: nn.Module, path: str) -> BlockTarget:
    target = model.get_submodule(path)
    assert isinstance(target, BlockTarget)
    return target


def _attach(model: nn.Module, host: str, target: BlockTarget) -> str:
    """Put what a block carries on its first layer, and say where it is.

    Not on the model: containers such as ``nn.Sequential`` run every module that is put on them.
    """
    layer = model.get_submodule(host)
    like = next(layer.parameters())
    layer.add_module(_ATTRIBUTE, target.to(like.device, like.dtype))
    binding = binding_of(layer)
    bind_module(layer, replace(binding, attached=(*binding.attached, _ATTRIBUTE)))
    return f"{host}.{_ATTRIBUTE}"

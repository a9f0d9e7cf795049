"""Emit as graph modules: for reading, for graph tools, and as a second implementation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from fxbio.errors import PassError
from fxbio.lowering.lowered_graph import LoweredGraph
from fxbio.passes.graph_pass import Pass, PassResult, Program
from fxbio.passes.registry import register_pass
from fxbio.runtime.binding import resolve_attribute
from fxbio.runtime.classes import without_scopes

__all__ = ["EmitGraphs"]


@register_pass("emit-graphs")
@dataclass(frozen=True)
class EmitGraphs(Pass):
    """Makes a ``GraphModule`` of every island; it shares the model's parameters and feedback.

    A graph module holds for the shapes and the mode of the example inputs, takes the tensors of
    the inputs in order, and returns plain containers.
    """

    def requires(self, program: Program) -> None:
        if not program.bound and (program.plan is None or program.plan.rewritten()):
            raise PassError(
                "feedback has no buffers yet", help="run bind-modules before emit-graphs"
            )

    def run(self, program: Program) -> PassResult:
        emitter = _Emitter(program.model, program.lowered)
        for path, graph in program.lowered.islands().items():
            program.emitted[path] = emitter.emit(graph)
        return PassResult(bool(program.emitted), f"{len(program.emitted)} graph modules")


@dataclass
class _Emitter:
    model: nn.Module
    lowered: LoweredGraph

    def emit(self, graph: fx.Graph) -> fx.GraphModule:
        """A graph module whose attributes are those of the model."""
        graph.eliminate_dead_code(is_impure_node=_writes)
        named = (node for node in graph.nodes if node.op in ("get_attr", "call_module"))
        objects = {str(node.target): self._object(str(node.target)) for node in named}
        module = fx.GraphModule(_nested(objects), graph)
        module.graph.lint()
        return module

    def _object(self, target: str) -> Any:
        if target in self.lowered.captured.constants:
            return self.lowered.captured.constants[target]
        if target in self.lowered.bodies:
            return self.emit(self.lowered.bodies[target])
        value = resolve_attribute(self.model, target)
        return without_scopes(value) if isinstance(value, nn.Module) else value


def _writes(node: fx.Node) -> bool:
    if node.op == "call_module":
        return True  # a normalisation layer keeps statistics, whether or not its result is used
    if isinstance(node.target, torch._ops.OpOverload):
        return node.target._schema.is_mutable
    name = str(getattr(node.target, "__name__", node.target))
    return node.is_impure() or name.endswith("_") or name == "setitem"


def _nested(objects: dict[str, Any]) -> nn.Module:
    """A module tree that holds objects at their dotted paths, shared and not copied."""
    root = nn.Module()
    for path, value in sorted(objects.items()):
        *parents, last = path.split(".")
        home = root
        for name in parents:
            if not hasattr(home, name):
                home.add_module(name, nn.Module())
            home = getattr(home, name)
        if isinstance(value, nn.Module | nn.Parameter):
            setattr(home, last, value)
        else:
            home.register_buffer(last, value, persistent=False)
    return root

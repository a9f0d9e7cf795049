"""Emit as graph modules: for reading, for graph tools, and as a second implementation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from fxbio.bind.binding import resolve_attribute
from fxbio.errors import PassError
from fxbio.graph.copy import copy_graph
from fxbio.passes.base import Pass, PassResult, Program
from fxbio.passes.registry import register_pass

__all__ = ["EmitGraphs"]


@register_pass("emit-graphs")
@dataclass(frozen=True)
class EmitGraphs(Pass):
    """Makes a ``GraphModule`` of every rewritten island; it shares the model's parameters.

    A graph module holds for the shapes and the mode of the example inputs, takes the tensors of
    the inputs in order, and returns plain containers.
    """

    def requires(self, program: Program) -> None:
        if not program.bound:
            raise PassError(
                "feedback has no buffers yet", help="run bind-modules before emit-graphs"
            )

        routed = program.planned().rewritten("broadcast", "local", "target")
        if routed:
            raise PassError(
                "a graph module cannot show errors that leave the path of the forward pass",
                notes=[
                    f"rule '{a.rule}' of '{a.site.name}', decided by {a.decided_by}"
                    for a in routed[:3]
                ],
                help="leave emit-graphs out: the transformed model itself runs these rules",
            )

    def run(self, program: Program) -> PassResult:
        islands = {island.path for island in program.graph.islands}
        for path, graph in program.rewritten.items():
            if path in islands:
                program.emitted[path] = self._emit(program, graph)
        return PassResult(bool(program.emitted), f"{len(program.emitted)} graph modules")

    def _emit(self, program: Program, graph: fx.Graph) -> fx.GraphModule:
        graph = copy_graph(graph)
        graph.eliminate_dead_code(is_impure_node=_writes)
        objects: dict[str, Any] = {}
        for node in graph.nodes:
            if node.op in ("get_attr", "call_module"):
                objects[str(node.target)] = self._object(program, str(node.target))
        module = fx.GraphModule(_nested(objects), graph)
        module.graph.lint()
        return module

    def _object(self, program: Program, target: str) -> Any:
        if target in program.graph.constants:
            return program.graph.constants[target]
        return resolve_attribute(program.model, target)


def _writes(node: fx.Node) -> bool:
    if node.op == "call_module":
        return True  # a normalisation layer keeps statistics, whether or not its result is used
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

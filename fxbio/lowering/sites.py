"""Lowering of the node of one site: its operation with a rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch.nn.functional as F
from torch import fx, nn

from fxbio.graph.meetings import weights_meeting_activations
from fxbio.lowering.feedback import FeedbackSpec
from fxbio.lowering.lowered_graph import LoweredGraph, qualified
from fxbio.ops import functional
from fxbio.ops.functional import Backward
from fxbio.policy.assignment import Assignment
from fxbio.policy.plan import Plan
from fxbio.runtime.binding import FEEDBACK_PREFIX, BoundWeight, resolve_attribute
from fxbio.semantics.functions import match_linear_call
from fxbio.semantics.weight_provenance import NodeFollower, called_function
from fxbio.site import OpKind, Site

__all__ = ["SiteLowering"]


@dataclass
class SiteLowering:
    """Rewrites the sites of a plan that have a feedback weight."""

    model: nn.Module
    plan: Plan
    feedback: dict[str, FeedbackSpec]
    lowered: LoweredGraph

    def lower(self) -> int:
        """Rewrite all planned sites in place; the number of nodes that were rewritten.

        Layers that the captured pass did not reach have no node, but a feedback all the same.
        """
        for name, assignment in self._planned.items():
            self._weight(assignment.site, self.feedback[name])
        graph = self.lowered.graph
        nodes = [node for node in graph.nodes if node.meta.get("site") in self._planned]
        for node in nodes:
            self._lower_node(graph, node, self._planned[node.meta["site"]])
        return len(nodes)

    @cached_property
    def _planned(self) -> dict[str, Assignment]:
        return {a.site.name: a for a in self.plan.rewritten("asymmetric")}

    @cached_property
    def _meeting(self) -> frozenset[str]:
        return weights_meeting_activations(self.lowered.captured)

    def _lower_node(self, graph: fx.Graph, node: fx.Node, assignment: Assignment) -> None:
        site, spec = assignment.site, self.feedback[assignment.site.name]
        node.meta["rule"] = f"{spec.rule} ← {assignment.decided_by}"
        node.meta["spec"] = spec.spec
        if node.op == "call_module" and self._does_more(node, site):
            return  # it stays a module, which binding rewrites
        with graph.inserting_before(node):
            if node.op == "call_module":
                self._lower_layer(graph, node, site, spec)
            else:
                self._lower_call(graph, node, site, spec)

    def _does_more(self, node: fx.Node, site: Site) -> bool:
        """True if a layer does more than its operation: keeps statistics, calls hooks."""
        layer = self.model.get_submodule(str(node.target))
        hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        return not site.multiplies or any(getattr(layer, name) for name in hooks)

    def _lower_layer(self, graph: fx.Graph, node: fx.Node, site: Site, spec: FeedbackSpec) -> None:
        path = str(node.target)
        layer: Any = self.model.get_submodule(path)
        x = node.args[0] if node.args else node.kwargs["input"]
        bias = graph.get_attr(f"{path}.bias") if layer.bias is not None else None
        operands = (x, graph.get_attr(f"{path}.weight"), bias)
        drawn: Any = self._feedback(graph, site, spec) if spec.stored else None
        target, args = _layer_call(graph, layer, site, operands)
        _become(node, target, args, {}, Backward(spec.spec, spec.scale, drawn))

    def _lower_call(self, graph: fx.Graph, node: fx.Node, site: Site, spec: FeedbackSpec) -> None:
        operand = next(n for n in node.all_input_nodes if n.name == node.meta["operand"])
        call = match_linear_call(
            called_function(node), node.args, node.kwargs, lambda value: value is operand
        )
        assert call is not None, f"{node} was captured as a site"
        drawn: Any = self._follow(graph, operand, site, spec) if spec.stored else None
        backward = Backward(spec.spec, spec.scale, drawn)
        _become(node, call.target, call.args, call.kwargs, backward)

    def _feedback(self, graph: fx.Graph, site: Site, spec: FeedbackSpec) -> fx.Node:
        """The feedback of a site's weight: a buffer, a parameter, or what is made of the two."""
        bound = self._weight(site, spec)
        names = [name for name in (bound.learned, bound.feedback) if name is not None]
        nodes = [graph.get_attr(qualified(site.owner, name)) for name in names]
        if bound.learned is None:
            return nodes[0]
        path = _traced_path(spec)
        made = graph.graph_copy(
            path, dict(zip(path.find_nodes(op="placeholder"), nodes, strict=True))
        )
        assert isinstance(made, fx.Node)
        return made

    def _ops(self, weight: str, owner: str) -> set[OpKind]:
        """Of the sites at which a module applies a weight under its rule."""
        sites = [a.site for a in self._planned.values()]
        return {site.op for site in sites if (site.weight, site.owner) == (weight, owner)}

    def _weight(self, site: Site, spec: FeedbackSpec) -> BoundWeight:
        """The entry of a site's weight, made at its first use."""
        known = self.lowered.weights.setdefault(site.owner, [])
        for weight in known:
            if weight.weight == site.weight and weight.shape == spec.shape:
                return weight
        name = f"{FEEDBACK_PREFIX}{len(known)}"
        drawn = name if spec.learned is None else f"{name}_drawn"
        if spec.learned is not None:
            self.lowered.state[qualified(site.owner, name)] = spec.learned
        if spec.drawn is not None:
            self.lowered.state[qualified(site.owner, drawn)] = spec.drawn
        ops = self._ops(site.weight, site.owner)
        made = BoundWeight(
            weight=site.weight,
            attribute="weight" if site.leaf else _relative(site.owner, site.weight),
            sources=_sources(site),
            constants=tuple(
                _relative(site.owner, n) for n in self.lowered.captured.buffers.get(site.name, ())
            ),
            info=spec.info,
            shape=spec.shape,
            rule=spec.rule,
            scale=spec.scale,
            feedback=None if spec.drawn is None else drawn,
            seed=self.plan.seed,
            computed=site.computed,
            looked_up="embedding" in ops,
            multiplied=ops != {"embedding"},
            decided_by=str(self._planned[site.name].decided_by),
            meets_activations=not self._meeting.isdisjoint(site.sources),
            applied=self.plan.applied.issuperset(site.sources),
            learned=None if spec.learned is None else name,
        )
        known.append(made)
        if not spec.rule.trains_weight:
            self._freeze(site)
        return made

    def _freeze(self, site: Site) -> None:
        """Note the sources of a weight that learn at present and will not."""
        owner, frozen = self.model.get_submodule(site.owner), self.lowered.frozen
        names = [n for n in _sources(site) if resolve_attribute(owner, n).requires_grad]
        known = frozen.setdefault(site.owner, [])
        known += [name for name in names if name not in known]

    def _follow(self, graph: fx.Graph, operand: fx.Node, site: Site, spec: FeedbackSpec) -> fx.Node:
        """The feedback that belongs to an operand, through what is done to its weight."""
        buffer = self._feedback(graph, site, spec)
        if site.leaf:
            return buffer  # a layer's feedback has the shape of the weight that the layer serves

        def source(node: fx.Node) -> fx.Node | None:
            return buffer if node.meta.get("shape") == site.feedback_shape else None

        def moved(node: fx.Node, twins: Mapping[fx.Node, fx.Node]) -> fx.Node:
            return graph.node_copy(node, lambda n: twins.get(n, n))

        followed = NodeFollower(source, moved).twin(operand)
        return buffer if followed is None else followed


def _sources(site: Site) -> tuple[str, ...]:
    """Attributes of the owner that a weight is computed from."""
    if site.leaf and not site.derived:
        return ("weight",)
    return tuple(_relative(site.owner, name) for name in site.sources)


def _relative(owner: str, name: str) -> str:
    return name.removeprefix(f"{owner}.") if owner else name


def _traced_path(spec: FeedbackSpec) -> fx.Graph:
    """Graph of what a rule makes of its learned and its drawn part."""
    path, info = spec.rule.path, spec.info
    if spec.drawn is None:
        return fx.symbolic_trace(lambda learned: path(learned, None, info)).graph
    return fx.symbolic_trace(lambda learned, drawn: path(learned, drawn, info)).graph


def _become(
    node: fx.Node,
    target: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    backward: Backward,
) -> None:
    node.op = "call_function"
    node.target = target
    node.args = args
    node.kwargs = {**kwargs, "backward": backward}


def _layer_call(
    graph: fx.Graph, layer: Any, site: Site, operands: tuple[Any, ...]
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Function and arguments that a stock layer stands for."""
    if site.op == "linear":
        return functional.linear, operands
    if site.op.startswith("conv_transpose"):
        extra = _output_padding(layer, site)
        geometry = (layer.stride, layer.padding, extra, layer.groups, layer.dilation)
        return functional.conv_transpose, (*operands, *geometry)
    x, weight, bias = operands
    padding = layer.padding
    if layer.padding_mode != "zeros":
        sides = tuple(layer._reversed_padding_repeated_twice)
        x = graph.call_function(F.pad, (x, sides), {"mode": layer.padding_mode})
        padding = 0
    return functional.conv, (x, weight, bias, layer.stride, padding, layer.dilation, layer.groups)


def _output_padding(layer: Any, site: Site) -> tuple[int, ...]:
    """Output padding implied by the recorded sizes; a caller may have asked for an output size."""
    spatial = len(layer.stride)
    pairs = zip(site.input_shape[-spatial:], site.output_shape[-spatial:], strict=True)
    return tuple(
        size_out - (size_in - 1) * stride + 2 * padding - dilation * (kernel - 1) - 1
        for (size_in, size_out), stride, padding, dilation, kernel in zip(
            pairs, layer.stride, layer.padding, layer.dilation, layer.kernel_size, strict=True
        )
    )

"""Uses of weights in a recording, and code that cannot be seen into."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from fxbio.graph.derivatives import Derivative, without_rules
from fxbio.graph.node_table import NodeTable
from fxbio.graph.taint import WeightTaint
from fxbio.graph.trace import RawUse, Recording
from fxbio.semantics.applied import makes_activation
from fxbio.semantics.functions import LinearCall, weight_axes, weight_operand
from fxbio.semantics.leaves import linear_leaf_kind
from fxbio.semantics.weight_provenance import followed_parameter, giving_values
from fxbio.site import Unreachable
from fxbio.source_locations import checkpointed_within, user_origin
from fxbio.tensors.nested import tensors_in
from fxbio.tensors.operands import shape_of, unsupported_operand

__all__ = ["Findings"]

_RECOMPUTED_ELSEWHERE = (
    "activation checkpointing recomputes this use outside of the module that holds the weight; "
    "checkpoint a module instead of a function"
)
_APPLIED_TO_CONSTANT = "it is applied to a constant that the forward makes: no error crosses it"
_MADE_TO_MEASURE = "the weight depends on the input before it is applied, and no rule says how"


class Findings:
    """Writes down uses of weights, and notices those that nothing accounts for."""

    def __init__(
        self,
        model: nn.Module,
        recording: Recording,
        table: NodeTable,
        taint: WeightTaint,
        applied: frozenset[str],
    ) -> None:
        self.stack: list[int] = []
        """Indices of the module calls that the pass is in, outermost first."""
        self._modules = dict(model.named_modules())
        self._parameters = dict(model.named_parameters())
        self._recording = recording
        self._table = table
        self._taint = taint
        self._applied = applied
        self._accounted = 0
        self._values_read = False
        self._products: list[RawUse] = []
        self._derivatives: list[Derivative] = []

    @property
    def path(self) -> str:
        """Path of the module that the pass is in."""
        return self._recording.calls[self.stack[-1]].path if self.stack else ""

    # Uses

    def add_use(
        self, node: fx.Node, call: LinearCall, x: Tensor, out: Any, *, leaf: str | None = None
    ) -> None:
        """Note that ``call`` applied a weight to ``x``; ``leaf`` is the stock layer that did."""
        self._recording.uses.append(self._use(node, call, x, out, leaf))
        self._accounted = len(self._taint.uses)

    def is_product(self, call: LinearCall) -> bool:
        """True if a weight is multiplied with nothing but weights and constants."""
        return not makes_activation(
            call, self._is_activation, self._taint.parameters(call.weight) <= self._applied
        )

    def _is_activation(self, tensor: Tensor) -> bool:
        # Values that were read from a tensor may come back as any constant, so after that a
        # tensor of unknown origin is data.
        unknown = self._values_read and not self._taint.is_known(tensor)
        return self._taint.is_data(tensor) or unknown

    def add_product(self, node: fx.Node, call: LinearCall, x: Tensor, out: Any) -> None:
        """Note a product of a weight with a constant: a step to another weight, or a use.

        Which of the two shows only later: power iteration computes a norm for the weight from
        such products, an embedding of fixed positions is data.
        """
        if torch.is_grad_enabled():
            self._products.append(self._use(node, call, x, out, None))
        self._accounted = len(self._taint.uses)

    def settle(self) -> None:
        """Decide about the products, when all uses are known."""
        recording = self._recording
        recording.seen = self._sources_since(0)
        behind = _behind_weights(recording.uses)
        of_layers = _behind_weights([use for use in recording.uses if use.op != "matmul"])
        used = {source for use in recording.uses for source in use.sources}
        for product in self._products:
            others = [n for n in product.node.all_input_nodes if n is not product.operand]
            from_model = any(_from_model(node) for node in others)
            from_model = from_model or product.op == "embedding"  # positions are counted anywhere
            if product.op != "matmul" and product.node not in of_layers and from_model:
                recording.applied |= product.sources
            if product.node in behind:
                continue
            if from_model:
                recording.uses.append(product)
            elif not used & product.sources:
                recording.uses.append(replace(product, unreachable=_APPLIED_TO_CONSTANT))
        recording.uses = without_rules(recording.uses, self._derivatives)
        recording.derivatives = [derivative.origin for derivative in self._derivatives]
        position = {node: index for index, node in enumerate(recording.nodes)}
        recording.uses.sort(key=lambda use: position[use.node])

    def _use(
        self, node: fx.Node, call: LinearCall, x: Tensor, out: Any, leaf: str | None
    ) -> RawUse:
        sources = self._taint.parameters(call.weight)
        if linear_leaf_kind(self._modules[self.path]) is not None:
            leaf = self.path  # a stock layer whose weight is computed by a hook or parametrization
        owner = None if leaf is not None else self._owner(sources)
        operand = None if node.op == "call_module" else self._table.arguments(call.weight)
        followed = followed_parameter(operand) if leaf is None and operand is not None else None
        return RawUse(
            node=node,
            op=call.op,
            weight=self._table.name_of(call.weight),
            operand=operand,
            sources=sources,
            constants=self._taint.buffers(call.weight),
            of_parameters=call.op != "matmul" and not self._is_activation(x),
            shape=tuple(call.weight.shape),
            feedback_shape=followed or tuple(call.weight.shape),
            input_shape=shape_of(x),
            output_shape=shape_of(out),
            groups=call.groups,
            axes=weight_axes(call, call.weight.dim()) if call.op == "matmul" else None,
            call=self.stack[-1] if self.stack else None,
            leaf=leaf,
            owner=leaf if owner is None else self._recording.calls[owner].path,
            origin=node.meta["origin"],
            unreachable=self._unsupported(call, sources, x, out)
            or (None if owner is None else self._out_of_scope(owner)),
        )

    def _unsupported(
        self, call: LinearCall, sources: frozenset[str], x: Tensor, out: Any
    ) -> str | None:
        made_of = [self._parameters[name] for name in sources]
        return unsupported_operand(call.weight, made_of, tensors_in([*call.args, x, out]))

    def _owner(self, sources: frozenset[str]) -> int:
        """The innermost module call on the stack whose module holds all the sources."""
        for index in reversed(self.stack):
            path = self._recording.calls[index].path
            if all(not path or name.startswith(f"{path}.") for name in sources):
                return index
        return self.stack[0]

    def _out_of_scope(self, owner: int) -> str | None:
        """Reason why the owner's forward does not enclose this operation when it is recomputed."""
        boundaries = len(self.stack) - self.stack.index(owner)
        inside = checkpointed_within(boundaries, "recorded_module_call")
        return _RECOMPUTED_ELSEWHERE if inside else None

    def add_derivative(self, outputs: Any, inputs: Any = None) -> None:
        """Note that the forward goes back from ``outputs`` to ``inputs``, or to all there is."""
        names = (self._table.name_of(tensor) for tensor in tensors_in(inputs))
        self._derivatives.append(
            Derivative(
                outputs=self._nodes(outputs),
                inputs=None if inputs is None else self._nodes(inputs),
                names=frozenset(name for name in names if name is not None),
                origin=user_origin(),
            )
        )

    def _nodes(self, tensors: Any) -> tuple[fx.Node, ...]:
        return tuple(self._table.arguments(tensor) for tensor in tensors_in(tensors))

    # What cannot be seen into

    def mark_eager(self, reason: str) -> None:
        """Note that the forward depends on values here."""
        self._values_read = True
        self._recording.opaque.append(Unreachable(self.path, reason, (), user_origin()))

    def check_weight_operand(self, func: Any, args: Any, kwargs: Any) -> None:
        """Note a convolution or linear map whose weight a parameter and an activation made."""
        weight = weight_operand(func, args, kwargs)
        if weight is not None and (sources := self._taint.modulated_by(weight)):
            self._add_opaque(self.path, _MADE_TO_MEASURE, sources)

    def add_if_applied(self, path: str, reason: str, sources: frozenset[str] = frozenset()) -> None:
        """Note that ``sources``, and what was applied since the last event, are out of reach."""
        if sources or len(self._taint.uses) > self._accounted:
            self._add_opaque(path, reason, sources)
        self._accounted = len(self._taint.uses)

    def collect_strays(self) -> None:
        """Weights that were applied since the last event, by no function that Python saw."""
        reason = "applied by compiled code that Python does not see"
        if len(self._taint.uses) > self._accounted:
            self._add_opaque(self.path, reason, frozenset(), explained=False)
        self._accounted = len(self._taint.uses)

    def _add_opaque(
        self, path: str, reason: str, sources: frozenset[str], *, explained: bool = True
    ) -> None:
        found = tuple(sorted(sources | self._sources_since(self._accounted)))
        part = Unreachable(path, reason, found, user_origin(), explained)
        self._recording.opaque.append(part)

    def _sources_since(self, first: int) -> frozenset[str]:
        return frozenset().union(*(use.sources for use in self._taint.uses[first:]))


def _behind_weights(uses: list[RawUse]) -> set[fx.Node]:
    """The nodes that the weights of these uses are computed from."""
    return _ancestors([use.operand for use in uses if use.operand is not None])


def _ancestors(nodes: list[fx.Node]) -> set[fx.Node]:
    """The nodes and all whose values they are computed from."""
    seen, queue = set(nodes), list(nodes)
    while queue:
        node = queue.pop()
        fresh = [n for n in giving_values(node.target, node.all_input_nodes) if n not in seen]
        seen.update(fresh)
        queue += fresh
    return seen


def _from_model(node: fx.Node) -> bool:
    """True if a node is computed from a parameter or a buffer."""
    return any(n.op == "get_attr" and n.meta.get("own") for n in _ancestors([node]))

"""The book of a recording: which node of the graph computed which tensor."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from fxbio.graph.taint import plain_tensors
from fxbio.tensors.operands import shape_of

__all__ = ["NodeTable"]

_PLAIN = (
    int,
    float,
    complex,
    bool,
    str,
    type(None),
    type(...),
    torch.dtype,
    torch.device,
    torch.layout,
    torch.memory_format,
    torch.Size,
    range,
)


class NodeTable:
    """Builds a graph from calls on real values, by remembering the node of every tensor."""

    def __init__(self, model: nn.Module) -> None:
        self.graph = fx.Graph()
        self.nodes: list[fx.Node] = []
        self.constants: dict[str, Tensor] = {}
        self._node_of: dict[int, tuple[Tensor, fx.Node]] = {}
        self._names: dict[int, str] = {}
        for named in (model.named_parameters(), model.named_buffers(), plain_tensors(model)):
            for name, tensor in named:
                self._names.setdefault(id(tensor), name)

    def name_of(self, tensor: Tensor) -> str | None:
        """Qualified name of a tensor that a module holds, ``None`` for any other."""
        return self._names.get(id(tensor))

    def add(self, kind: str, target: Any, arguments: Any, out: Any) -> fx.Node:
        """Append a call to the graph and remember the tensors that it returned."""
        args, kwargs = arguments
        node = self.graph.create_node(kind, target, tuple(args), dict(kwargs))
        self.nodes.append(node)
        self.remember(node, out)
        return node

    def remember(self, node: fx.Node, value: Any) -> None:
        """Note that ``node`` computed ``value``; parts of a tuple become ``getitem`` nodes."""
        if isinstance(value, Tensor):
            # The tensor is kept, or its id could be handed to another one.
            self._node_of[id(value)] = (value, node)
            node.meta["shape"], node.meta["dtype"] = shape_of(value), value.dtype
            node.meta["requires_grad"] = value.requires_grad
            return
        items = value.items() if isinstance(value, dict) else enumerate(value or ())
        for key, item in items if isinstance(value, dict | list | tuple) else ():
            if isinstance(item, Tensor | list | tuple | dict):
                self.add("call_function", operator.getitem, ((node, key), {}), item)

    def note_write(self, tensor: Tensor) -> None:
        """Note that a tensor was written into, which may have given it a history."""
        entry = self._node_of.get(id(tensor))
        if entry is not None:
            entry[1].meta["requires_grad"] = tensor.requires_grad

    def arguments(self, value: Any) -> Any:
        """A structure with nodes in place of its tensors, fit to be arguments of a node."""
        if isinstance(value, Tensor):
            return self._node(value)
        if isinstance(value, _PLAIN):
            return value
        if isinstance(value, slice):
            parts = (value.start, value.stop, value.step)
            return slice(*(self.arguments(part) for part in parts))
        if isinstance(value, tuple | list):
            return type_of_sequence(value)(self.arguments(item) for item in value)
        if isinstance(value, dict):
            return {str(key): self.arguments(item) for key, item in value.items()}
        if hasattr(value, "__dict__") and not callable(value):
            return self.arguments({k: v for k, v in vars(value).items() if _has_data(v)})
        return repr(value)

    def _node(self, tensor: Tensor) -> fx.Node:
        entry = self._node_of.get(id(tensor))
        if entry is not None:
            return entry[1]
        name = self.name_of(tensor)
        own = name is not None
        if name is None:
            name = f"_constant_{len(self.constants)}"
            self.constants[name] = tensor
        node = self.graph.create_node("get_attr", name)
        self.nodes.append(node)
        self.remember(node, tensor)
        node.meta["own"] = own
        node.meta["parameter"] = isinstance(tensor, nn.Parameter)
        return node


def type_of_sequence(value: tuple[Any, ...] | list[Any]) -> type[tuple[Any, ...]] | type[list[Any]]:
    """``tuple`` for named tuples too, whose constructor takes its fields one by one."""
    return list if isinstance(value, list) else tuple


def _has_data(value: Any) -> bool:
    return isinstance(value, Tensor | list | tuple | dict)

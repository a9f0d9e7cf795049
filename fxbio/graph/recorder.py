"""The fx tracer that records: the forward runs, and every function call becomes a node.

Unlike in symbolic tracing nothing is a proxy, so shape-dependent Python, lists, dicts, keyword
arguments and dataclasses just run. Leaf modules become ``call_module`` nodes under their paths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fxbio.graph.frames import checkpointed_within, user_origin
from fxbio.graph.follow import followed_parameter
from fxbio.graph.functions import COMPOSITES, LinearCall, match_linear_call
from fxbio.graph.leaves import is_leaf, linear_leaf_kind, norm_leaf, opaque_reason
from fxbio.graph.node_table import NodeTable
from fxbio.graph.recording import ModuleCall, RawUse, Recording
from fxbio.graph.site import Origin, Unreachable
from fxbio.graph.taint import WeightTaint, tensors_in

__all__ = ["Recorder"]

_VALUE_READS = {
    *("item", "tolist", "numpy", "__array__", "__bool__", "__int__", "__float__", "__index__"),
    *("nonzero", "masked_select", "unique", "nms"),
}
"""Functions after which Python holds values of a tensor, or shapes that depend on values."""


class Recorder(TorchFunctionMode):
    """Records one forward pass of a model."""

    def __init__(self, model: nn.Module, taint: WeightTaint) -> None:
        """
        Args:
            model: the module whose calls are recorded.
            taint: an active taint mode; it is asked which tensors are weights.
        """
        super().__init__()
        self._taint = taint
        self._table = NodeTable(model)
        self._recording = Recording(self._table.graph, self._table.nodes)
        self._paths = {id(module): path for path, module in model.named_modules()}
        self._modules = dict(model.named_modules())
        self._stack: list[int] = []
        self._quiet = False
        self._accounted = 0

    @contextmanager
    def active(self) -> Iterator[None]:
        """Record everything that runs inside."""
        call, function = nn.Module.__call__, torch.autograd.Function
        apply: classmethod[Any, Any, Any] = vars(function)["apply"]
        recorder = self

        def recorded_module_call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            return recorder._module(call, module, args, kwargs)

        def recorded_apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
            return recorder._autograd_function(apply.__func__, cls, args, kwargs)

        nn.Module.__call__ = recorded_module_call  # type: ignore[method-assign]
        function.apply = classmethod(recorded_apply)  # type: ignore[assignment,method-assign]
        try:
            with self:
                yield
        finally:
            nn.Module.__call__ = call  # type: ignore[method-assign]
            function.apply = apply  # type: ignore[assignment,method-assign]

    def add_inputs(self, value: Any) -> None:
        """Make placeholders of the tensors of the example inputs."""
        for index, tensor in enumerate(tensors_in(value)):
            self._table.add("placeholder", f"input_{index}", ((), {}), tensor)
            self._taint.mark_activation(tensor)

    def finish(self, output: Any) -> Recording:
        """Close the graph and hand out the recording."""
        self._collect_strays()
        self._table.graph.output(self._table.arguments(output))
        self._recording.constants = dict(self._table.constants)
        self._recording.seen = self._sources_since(0)
        return self._recording

    # Modules

    def _module(self, call: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        path = self._paths.get(id(module))
        if self._quiet or path is None:
            return call(module, *args, **kwargs)
        if is_leaf(module) or opaque_reason(module) is not None:
            self._collect_strays()
            with self._unseen():
                return self._leaf(call, module, path, args, kwargs)
        parent = self._stack[-1] if self._stack else None
        record = ModuleCall(path, type(module).__name__, parent, len(self._table.nodes))
        self._recording.calls.append(record)
        self._stack.append(len(self._recording.calls) - 1)
        try:
            out = call(module, *args, **kwargs)
        finally:
            self._stack.pop()
        record.end = len(self._table.nodes)
        record.output = self._table.arguments(out)
        return out

    def _leaf(
        self, call: Callable[..., Any], module: nn.Module, path: str, args: Any, kwargs: Any
    ) -> Any:
        arguments = self._table.arguments((args, kwargs))
        out = call(module, *args, **kwargs)
        self._taint.mark_activation(out)
        node = self._table.add("call_module", path, arguments, out)
        self._annotate(node, None)
        node.meta["type"] = type(module).__name__
        kind = linear_leaf_kind(module) or ("norm" if norm_leaf(module) is not None else None)
        if kind is not None:
            weight: Tensor = module.weight  # type: ignore[assignment]
            groups = getattr(module, "groups", 1)
            x = next(tensors_in((args, kwargs)))
            use = LinearCall(kind, weight, _run_by_module, (), {}, groups)
            self._add_use(node, use, x, out, origin=None, leaf=path)
        elif len(self._taint.uses) > self._accounted:
            reason = opaque_reason(module) or f"nn.{type(module).__name__} has no rule"
            self._add_opaque(path, reason, None)
        self._accounted = len(self._taint.uses)
        return out

    # Functions

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._quiet:
            return func(*args, **kwargs)
        if func in COMPOSITES:
            with self:
                return COMPOSITES[func](*args, **kwargs)
        self._collect_strays()
        name = _name_of(func)
        if name in _VALUE_READS:
            self._mark_eager(f"reads values of a tensor with {name.strip('_')}()")
        call = match_linear_call(func, args, kwargs, self._taint.is_weight)
        out = func(*args, **kwargs)
        node = self._add_function(func, name, args, kwargs, out)
        if call is not None and node is not None:
            x = next((t for t in tensors_in((args, kwargs)) if t is not call.weight), out)
            self._add_use(node, call, x, out, origin=node.meta["origin"], leaf=None)
            self._taint.mark_activation(out)
        elif len(self._taint.uses) > self._accounted:
            self._add_opaque(self._path, f"no rule reaches into {name}()", user_origin())
        self._accounted = len(self._taint.uses)
        return out

    def _add_function(self, func: Any, name: str, args: Any, kwargs: Any, out: Any) -> Any:
        """Append a node for a function that returned tensors or wrote into one."""
        writes = name in ("__setitem__", "copy_")
        if not writes and next(tensors_in(out), None) is None:
            return None
        arguments = self._table.arguments((args, kwargs))
        if name == "__get__":
            arguments = ((arguments[0][0], func.__self__.__name__), {})
            node = self._table.add("call_function", getattr, arguments, out)
        elif getattr(Tensor, name, None) is func:
            node = self._table.add("call_method", name, arguments, out)
        else:
            node = self._table.add("call_function", func, arguments, out)
        self._annotate(node, user_origin())
        return node

    def _autograd_function(self, apply: Any, cls: Any, args: Any, kwargs: Any) -> Any:
        """A function with a backward of its own; those of torch itself are looked through."""
        if self._quiet or cls.__module__.startswith("torch."):
            return apply(cls, *args, **kwargs)
        self._collect_strays()
        with self._unseen():
            return self._opaque_function(apply, cls, args, kwargs)

    def _opaque_function(self, apply: Any, cls: Any, args: Any, kwargs: Any) -> Any:
        arguments = self._table.arguments((args, kwargs))
        applied = [t for t in tensors_in(args) if self._taint.is_weight(t) and t.dim() > 1]
        out = apply(cls, *args, **kwargs)
        self._taint.mark_activation(out)
        node = self._table.add("call_function", _Opaque(cls.__name__), arguments, out)
        self._annotate(node, user_origin())
        if applied or len(self._taint.uses) > self._accounted:
            sources = frozenset().union(*(self._taint.parameters(t) for t in applied))
            reason = f"autograd.Function '{cls.__name__}' brings its own backward"
            self._add_opaque(self._path, reason, user_origin(), sources)
        self._accounted = len(self._taint.uses)
        return out

    # Findings

    def _add_use(
        self, node: Any, call: LinearCall, x: Tensor, out: Any, *, origin: Any, leaf: str | None
    ) -> None:
        sources = self._taint.parameters(call.weight)
        caller = self._stack[-1] if self._stack else None
        if linear_leaf_kind(self._modules[self._path]) is not None:
            leaf = self._path  # a stock layer whose weight is computed by a hook or parametrization
        owner = None if leaf is not None else self._owner(sources)
        operand = None
        if node.op != "call_module":
            operand = self._table.arguments(call.weight)
        followed = followed_parameter(operand) if leaf is None and operand is not None else None
        self._recording.uses.append(
            RawUse(
                node=node,
                op=call.op,
                weight=self._table.name_of(call.weight),
                operand=operand,
                sources=sources,
                constants=self._taint.buffers(call.weight),
                shape=tuple(call.weight.shape),
                feedback_shape=followed or tuple(call.weight.shape),
                input_shape=tuple(x.shape),
                output_shape=tuple(out.shape),
                groups=call.groups,
                call=caller,
                leaf=leaf,
                owner=leaf if owner is None else self._recording.calls[owner].path,
                origin=origin,
                unreachable=None if owner is None else self._out_of_scope(owner),
            )
        )

    def _owner(self, sources: frozenset[str]) -> int:
        """The innermost module call on the stack whose module holds all the sources."""
        for index in reversed(self._stack):
            path = self._recording.calls[index].path
            if all(not path or name.startswith(f"{path}.") for name in sources):
                return index
        return self._stack[0]

    def _out_of_scope(self, owner: int) -> str | None:
        """Why the owner's forward does not enclose this operation when it is recomputed."""
        boundaries = len(self._stack) - self._stack.index(owner)
        if not checkpointed_within(boundaries, "recorded_module_call"):
            return None
        return (
            "activation checkpointing recomputes this use outside of the module that holds the "
            "weight; checkpoint a module instead of a function"
        )

    def _mark_eager(self, reason: str) -> None:
        self._recording.opaque.append(Unreachable(self._path, reason, (), user_origin()))

    def _add_opaque(
        self,
        path: str,
        reason: str,
        origin: Origin | None,
        sources: frozenset[str] = frozenset(),
    ) -> None:
        found = sources | self._sources_since(self._accounted)
        self._recording.opaque.append(Unreachable(path, reason, tuple(sorted(found)), origin))

    def _collect_strays(self) -> None:
        """Weights that were applied since the last event, by no function that Python saw."""
        if len(self._taint.uses) > self._accounted:
            reason = "applied by compiled code that Python does not see"
            self._add_opaque(self._path, reason, user_origin())
            self._accounted = len(self._taint.uses)

    def _sources_since(self, first: int) -> frozenset[str]:
        return frozenset().union(*(use.sources for use in self._taint.uses[first:]))

    @property
    def _path(self) -> str:
        return self._recording.calls[self._stack[-1]].path if self._stack else ""

    def _annotate(self, node: Any, origin: Origin | None) -> None:
        node.meta["path"] = self._path
        node.meta["call"] = self._stack[-1] if self._stack else None
        node.meta["origin"] = origin

    @contextmanager
    def _unseen(self) -> Iterator[None]:
        self._quiet = True
        try:
            yield
        finally:
            self._quiet = False


class _Opaque:
    """Stands in a graph for a callable that the graph cannot run."""

    def __init__(self, name: str) -> None:
        self.__name__ = name
        self.__qualname__ = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(f"{self.__name__} was recorded but cannot be run from a graph")


def _name_of(func: Any) -> str:
    return str(getattr(func, "__name__", func))


def _run_by_module(*args: Any, **kwargs: Any) -> Tensor:
    raise AssertionError("a leaf layer is run by its own module")

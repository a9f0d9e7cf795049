"""The fx tracer that records: the forward runs, and every function call becomes a node.

Unlike in symbolic tracing nothing is a proxy, so shape-dependent Python, lists, dicts, keyword
arguments and dataclasses just run. Leaf modules become ``call_module`` nodes under their paths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from fxbio.graph.context_regions import Regions
from fxbio.graph.derivatives import refuse_functorch
from fxbio.graph.node_table import NodeTable
from fxbio.graph.taint import WeightTaint
from fxbio.graph.trace import ModuleCall, Recording
from fxbio.graph.weight_uses import Findings
from fxbio.semantics.functions import COMPOSITES, LinearCall, match_linear_call
from fxbio.semantics.leaves import is_leaf, leaf_kind, opaque_reason
from fxbio.site import Origin
from fxbio.source_locations import user_origin
from fxbio.tensors.nested import tensors_in

__all__ = ["Recorder"]

_VALUE_READS = {
    *("item", "tolist", "numpy", "__array__", "__bool__", "__int__", "__float__", "__index__"),
    *("nonzero", "masked_select", "unique", "nms"),
}
"""Functions after which Python holds values of a tensor, or shapes that depend on values."""


class Recorder(TorchFunctionMode):
    """Records one forward pass of a model."""

    def __init__(
        self, model: nn.Module, taint: WeightTaint, applied: frozenset[str] = frozenset()
    ) -> None:
        """Record nothing yet.

        Args:
            model: the module whose calls are recorded.
            taint: an active taint mode; it is asked which tensors are weights.
            applied: weights that layers are known to apply to parameters and constants.
        """
        super().__init__()
        self._taint = taint
        self._table = NodeTable(model)
        self._recording = Recording(self._table.graph, self._table.nodes)
        self._findings = Findings(model, self._recording, self._table, taint, applied)
        self._regions = Regions(self._add_region)
        self._paths = {id(module): path for path, module in model.named_modules()}
        self._stack = self._findings.stack
        self._quiet = False

    @contextmanager
    def active(self) -> Iterator[None]:
        """Record everything that runs inside."""
        call, function = nn.Module.__call__, torch.autograd.Function
        backward = torch.autograd.backward
        apply: Any = vars(function)["apply"]
        recorder = self

        def recorded_module_call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            return recorder._module(call, module, args, kwargs)

        def recorded_apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
            return recorder._autograd_function(apply.__get__(None, cls), cls, args, kwargs)

        def recorded_backward(*args: Any, **kwargs: Any) -> None:
            given = signature(backward).bind(*args, **kwargs).arguments
            recorder._findings.add_derivative(given["tensors"], given.get("inputs"))
            backward(*args, **kwargs)

        nn.Module.__call__ = recorded_module_call  # type: ignore[method-assign]
        function.apply = classmethod(recorded_apply)
        torch.autograd.backward = recorded_backward
        try:
            with self:
                yield
        finally:
            nn.Module.__call__ = call  # type: ignore[method-assign]
            function.apply = apply
            torch.autograd.backward = backward

    def add_inputs(self, value: Any) -> None:
        """Make placeholders of the tensors of the example inputs."""
        for index, tensor in enumerate(tensors_in(value)):
            self._table.add("placeholder", f"input_{index}", ((), {}), tensor)
            self._taint.mark_activation(tensor)

    def finish(self, output: Any) -> Recording:
        """Close the graph and hand out the recording."""
        self._findings.collect_strays()
        self._table.graph.output(self._table.arguments(output))
        self._recording.output_type = type(output).__name__
        self._recording.constants = dict(self._table.constants)
        self._findings.settle()
        del self._regions  # it refers back, and the tensors of the pass would outlive it
        return self._recording

    # Modules

    def _module(self, call: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        path = self._paths.get(id(module))
        if self._quiet or path is None:
            return call(module, *args, **kwargs)
        refuse_functorch()
        if is_leaf(module) or opaque_reason(module) is not None:
            self._findings.collect_strays()
            self._regions.follow()
            with self._unseen():
                return self._leaf(call, module, path, args, kwargs)
        self._regions.follow()
        parent = self._stack[-1] if self._stack else None
        inputs = self._table.arguments((args, kwargs))
        start = len(self._table.nodes)
        record = ModuleCall(path, type(module).__name__, parent, start, inputs=inputs)
        record.grad_enabled = torch.is_grad_enabled()
        self._recording.calls.append(record)
        self._stack.append(len(self._recording.calls) - 1)
        try:
            out = call(module, *args, **kwargs)
        finally:
            self._stack.pop()
        self._regions.follow()
        record.output = self._table.arguments(out)
        record.end = len(self._table.nodes)
        return out

    def _leaf(
        self, call: Callable[..., Any], module: nn.Module, path: str, args: Any, kwargs: Any
    ) -> Any:
        arguments = self._table.arguments((args, kwargs))
        out = call(module, *args, **kwargs)
        self._taint.mark_activation(out)
        node = self._table.add("call_module", path, arguments, out)
        self._annotate(node, None)
        node.meta["type"], node.meta["layer"] = type(module).__name__, path
        kind = leaf_kind(module)
        if kind is not None:
            weight: Tensor = module.weight  # type: ignore[assignment]
            groups = getattr(module, "groups", 1)
            x = next(tensors_in((args, kwargs)))
            use = LinearCall(kind, weight, _run_by_module, (), {}, groups)
            self._findings.add_use(node, use, x, out, leaf=path)
        else:
            reason = opaque_reason(module) or f"nn.{type(module).__name__} has no rule"
            self._findings.add_if_applied(path, reason)
        return out

    # Functions

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._quiet:
            return func(*args, **kwargs)
        refuse_functorch()
        if func in COMPOSITES:
            with self:
                return COMPOSITES[func](*args, **kwargs)
        self._findings.collect_strays()
        name = _name_of(func)
        if name in _VALUE_READS:
            self._findings.mark_eager(f"reads values of a tensor with {name.strip('_')}()")
        call = match_linear_call(func, args, kwargs, self._taint.is_weight)
        if call is None:
            self._findings.check_weight_operand(func, args, kwargs)
        self._regions.follow()
        if func is torch.autograd.grad:
            self._findings.add_derivative(*_differentiated(*args, **kwargs))
        out = func(*args, **kwargs)
        node = self._add_function(func, name, args, kwargs, out)
        if call is None or node is None:
            reason = f"no rule reaches into {name}()"
            self._findings.add_if_applied(self._findings.path, reason)
            return out
        operands = [t for t in tensors_in((args, kwargs)) if t is not call.weight]
        if self._findings.is_product(call):
            self._findings.add_product(node, call, operands[0], out)
            return out
        self._findings.add_use(node, call, operands[0] if operands else out, out)
        self._taint.mark_activation(out)
        return out

    def _add_function(self, func: Any, name: str, args: Any, kwargs: Any, out: Any) -> Any:
        """Append a node for a function that returned tensors or wrote into one."""
        writes = name in ("__setitem__", "copy_")
        if not writes and next(tensors_in(out), None) is None:
            return None
        arguments = self._table.arguments((args, kwargs))
        if writes:
            self._table.note_write(args[0])
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
        if self._quiet:
            return apply(*args, **kwargs)
        if cls.__module__.startswith("torch."):
            with self._regions.inside_function():
                return apply(*args, **kwargs)
        self._findings.collect_strays()
        self._regions.follow()
        with self._unseen():
            return self._opaque_function(apply, cls, args, kwargs)

    def _opaque_function(self, apply: Any, cls: Any, args: Any, kwargs: Any) -> Any:
        arguments = self._table.arguments((args, kwargs))
        applied = [t for t in tensors_in(args) if self._taint.is_weight(t) and t.dim() > 1]
        out = apply(*args, **kwargs)
        self._taint.mark_activation(out)
        node = self._table.add("call_function", _OwnFunction(cls), arguments, out)
        self._annotate(node, user_origin())
        sources = frozenset().union(*(self._taint.parameters(t) for t in applied))
        reason = f"autograd.Function '{cls.__name__}' brings its own backward"
        self._findings.add_if_applied(self._findings.path, reason, sources)
        return out

    def _add_region(self, function: Any, args: tuple[Any, ...]) -> fx.Node:
        node = self._table.add("call_function", function, (args, {}), None)
        self._annotate(node, None)
        return node

    def _annotate(self, node: Any, origin: Origin | None) -> None:
        node.meta["path"] = self._findings.path
        node.meta["call"] = self._stack[-1] if self._stack else None
        node.meta["origin"] = origin
        node.meta["grad_enabled"] = torch.is_grad_enabled()
        if self._regions.in_function:  # what it computes without gradients gets them from outside
            node.meta["requires_grad"] = None

    @contextmanager
    def _unseen(self) -> Iterator[None]:
        self._quiet = True
        try:
            yield
        finally:
            self._quiet = False


class _OwnFunction:
    """A user's ``autograd.Function`` under a name that a graph can call."""

    def __init__(self, function: type[torch.autograd.Function]) -> None:
        self.__name__ = function.__name__
        self.__qualname__ = function.__qualname__
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function.apply(*args, **kwargs)


def _differentiated(outputs: Any, inputs: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
    return outputs, inputs


def _name_of(func: Any) -> str:
    return str(getattr(func, "__name__", func))


def _run_by_module(*args: Any, **kwargs: Any) -> Tensor:
    raise AssertionError("a leaf layer is run by its own module")

"""The aten operations of one training step, forward and backward, with what reads what.

They are recorded at the dispatcher and not by ``make_fx``: the model keeps its own parameters with
their hooks, every operation of the backward pass is known to belong to an autograd node, and where
a model needs values the same recorder runs on real ones.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fxbio.analysis.value_facts import Facts, Level, facts_of_result, parts_of, reads_shape_only
from fxbio.errors import FxbioError, ModelError
from fxbio.graph.taint import plain_tensors
from fxbio.models.inputs import map_tensors
from fxbio.runtime.binding import added_names
from fxbio.runtime.install import bound_modules
from fxbio.runtime.module_state import binding_of
from fxbio.tensors.nested import tensors_in
from fxbio.tensors.storages import storage_key

__all__ = ["Step", "StepTrace", "trace_step"]

aten = torch.ops.aten

_Reads = tuple[tuple[int, int], ...]
"""Position among the arguments, and value, of each tensor that an operation reads."""


@dataclass(frozen=True)
class Step:
    """One operation. Values are numbered; a view has the value of what it is a view of."""

    op: Any
    reads: _Reads
    writes: tuple[int, ...]
    node: int
    """Sequence number of the autograd node that it belongs to: in the forward pass of the one that
    it makes, in the backward pass of the one that runs."""
    owner: str
    """Name of the autograd node that runs; empty in the forward pass."""
    differentiable: bool
    """Whether it makes an autograd node of its own."""


@dataclass
class StepTrace:
    """All operations of one step, in order."""

    steps: list[Step] = field(default_factory=list)
    facts: list[Facts] = field(default_factory=list)
    """Of each value."""
    parameters: frozenset[str] = frozenset()
    """Names of the parameters of the model that fxbio did not add."""
    loss: int = -1
    """Value of the loss."""
    gradients: dict[str, int] = field(default_factory=dict)
    """Value of the gradient of each parameter that has one."""
    input_gradients: list[int] = field(default_factory=list)
    """Values of the gradients of the inputs of the model."""

    def errors(self, step: Step) -> list[int]:
        """The values that a step reads and that depend on the gradient of the loss."""
        return [value for _, value in step.reads if self.facts[value].error]

    def backward(self) -> Iterator[Step]:
        """The steps that do something to an error."""
        return (step for step in self.steps if self.errors(step))

    def forward(self) -> Iterator[Step]:
        """The other ones."""
        return (step for step in self.steps if not self.errors(step))


def trace_step(
    model: nn.Module, args: Any, kwargs: Any, loss: Callable[[Any], Tensor]
) -> StepTrace:
    """Run the model, the loss and the backward pass, and record what they do.

    Args:
        model: in training mode.
        args: of its forward. Floating tensors get a gradient, as if a layer were below.
        kwargs: of its forward.
        loss: from the model's output to a scalar that has a gradient.
    """
    recorder = _Recorder(model)
    args, kwargs = map_tensors(_as_if_computed, (args, kwargs))
    sources = [tensor for tensor in tensors_in((args, kwargs)) if tensor.requires_grad]
    recorder.mark((args, kwargs), Facts(data=True))
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with torch.enable_grad(), recorder:
        value = loss(model(*args, **kwargs))
        seed = torch.ones_like(value)
        recorder.mark(seed, Facts(error=True))
        found = _gradients(value, [*learning.values(), *sources], seed)
    trace = recorder.trace
    trace.parameters = frozenset(name for name, _ in model.named_parameters()) - _added(model)
    trace.loss = recorder.value(value)
    for name, gradient in zip(learning, found, strict=False):
        if gradient is not None:
            trace.gradients[name] = recorder.value(gradient)
    below = found[len(learning) :]
    trace.input_gradients = [recorder.value(g) for g in below if g is not None]
    return trace


def _gradients(value: Tensor, leaves: list[Tensor], seed: Tensor) -> tuple[Tensor | None, ...]:
    try:
        return torch.autograd.grad(value, leaves, seed, allow_unused=True)
    except FxbioError:
        raise
    except Exception as error:  # hooks and backward formulas of the user may raise anything
        raise ModelError(
            f"the backward pass failed: {type(error).__name__}: {error}",
            help="check that loss.backward() works; activation checkpointing needs "
            "use_reentrant=False",
        ) from error


def _added(model: nn.Module) -> set[str]:
    """Parameters of a transformed model that the stock one does not have."""
    prefixes = tuple(
        f"{path}.{name}".lstrip(".")
        for path, module in bound_modules(model)
        for name in added_names(binding_of(module))
    )
    names = (name for name, _ in model.named_parameters())
    return {name for name in names if f"{name}.".startswith(tuple(f"{p}." for p in prefixes))}


def _as_if_computed(tensor: Tensor) -> Tensor:
    """An input as the output of a layer would be: it has a gradient, and may be written over."""
    tensor = tensor.detach()
    return tensor.requires_grad_().clone() if tensor.is_floating_point() else tensor


class _Recorder(TorchDispatchMode):
    """Numbers the contents of storages: autograd hands out new tensor objects for views."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = StepTrace()
        self._values: dict[Hashable, int] = {}
        self._last_node = _latest_node()
        owned: dict[Hashable, set[str]] = {}
        parts = (model.named_parameters(), model.named_buffers(), plain_tensors(model))
        for name, tensor in chain(*parts):
            owned.setdefault(storage_key(tensor), set()).add(name)
        for key, names in owned.items():
            self._values[key] = self._new(Facts(names=dict.fromkeys(names, Level.FULL)))

    def mark(self, value: Any, facts: Facts) -> None:
        """Declare what all tensors of a structure depend on."""
        for tensor in tensors_in(value):
            self._values[storage_key(tensor)] = self._new(facts)

    def value(self, tensor: Tensor) -> int:
        """The number of what a tensor holds; of one that was never seen it is a constant."""
        key = storage_key(tensor)
        if key not in self._values:
            self._values[key] = self._new(Facts())
        return self._values[key]

    def _new(self, facts: Facts) -> int:
        self.trace.facts.append(facts)
        return len(self.trace.facts) - 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operands = (*args, *kwargs.values())
        reads = tuple((p, self.value(t)) for p, v in enumerate(operands) for t in tensors_in(v))
        out = func(*args, **kwargs)
        results = list(tensors_in(out))
        if not results:
            return out
        place = self._place()
        if func.is_view or func.overloadpacket in _ALIASES:
            for tensor in results:
                self._values[storage_key(tensor)] = reads[0][1]
            return out
        self._record(func, operands, () if reads_shape_only(func) else reads, out, place)
        return out

    def _record(
        self, func: Any, args: Any, reads: _Reads, out: Any, place: tuple[int, str, bool]
    ) -> None:
        node, owner, differentiable = place
        parts = parts_of(func)
        if parts is None:
            groups = [(reads, list(tensors_in(out)))]
        else:
            groups = [
                (tuple(read for read in reads if read[0] in positions), [result])
                for positions, result in zip(parts, out, strict=False)
                if isinstance(result, Tensor)
            ]
        for read, results in groups:
            operands = [(position, self.trace.facts[value]) for position, value in read]
            facts = facts_of_result(func, args, operands)
            if func.overloadpacket in _SUMS and all(f.error for _, f in operands):
                node, owner = _NO_NODE, "sum of errors"  # the engine's, while any node may run
            writes = tuple(self._write(tensor, facts) for tensor in results)
            self.trace.steps.append(Step(func, read, writes, node, owner, differentiable))

    def _write(self, tensor: Tensor, facts: Facts) -> int:
        value = self._values[storage_key(tensor)] = self._new(facts)
        return value

    def _place(self) -> tuple[int, str, bool]:
        """The autograd node of the operation at hand, its name, and whether it was just made."""
        running: Any = torch._C._current_autograd_node()
        latest = _latest_node()
        made, self._last_node = latest != self._last_node, latest
        if running is None or made:  # what is made while a node runs is a recomputed forward
            return latest, "", made
        return running._sequence_nr(), running.name(), False


_NO_NODE = -1
_SUMS = {aten.add, aten.add_}
_ALIASES = {aten._unsafe_view, aten.lift_fresh, aten._reshape_alias}


def _latest_node() -> int:
    return int(torch._C._autograd._get_sequence_nr()) - 1

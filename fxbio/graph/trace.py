"""Records of one forward pass: nodes, calls of modules, and uses of weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import fx

from fxbio.site import OpKind, Origin, Unreachable

__all__ = ["ModuleCall", "RawUse", "Recording"]


@dataclass
class ModuleCall:
    """One call of a module: the interval of nodes that it executed."""

    path: str
    type: str
    """Class name of the module."""
    parent: int | None
    """Index of the call that made this one."""
    start: int
    """Number of nodes recorded before it."""
    end: int = 0
    grad_enabled: bool = True
    inputs: Any = ()
    """Its arguments, with nodes in place of tensors."""
    output: Any = None
    """What it returned, likewise."""


@dataclass(frozen=True)
class RawUse:
    """One use of a weight, before all uses are known."""

    node: fx.Node
    op: OpKind
    weight: str | None
    """Qualified name where the operand is a parameter itself."""
    operand: fx.Node | None
    """Node of the weight; ``None`` where a leaf layer holds it."""
    sources: frozenset[str]
    shape: tuple[int, ...]
    feedback_shape: tuple[int, ...]
    """Shape in which feedback for the weight is drawn."""
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    groups: int
    axes: tuple[tuple[int, ...], tuple[int, ...]] | None
    """Of a ``matmul``: dimensions of the weight that are summed, and that the result gains."""
    call: int | None
    """Index of the innermost module call around it."""
    leaf: str | None
    """Path of the leaf layer that applies the weight, if it is one."""
    owner: str | None
    """Path of the module whose forward encloses the use."""
    origin: Origin | None
    unreachable: str | None
    constants: frozenset[str]
    """Buffers that the weight is also computed from."""
    of_parameters: bool
    """Whether a layer is applied to what is computed from parameters and constants alone."""


@dataclass
class Recording:
    """The trace of one forward pass."""

    graph: fx.Graph
    nodes: list[fx.Node]
    calls: list[ModuleCall] = field(default_factory=list)
    uses: list[RawUse] = field(default_factory=list)
    opaque: list[Unreachable] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)
    """Tensors that the graph refers to and the model does not own, by name."""
    output_type: str = ""
    """Class name of what the model returned."""
    seen: frozenset[str] = frozenset()
    """Parameters that the dispatcher saw applied to an activation."""
    applied: frozenset[str] = frozenset()
    """Parameters that layers apply to parameters, the results of which are activations."""
    derivatives: list[Origin | None] = field(default_factory=list)
    """Where the forward takes derivatives itself."""

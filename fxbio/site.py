"""Sites: the uses of weights by linear operations, the things a policy gives rules to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["MATRIX_OPS", "OP_KINDS", "OpKind", "Origin", "Site", "Unreachable"]

OpKind = Literal[
    "linear",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "matmul",
    "norm",
    "embedding",
]

OP_KINDS: tuple[OpKind, ...] = get_args(OpKind)
"""What a site computes. ``norm`` is the scale of a normalisation layer, ``embedding`` the look-up
of rows of a table."""

MATRIX_OPS: tuple[OpKind, ...] = tuple(op for op in OP_KINDS if op not in ("norm", "embedding"))
"""Those that multiply an activation by a matrix: the layers that make a network deep. The others
keep backprop unless a policy speaks of them by their kind."""


@dataclass(frozen=True)
class Origin:
    """The line of Python that used the weight."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Site:
    """One use of a weight by a linear operation.

    Its identity is ``(weight, op, call_index)``; node names shift when passes insert nodes.
    """

    name: str
    """Unique in its model: ``path``, followed by ``#k`` for the k-th further use of the weight."""
    path: str
    """Dotted path of the module that holds the weight, what ``where: module`` matches."""
    weight: str
    """Qualified name of the weight: of the parameter itself, or of the attribute it is served as
    when it is derived from others (``conv.weight`` of a weight-normalised layer). Shared weights
    go by the first of their names."""
    sources: tuple[str, ...]
    """Qualified names of the parameters that the weight is computed from, itself included."""
    op: OpKind
    shape: tuple[int, ...]
    """Shape of the weight as the operation uses it."""
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    groups: int
    parameters: int
    """Number of scalars in ``sources``."""
    call_index: int
    """How many uses of the same weight came before this one."""
    calls: int
    """How often the weight is used in one forward pass."""
    order: int
    """Position among all sites in order of execution, from 0."""
    depth: int
    """Length of the longest chain of sites from an input to this one, from 0. Norms share the
    depth of the layer that feeds them."""
    type: str
    """Class name of the module at ``path``."""
    owner: str
    """Path of the module whose forward applies the weight (``path`` itself for a leaf layer)."""
    attention: bool
    """Whether it is a projection inside an attention layer."""
    origin: Origin | None
    """Where in the user's code; ``None`` for a leaf layer called as a module."""
    unreachable: str | None = None
    """Why no rule can be installed here; ``None`` when one can."""
    leaf: bool = True
    """Whether a stock ``torch.nn`` layer applies the weight in its own forward."""
    summed: tuple[int, ...] = (-2,)
    """Of a ``matmul``: the dimensions of the weight that are summed over."""
    produced: tuple[int, ...] = (-1,)
    """Of a ``matmul``: the dimensions of the weight that the result gains."""
    derived: bool = False
    """Whether the weight is computed from its sources each time, rather than being one of them."""
    feedback_shape: tuple[int, ...] = ()
    """Shape in which feedback is drawn: that of the parameter where its entries can be followed
    to the operation (a chunk takes its chunk of the feedback), else ``shape``."""
    of_parameters: bool = False
    """Whether a layer is applied to what is computed from parameters and constants alone, such as
    learned queries. What it puts out is an activation all the same."""

    @property
    def multiplies(self) -> bool:
        """True if it multiplies an activation by a matrix, as scales and tables do not."""
        return self.op in MATRIX_OPS

    @property
    def computed(self) -> bool:
        """True if the weight exists only while the forward runs, as ``W + B A`` does."""
        return self.derived and not self.leaf and self.feedback_shape == self.shape


@dataclass(frozen=True)
class Unreachable:
    """A part of the model that cannot be seen into: code that stays as it is."""

    path: str
    """Module whose forward it is in; empty for the root."""
    reason: str
    weights: tuple[str, ...] = ()
    """Parameters that it uses in linear operations, as far as they can be known."""
    origin: Origin | None = None
    explained: bool = True
    """False where only the dispatcher saw the weights being applied: a policy that rewrites
    anything must name them under ``allow_backprop``."""

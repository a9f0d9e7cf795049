"""What a rewritten module carries: the rules of the weights that its forward applies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fxbio.ops.functional import Backward
from fxbio.rules.fan import WeightInfo

__all__ = ["BINDING", "FEEDBACK_PREFIX", "BoundWeight", "ModuleBinding", "resolve_attribute"]

BINDING = "_fxbio_binding"
"""Attribute of a rewritten module that holds its ``ModuleBinding``."""

FEEDBACK_PREFIX = "fxbio_feedback_"
"""Feedback buffers of a rewritten module are called by this and a number."""


@dataclass(frozen=True)
class BoundWeight:
    """The backward path of one weight inside one module."""

    weight: str
    """Qualified name of the weight in the model, for messages and reports."""
    attribute: str
    """Where to find it from the rewritten module: ``weight``, ``qkv.weight``."""
    sources: tuple[str, ...]
    """Attributes of the parameters that it is computed from; itself alone if it is one."""
    constants: tuple[str, ...]
    """Attributes of the buffers that enter that computation."""
    info: WeightInfo
    shape: tuple[int, ...]
    """Shape in which its feedback is drawn."""
    rule: str
    """Spec string of the rule."""
    scale: float
    feedback: str | None
    """Name of the buffer with the drawn part, if there is one."""
    seed: int
    """Seed of the policy, for redraws."""
    computed: bool = False
    """Whether the weight exists only while the forward runs."""

    def backward(self, module: nn.Module) -> Backward:
        """The backward path with the module's current feedback buffer."""
        drawn: Tensor | None = None if self.feedback is None else getattr(module, self.feedback)
        return Backward(self.rule, self.scale, drawn)


@dataclass(frozen=True)
class ModuleBinding:
    """All rewritten weights of one module."""

    weights: tuple[BoundWeight, ...]
    frozen: tuple[str, ...] = ()
    """Attributes of parameters whose ``requires_grad`` the rule switched off."""


def resolve_attribute(module: nn.Module, path: str) -> Any:
    """The attribute at a dotted path."""
    value: Any = module
    for part in path.split("."):
        value = getattr(value, part)
    return value

"""The rules of the battery. A new rule is one line in ``RULES``.

``B`` is written here once more, as published, without ``Rule.feedback``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["RULES", "RuleLine"]


@dataclass(frozen=True)
class RuleLine:
    """What is known of a rule without asking it."""

    feedback: Callable[[Tensor, Tensor | None], Tensor | None]
    """``B`` without its scale, from the weight as it is used and the drawn part."""
    differs: bool = True
    """Whether the error below a site differs from backprop's."""
    reads_weight: bool = False
    """Whether the feedback is made from the weight's values when the model is transformed, which
    a weight that exists only inside a forward does not have then."""


RULES: dict[str, RuleLine] = {
    "bp": RuleLine(lambda w, m: w, differs=False),
    "brsf": RuleLine(lambda w, m: m * torch.sgn(w)),
    "fa": RuleLine(lambda w, m: m),
    "frozen": RuleLine(lambda w, m: w, differs=False),
    "frsf": RuleLine(lambda w, m: m * torch.sgn(w)),
    "signed-init": RuleLine(lambda w, m: m, reads_weight=True),
    "stop": RuleLine(lambda w, m: None),
    "usf": RuleLine(lambda w, m: torch.sgn(w)),
}

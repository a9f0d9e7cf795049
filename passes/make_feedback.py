"""Draw the feedback and fix its scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from fxbio.lowering.feedback import make_feedback
from fxbio.passes.graph_pass import Pass, PassResult, Program
from fxbio.passes.registry import register_pass

__all__ = ["MakeFeedback"]


@register_pass("make-feedback")
@dataclass(frozen=True)
class MakeFeedback(Pass):
    """Makes the feedback of each weight from the policy's seed and the weight's name."""

    def run(self, program: Program) -> PassResult:
        program.feedback = make_feedback(program.model, program.planned())
        distinct = {id(path): path for path in program.feedback.values()}.values()
        drawn = [path.drawn for path in distinct if path.drawn is not None]
        learned = [path.learned for path in distinct if path.learned is not None]
        parts = f"{len(drawn)} of them drawn ({_mebibytes(drawn)})"
        parts += f", {len(learned)} learned ({_mebibytes(learned)})" if learned else ""
        return PassResult(True, f"{len(distinct)} backward paths, {parts}")


def _mebibytes(tensors: Sequence[Tensor]) -> str:
    return f"{sum(t.numel() * t.element_size() for t in tensors) / 2**20:.1f} MiB"

"""Draw the feedback and fix its scale."""

from __future__ import annotations

from dataclasses import dataclass

from fxbio.bind.build import make_feedback
from fxbio.passes.base import Pass, PassResult, Program
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
        mebibytes = sum(d.numel() * d.element_size() for d in drawn) / 2**20
        return PassResult(
            True,
            f"{len(distinct)} backward paths, {len(drawn)} of them drawn ({mebibytes:.1f} MiB)",
        )

"""Check on the model itself that every planned site runs its rule, as the graph says."""

from __future__ import annotations

from dataclasses import dataclass

from fxbio.errors import PassError
from fxbio.lowering.expected_calls import expected_calls
from fxbio.passes.graph_pass import Pass, PassResult, Program
from fxbio.passes.registry import register_pass
from fxbio.verification.witness import check_witness

__all__ = ["CheckWitness"]


@register_pass("check-witness")
@dataclass(frozen=True)
class CheckWitness(Pass):
    """Runs one forward pass without arithmetic where that is possible, and sees what it applied."""

    def requires(self, program: Program) -> None:
        if program.planned().rewritten() and not program.bound:
            raise PassError(
                "the model does not run its rules yet", help="run bind-modules before check-witness"
            )

    def run(self, program: Program) -> PassResult:
        witnessed = check_witness(
            program.model, program.planned(), program.inputs, expected_calls(program.lowered)
        )
        return PassResult(False, f"{witnessed} weights seen to run their rules")

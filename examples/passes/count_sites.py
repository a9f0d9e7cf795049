"""A pass of one's own: it counts the sites of each rule, and refuses a plan with too few.

Use it with ``--plugin count_sites.py --pipeline "assign-rules,count-sites{minimum=3},..."``.
"""

from collections import Counter
from dataclasses import dataclass

from fxbio.errors import PassError
from fxbio.passes import Pass, PassResult, Program, register_pass


@register_pass("count-sites")
@dataclass(frozen=True)
class CountSites(Pass):
    """Counts the sites of each rule."""

    minimum: int = 1
    """Fewer rewritten sites than this are an error."""

    def run(self, program: Program) -> PassResult:
        if len(program.planned().rewritten()) < self.minimum:
            raise PassError(f"fewer than {self.minimum} sites get a rule")
        counts = Counter(assignment.rule for assignment in program.planned().assignments)
        return PassResult(False, ", ".join(f"{n} {rule}" for rule, n in counts.items()))

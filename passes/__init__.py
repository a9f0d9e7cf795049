"""Graph passes: the steps from a plan to a model that runs its rules.

``Pipeline`` runs them in order; ``Pass`` is the base of your own.
"""

if __name__ != "fxbio.passes":
    raise ImportError("this package is fxbio.passes: install fxbio and import it by that name")

from fxbio.passes import builtin as builtin  # first, so that its passes are registered first
from fxbio.passes.graph_pass import Pass, PassResult, Program
from fxbio.passes.pipeline import DEFAULT_PIPELINE, Pipeline
from fxbio.passes.registry import available_passes, make_pass, register_pass

__all__ = [
    "DEFAULT_PIPELINE",
    "Pass",
    "PassResult",
    "Pipeline",
    "Program",
    "available_passes",
    "make_pass",
    "register_pass",
]

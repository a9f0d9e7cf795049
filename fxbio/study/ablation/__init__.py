"""Studies: one model trained under many policies, and tables of what came of it."""

from fxbio.study.ablation.ablate import ablate, load_results
from fxbio.study.ablation.output import write_results
from fxbio.study.ablation.summary import StudyResults

__all__ = ["StudyResults", "ablate", "load_results", "write_results"]

"""Studies: one model trained under many policies, and tables of what came of it."""

from fxbio.study.ablate import ablate, load_results
from fxbio.study.plots import PlotOptions
from fxbio.study.study_output import write_results
from fxbio.study.summary import StudyResults

__all__ = ["PlotOptions", "StudyResults", "ablate", "load_results", "write_results"]

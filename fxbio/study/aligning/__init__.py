"""Alignment: how close the errors and updates of a rule are to those of backprop."""

from fxbio.study.aligning.alignment import alignment
from fxbio.study.aligning.log import log_alignment
from fxbio.study.aligning.report import Alignment, AlignmentRow

__all__ = ["Alignment", "AlignmentRow", "alignment", "log_alignment"]

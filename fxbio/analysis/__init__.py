"""Analysis: what the backward pass of a model reads, and how well a rule agrees with backprop."""

from fxbio.analysis.alignment import alignment
from fxbio.analysis.alignment_log import log_alignment
from fxbio.analysis.alignment_report import Alignment, AlignmentRow
from fxbio.analysis.audit import audit
from fxbio.analysis.audit_report import Audit, AuditRow
from fxbio.analysis.similarity import Similarity, linear_cka, rsa, similarity

__all__ = [
    "Alignment",
    "AlignmentRow",
    "Audit",
    "AuditRow",
    "Similarity",
    "alignment",
    "audit",
    "linear_cka",
    "log_alignment",
    "rsa",
    "similarity",
]

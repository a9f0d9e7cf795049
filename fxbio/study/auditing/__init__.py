"""The audit: which forward weights the backward pass of a training step reads."""

from fxbio.study.auditing.audit import audit
from fxbio.study.auditing.report import Audit, AuditRow

__all__ = ["Audit", "AuditRow", "audit"]

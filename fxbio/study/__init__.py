"""Studies: what the backward pass of a model reads, and how well a rule agrees with backprop."""

from fxbio.study.auditing import Audit, audit

__all__ = ["Audit", "audit"]

"""Studies: what the backward pass of a model reads, and how well a rule agrees with backprop."""

from fxbio.study.aligning import Alignment, alignment, log_alignment
from fxbio.study.auditing import Audit, audit
from fxbio.study.similarity import Similarity, linear_cka, rsa, similarity

__all__ = [
    "Alignment",
    "Audit",
    "Similarity",
    "alignment",
    "audit",
    "linear_cka",
    "log_alignment",
    "rsa",
    "similarity",
]

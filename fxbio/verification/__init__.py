"""Verification: seeing on the model itself that every site does what the plan says."""

from fxbio.verification.result import SiteVerdict, Verification
from fxbio.verification.verify import verify

__all__ = ["SiteVerdict", "Verification", "verify"]

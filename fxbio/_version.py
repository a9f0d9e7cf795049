"""The version of fxbio."""

__version__ = "0.1.0"

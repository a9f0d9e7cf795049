"""Layers of the source papers that torch does not have."""

from fxbio.nn.locally_connected import LocallyConnected1d, LocallyConnected2d

__all__ = ["LocallyConnected1d", "LocallyConnected2d"]

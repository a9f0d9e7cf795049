"""From the ``data`` section of a recipe to an opened data set."""

from __future__ import annotations

from fxbio.train.data.base import DataConfig, DataSource

__all__ = ["open_data"]


def open_data(config: DataConfig, seed: int = 0) -> DataSource:
    """Open a data set and check it.

    Args:
        config: which, and how it is prepared.
        seed: of what is generated or split at random.

    Raises:
        DataError: when it is not there, or is broken in a way that cannot be worked around.
    """
    raise NotImplementedError

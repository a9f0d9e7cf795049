"""The task that a data set is for."""

from __future__ import annotations

from fxbio.train.data.base import DataSource
from fxbio.train.tasks.base import Task, TaskConfig

__all__ = ["make_task"]


def make_task(config: TaskConfig, source: DataSource) -> Task:
    """Classification or detection, as the data says.

    Raises:
        DataError: when an option does not apply to the task.
    """
    raise NotImplementedError

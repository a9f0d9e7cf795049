"""The task that a data set is for."""

from __future__ import annotations

from dataclasses import asdict

from fxbio.errors import DataError
from fxbio.train.data.data_kind import DataSource
from fxbio.train.tasks.classification import Classification
from fxbio.train.tasks.detection import Detection
from fxbio.train.tasks.task import Task, TaskConfig

__all__ = ["make_task"]


def make_task(config: TaskConfig, source: DataSource) -> Task:
    """Classification or detection, as the data says.

    Raises:
        DataError: when an option does not apply to the task.
    """
    if source.task == "classification":
        return Classification(config, len(source.classes))
    for name, value in asdict(config).items():
        if value:
            raise DataError(f"task.{name} does not apply to detection")
    return Detection()

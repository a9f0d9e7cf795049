"""The task that a data set is for."""

from __future__ import annotations

from fxbio.errors import DataError
from fxbio.train.data.base import DataSource
from fxbio.train.tasks.base import Task, TaskConfig
from fxbio.train.tasks.classification import Classification
from fxbio.train.tasks.detection import Detection

__all__ = ["make_task"]


def make_task(config: TaskConfig, source: DataSource) -> Task:
    """Classification or detection, as the data says.

    Raises:
        DataError: when an option is out of range, or does not apply to the task.
    """
    for name in ("label_smoothing", "mixup", "cutmix"):
        if getattr(config, name) < 0:
            raise DataError(f"task.{name} must be at least 0, not {getattr(config, name)}")
    if config.label_smoothing > 1:
        raise DataError(f"task.label_smoothing must be at most 1, not {config.label_smoothing}")
    if source.task == "classification":
        return Classification(config, len(source.classes))
    if config != TaskConfig():
        raise DataError("label smoothing, mixup and cutmix do not apply to detection")
    return Detection()

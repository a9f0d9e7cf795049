"""Training tasks: classification or detection."""

from fxbio.train.tasks.base import Evaluator, Task, TaskConfig
from fxbio.train.tasks.make import make_task

__all__ = ["Evaluator", "Task", "TaskConfig", "make_task"]

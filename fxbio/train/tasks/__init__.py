"""Training tasks: classification or detection."""

from fxbio.train.tasks.make import make_task
from fxbio.train.tasks.task import Evaluator, Task, TaskConfig

__all__ = ["Evaluator", "Task", "TaskConfig", "make_task"]

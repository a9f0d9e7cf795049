"""Checks that a model takes the images of a data set and knows its classes, before it is trained.

What is wrong is told with both sides: what the data gives, and how the model was built.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from fxbio.errors import CaptureError
from fxbio.graph.capture import example_inputs_for, run_for_structure
from fxbio.train.data import DataSource
from fxbio.train.tasks import Task

__all__ = ["check_output", "told_with_the_data"]


def check_output(model: nn.Module, task: Task, inputs: Any) -> None:
    """Call the model on a batch without computing it, and look at the shape of what it gives.

    Raises:
        CaptureError: when it does not take the batch.
        ModelError: when it gives something else than the task wants.
    """
    run_for_structure(
        model,
        example_inputs_for(model, inputs),
        lambda args, kwargs: task.check_output(model(*args, **kwargs)),
    )


@contextmanager
def told_with_the_data(
    source: DataSource, inputs: Any, arguments: Mapping[str, Any]
) -> Iterator[None]:
    """Says of a model that does not take its batch what the data gives, and what may be set.

    Args:
        source: the data.
        inputs: the batch that the model is captured with.
        arguments: that the model was built with.

    Raises:
        CaptureError: in the place of the one raised inside.
    """
    try:
        yield
    except CaptureError as error:
        classes = len(source.classes)
        background = ", with the background" if source.task == "detection" else ""
        given = ", ".join(f"{name}={value}" for name, value in arguments.items()) or "none"
        raise CaptureError(
            error.headline,
            notes=[
                *error.notes,
                f"the data gives {_shapes(inputs)}, and {classes} classes{background}",
                f"model.args that the model was built with: {given}",
            ],
            help=f"make both agree, for instance with model.args.num_classes={classes}, or with "
            "data.channels and data.image_size",
        ) from error


def _shapes(inputs: Any) -> str:
    if isinstance(inputs, Tensor):
        return f"a batch of shape {tuple(inputs.shape)}"
    return f"images of shapes {', '.join(str(tuple(image.shape)) for image in inputs[0])}"

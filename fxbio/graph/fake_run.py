"""Running a model on fake tensors, and taking back what its own code keeps of them."""

from __future__ import annotations

import contextlib
import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_map

from fxbio.errors import CaptureError
from fxbio.graph.fake_norms import NormOutputs, norm_outputs
from fxbio.graph.shared_state import SharedState
from fxbio.graph.state_guard import Snapshot, preserved
from fxbio.models.inputs import ExampleInputs
from fxbio.source_locations import user_origin
from fxbio.tensors.nested import tensors_in

__all__ = ["run_fake"]

R = TypeVar("R")

_LOGGER = logging.getLogger("torch._subclasses.fake_tensor")


def run_fake(
    before: Snapshot, inputs: ExampleInputs, run: Callable[[Any, Any], R]
) -> tuple[R] | None:
    """Call ``run(args, kwargs)`` on fake inputs.

    The code of a user may keep fake tensors: in a cache, a global, an object. They are taken back.
    Where that is not possible they raise a ``CaptureError`` as soon as anything is done with them.

    Args:
        before: of the model and the inputs.
        inputs: real ones.
        run: calls the model.

    Returns:
        What it returned; ``None`` where it raised, and where a fake tensor was alive after it, in
        what it returned or elsewhere.
    """
    shared = SharedState(before.objects)
    mode = _TrackedFakeMode()
    found: tuple[R] | None = None
    # Any exception may be the model's reaction to a tensor without values.
    with preserved(before), contextlib.suppress(Exception), _quiet(_LOGGER), mode:
        found = (run(*tree_map(mode.faked, (inputs.args, dict(inputs.kwargs)))),)
    mode.closed = True
    if mode.left_any():
        found = None
        shared.restore(mode.made)
    return found


@contextlib.contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Without a logger that prints a traceback of what may be no error, or will be reported."""
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


class _TrackedFakeMode(FakeTensorMode):
    """Refers weakly to every tensor that it makes."""

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self.closed = False
        self._made: list[weakref.ref[Tensor]] = []

    def faked(self, value: Any) -> Any:
        """A tensor without values for one with them; anything else as it is."""
        return self._tracked(self.from_tensor(value)) if isinstance(value, Tensor) else value

    def dispatch(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation; what FakeTensorMode calls for each, and ``__torch_dispatch__`` too."""
        if self.closed:
            raise _left_behind()
        outputs = norm_outputs(func, args)
        if outputs is not None:
            return self._tracked(self._empty(types, args[0], outputs))
        return self._tracked(super().dispatch(func, types, args, kwargs))

    def _empty(self, types: Any, x: Tensor, outputs: NormOutputs) -> tuple[Tensor, ...]:
        like, of_shape = torch.ops.aten.empty_like.default, torch.ops.aten.new_empty.default
        statistics = (x, outputs.statistics), {"dtype": outputs.dtype}
        calls: list[tuple[Any, Any, Any]] = [
            (like, (x,), {"memory_format": outputs.memory_format}),
            (of_shape, *statistics),
            (of_shape, *statistics),
        ]
        made: Any = super().dispatch
        return tuple(made(func, types, args, kwargs) for func, args, kwargs in calls)

    def _tracked(self, out: Any) -> Any:
        self._made += [weakref.ref(tensor) for tensor in tensors_in(out) if self.made(tensor)]
        return out

    def made(self, value: Any) -> bool:
        """True if a value is a tensor of this mode."""
        return isinstance(value, FakeTensor) and value.fake_mode is self

    def left_any(self) -> bool:
        """True if something still refers to a tensor; garbage is collected if need be."""
        for generation in range(3):  # what was made is young, and the old take long
            if not self._any_alive():
                return False
            gc.collect(generation)
        return self._any_alive()

    def _any_alive(self) -> bool:
        return any(made() is not None for made in self._made)


def _left_behind() -> CaptureError:
    return CaptureError(
        "a tensor without values is used, which the forward kept when it was captured",
        notes=[f"used at {origin}"] if (origin := user_origin()) else [],
        help="build the model anew and run it once on an input before it is captured, so that what "
        "it keeps has values; or let it keep tensors in attributes of modules or in globals",
    )

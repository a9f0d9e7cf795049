"""The scope in which targets are sent: it cuts a model into blocks while the model's own code runs.

The layers that blocks begin with mark their inputs. A block is that layer and whatever is done to
its output up to the mark of the next one, where its difference is put in the place of its tensor.
What was done is kept, so that the block can be run again on noisy inputs, as its inverse's loss
needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from fxbio.errors import ModelError
from fxbio.ops.mark import ENTER, LEAVE
from fxbio.runtime.binding import Targets
from fxbio.runtime.tensor_scope import TensorScope
from fxbio.target_propagation.block_target import BlockTarget
from fxbio.target_propagation.stateless_norms import StatelessNorms
from fxbio.tensors.nested import tensors_in

__all__ = ["RunningBlock", "TargetScope", "run_again"]


class _Call(NamedTuple):
    """Something that was done to the output of a layer."""

    func: Any
    args: Any
    kwargs: Any
    out: Any


class RunningBlock:
    """The block that the forward is in."""

    def __init__(self, target: BlockTarget, layer: str, x: Tensor) -> None:
        self.target = target
        self.layer = layer
        self.x = x
        self.layer_output: Tensor | None = None
        self.calls: list[_Call] = []
        self.made: set[Tensor] = set()
        """What the layer put out and what was made of it; a tensor hashes by identity."""

    def leave_layer(self, tensor: Tensor) -> None:
        """Note what the layer put out."""
        self.layer_output = tensor
        self.made.add(tensor)

    def note(self, call: _Call) -> None:
        """Note what was done to something that the block has made."""
        self.calls.append(call)
        self.made.update(tensors_in(call.out))

    def error(self, what: str, why: str) -> ModelError:
        """Error of the block, with the line of the policy and a way out."""
        return ModelError(
            what,
            notes=[why, f"rule '{self.target.rule}', decided by {self.target.decided_by}"],
            help="name modules that hold such connections whole: "
            'with: {blocks: ["encoder.layers.*"]}',
        )

    def holds(self, value: Any) -> bool:
        """True if a tensor, or one in a list, was made by this block."""
        if isinstance(value, tuple | list):
            return any(self.holds(item) for item in value)
        return isinstance(value, Tensor) and value in self.made


class TargetScope(TensorScope):
    """Puts differences between blocks."""

    def __init__(self, model: nn.Module, targets: Targets) -> None:
        super().__init__()
        self._model = model
        self._targets = targets
        self._running: RunningBlock | None = None
        self._closed: dict[Tensor, RunningBlock] = {}
        """The block that has made each tensor behind whose end the forward is."""

    def on_function(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Note what is done to the tensors of the block."""
        out = func(*args, **kwargs)
        self._check_bypass((*args, *kwargs.values()), out)
        running = self._running
        if running is not None and running.holds((*args, *kwargs.values())):
            running.note(_Call(func, args, kwargs, out))
        return out

    def _check_bypass(self, operands: Any, out: Any) -> None:
        """Refuse what reads a tensor of a block behind its end: backprop would pass it there."""
        if not isinstance(out, Tensor) or not out.requires_grad or not self._closed:
            return
        for value in tensors_in(operands):
            block = self._closed.get(value)
            if block is not None:
                raise block.error(
                    f"a tensor of the block at '{block.layer}' is read behind its end",
                    "a connection around the next block would carry backprop's error",
                )

    def finish(self, output: Tensor) -> Tensor:
        """The output of the model, with what the last block sends below."""
        running = self._running
        return output if running is None or not running.holds(output) else self._close(output)

    def on_mark(self, tensor: Tensor, event: str, name: str) -> Tensor | None:
        """Begin a block at the layer, and end the one before it."""
        path = self._targets.units.get(name)
        if event == ENTER and (path is not None or name in self._targets.ends):
            return self._enter(path, name, tensor)
        if event == LEAVE and path is not None and self._running is not None:
            self._running.leave_layer(tensor)
            return tensor
        return None

    def _enter(self, path: str | None, name: str, tensor: Tensor) -> Tensor:
        if self._running is not None:
            if not self._running.holds(tensor):
                raise self._running.error(
                    f"'{name}' does not read the output of block '{self._running.layer}'",
                    "target propagation needs blocks with one input and one output",
                )
            tensor = self._close(tensor)
        if path is None:
            return tensor
        target: Any = self._model.get_submodule(path)
        self._running = RunningBlock(target, name, tensor)
        return tensor.detach() if target.cuts else tensor

    def _close(self, h: Tensor) -> Tensor:
        """The output of the block that runs, as the next one is to see it."""
        running = self._running
        assert running is not None
        self._running = None
        self._closed |= {tensor: running for tensor in running.made if tensor.requires_grad}

        def again(x: Tensor) -> Tensor:
            return run_again(self._model, running, h, x)

        return running.target.connect(h, running.x, again)


@torch.no_grad()
def run_again(model: nn.Module, running: RunningBlock, h: Tensor, x: Tensor) -> Tensor:
    """The output of a block on another input, without a trace in statistics."""
    layer = model.get_submodule(running.layer)
    with StatelessNorms():
        now: dict[Tensor, Tensor] = dict(_pairs(running.layer_output, layer(x)))
        for call in running.calls:
            args, kwargs = _replaced(call.args, now), _replaced(call.kwargs, now)
            now.update(_pairs(call.out, call.func(*args, **kwargs)))
    return now.get(h, h)


def _pairs(before: Any, now: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """The tensors of a result as it was, each with what stands in its place now."""
    return zip(tensors_in(before), tensors_in(now), strict=True)


def _replaced(value: Any, now: dict[Tensor, Tensor]) -> Any:
    """A structure of arguments with what the block made replaced by what it makes now."""
    return tree_map_only(Tensor, lambda tensor: now.get(tensor, tensor), value)

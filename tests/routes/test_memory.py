"""The errors of receivers are worked out one by one, so the backward pass holds one at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fxbio.errors import ModelError
from fxbio.ops.error_port import inlet, label_inlet
from fxbio.rules.projection import Channel, Conv, Dense
from tests.routes.nets import transformed

SAMPLES, WIDTH, SIDE, DEPTH = 64, 32, 8, 10


class PeakMemory(TorchDispatchMode):
    """The most bytes that what was made inside took at one time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._alive: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {_storage(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and _storage(tensor) not in known:
                self._alive[_storage(tensor)] = tensor.untyped_storage().nbytes()
        self._alive = {ref: size for ref, size in self._alive.items() if not ref.expired()}
        self.peak = max(self.peak, sum(self._alive.values()))
        return out


def _storage(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())


def perceptron() -> nn.Module:
    layers = [nn.Linear(WIDTH, WIDTH) for _ in range(DEPTH)]
    return nn.Sequential(*(part for each in layers for part in (each, nn.Tanh())), nn.Linear(32, 3))


def convolutions() -> nn.Module:
    layers = [nn.Conv2d(4, 4, 3, padding=1) for _ in range(DEPTH)]
    body = [part for each in layers for part in (each, nn.Tanh())]
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(4 * SIDE**2, 3))


CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "perceptron": ("perceptron", "dfa", {}),
    "perceptron-sum": ("perceptron", "dfa", {"skip": "sum"}),
    "perceptron-labels": ("perceptron", "drtp", {}),
    "convolutions": ("convolutions", "dfa", {}),
    "convolutions-channel": ("convolutions", "dfa", {"projection": "channel"}),
    "convolutions-conv": (
        "convolutions",
        "dfa",
        {"at": "input", "projection": "conv", "skip": "sum"},
    ),
}
NETS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "perceptron": (perceptron, (16 * SAMPLES, WIDTH)),
    "convolutions": (convolutions, (SAMPLES, 4, SIDE, SIDE)),
}


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("case", CASES)
def test_the_peak_is_that_of_one_receiver(case: str, compiled: bool) -> None:
    net, rule, options = CASES[case]
    build, shape = NETS[net]
    x = torch.randn(shape)
    model = transformed(build(), x, rule, **options)
    run = torch.compile(model, backend="aot_eager", fullgraph=True) if compiled else model
    loss = F.cross_entropy(run(x), torch.arange(len(x)) % 3)
    with PeakMemory() as memory:
        loss.backward()
    torch._dynamo.reset()
    gradients = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    assert memory.peak > x.nbytes  # all receivers are of this size
    assert memory.peak < 3 * x.nbytes + gradients  # its error, and that on both sides of tanh


non_leaves = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")

OUTSIDE: dict[str, tuple[Any, tuple[int, ...], tuple[int, ...]]] = {
    "dense": (Dense(), (4, 6), (3, 6)),
    "by-position": (Dense(leading=2), (4, 5, 6), (3, 6)),
    "channel": (Channel(dim=1), (4, 6, 2, 2), (3, 6)),
    "conv": (Conv(stride=(1,), before=(1,), after=(1,), dilation=(1,)), (4, 6, 5), (3, 6, 3)),
}


@non_leaves
@pytest.mark.parametrize("case", OUTSIDE)
def test_an_inlet_has_the_shape_of_the_error_and_takes_no_memory(case: str) -> None:
    projection, shape, matrix = OUTSIDE[case]
    receiver, feedback = torch.randn(shape, requires_grad=True), torch.randn(matrix)
    arguments = (receiver, feedback, "unit", projection.spec())
    out = inlet(*arguments)
    assert out.shape == (*shape[: projection.leading], 3)
    assert out.untyped_storage().nbytes() == receiver.element_size()
    torch.library.opcheck(torch.ops.fxbio.inlet.default, arguments)
    with pytest.raises(ModelError, match=r"feedback matrix .* of 'unit' does not fit"):
        inlet(receiver, torch.randn(3, 7, *matrix[2:]), "unit", projection.spec())


@non_leaves
def test_a_classifier_learns_the_labels_that_come_in() -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    labels = torch.randn(4, 3).softmax(-1)
    for mean in (True, False):
        sent = labels / 4 if mean else labels
        [found] = torch.autograd.grad(label_inlet(logits, "unit", mean), logits, sent)
        loss = F.cross_entropy(logits, labels, reduction="mean" if mean else "sum")
        torch.testing.assert_close(found, torch.autograd.grad(loss, logits)[0])
    torch.library.opcheck(torch.ops.fxbio.label_inlet.default, (logits, "unit", True))

"""A named tuple, or a sequence packed in one, is one input wherever inputs are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import fxbio
from fxbio.models.default_inputs import default_inputs
from fxbio.models.inputs import as_example_inputs
from fxbio.viz import draw

FA = fxbio.Policy.uniform("fa")


class Pair(NamedTuple):
    one: Tensor
    other: Tensor


class Batch(list[Tensor]):
    """A type of the user's own."""


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.cell, self.out = nn.Linear(5, 6), nn.GRU(6, 4), nn.Linear(4, 2)

    def forward(self, packed: PackedSequence) -> Tensor:
        data = torch.tanh(self.embed(packed.data))
        order = (packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        result: Tensor = self.out(self.cell(PackedSequence(data, *order))[1][-1])
        return result


class Adding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Linear(5, 6), nn.Linear(6, 2)

    def forward(self, pair: Any) -> Tensor:
        result: Tensor = self.out(torch.tanh(self.embed(pair[0]) + pair[1]))
        return result


def packed() -> PackedSequence:
    return pack_sequence([torch.randn(4, 5), torch.randn(2, 5)], enforce_sorted=False)


def pair() -> Pair:
    return Pair(torch.randn(2, 5), torch.randn(2, 6))


def inferred(make: Callable[[], Any]) -> Callable[[], Any]:
    """Made where autograd does not take tensors from."""

    def made() -> Any:
        with torch.inference_mode():
            return make()

    return made


CASES = pytest.mark.parametrize(
    ("model", "make"),
    [
        pytest.param(Recurrent, packed, id="packed"),
        pytest.param(Adding, pair, id="named"),
        pytest.param(Adding, lambda: Batch(pair()), id="list"),
        pytest.param(Recurrent, inferred(packed), id="packed-inference"),
        pytest.param(Adding, inferred(pair), id="named-inference"),
    ],
)
LOOKS: dict[str, Callable[[nn.Module, Any], Any]] = {
    "capture": lambda model, given: fxbio.capture(model, given).sites,
    "plan": lambda model, given: fxbio.plan(model, FA, given).to_json(),
    "draw": lambda model, given: draw(model, FA, given),
    "audit": lambda model, given: fxbio.audit(model, given).records(),
    "similarity": lambda model, given: str(fxbio.analysis.similarity(model, model, given)),
}
MEASURES: dict[str, Callable[[nn.Module, Any], Any]] = {
    "verify": lambda model, given: fxbio.verify(model, given).ok,
    "audit": lambda model, given: fxbio.audit(model, given).records(),
    "alignment": lambda model, given: str(
        fxbio.alignment(model, given, torch.tensor([0, 1])).records()
    ),
}


@CASES
@pytest.mark.parametrize("look", LOOKS)
def test_it_is_one_argument_to_what_looks_at_a_model(
    model: type[nn.Module], make: Callable[[], Any], look: str
) -> None:
    """As a tuple with that one argument in it."""
    subject, given = model(), make()
    assert LOOKS[look](subject, given) == LOOKS[look](subject, (given,))


@CASES
@pytest.mark.parametrize("measure", MEASURES)
def test_it_is_one_argument_to_what_measures_a_transformed_model(
    model: type[nn.Module], make: Callable[[], Any], measure: str
) -> None:
    given = make()
    subject = fxbio.transform(model(), FA, given)
    assert fxbio.verify(subject).ok
    assert MEASURES[measure](subject, given) == MEASURES[measure](subject, (given,))


@pytest.mark.parametrize("make", [packed, pair])
def test_a_model_may_say_so_itself(make: Callable[[], Any]) -> None:
    subject = Recurrent()
    subject.example_inputs = make  # type: ignore[assignment]
    found = default_inputs(subject)
    assert found is not None
    assert len(found.args) == 1
    assert type(found.args[0]) is type(make())


@pytest.mark.parametrize("make", [packed, pair])
def test_tensors_of_inference_inside_are_copied(make: Callable[[], Any]) -> None:
    given = inferred(make)()
    (copied,) = as_example_inputs(given).args
    assert type(copied) is type(given)
    for mine, other in zip(copied, given, strict=True):
        assert not mine.is_inference()
        assert torch.equal(mine, other)


@pytest.mark.parametrize(("model", "make"), [(Recurrent, packed), (Adding, pair)])
def test_an_audit_sends_errors_to_what_is_packed(
    model: type[nn.Module], make: Callable[[], Any]
) -> None:
    """A first layer reads its weight for an error below it, which counts apart (``input_only``)."""
    (row,) = [r for r in fxbio.audit(model(), make()).rows if r.site == "embed"]
    assert (row.transport, row.input_only) == ("full", True)

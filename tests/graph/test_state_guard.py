"""Calls that only look leave the model as it was, also where its train() and eval() do more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing._internal.two_tensor import TwoTensor

import fxbio
from fxbio.analysis.similarity import similarity
from fxbio.errors import ModelError
from fxbio.graph.state_guard import Snapshot, preserved
from fxbio.viz import draw

POLICY = fxbio.Policy.uniform("fa")


class Switching(nn.Linear):
    """A layer that does something to itself whenever its mode changes."""

    def __init__(self) -> None:
        super().__init__(4, 4)
        self.a, self.b = nn.Parameter(torch.randn(2, 4)), nn.Parameter(torch.randn(4, 2))
        self.other = nn.Parameter(torch.randn(4, 4))
        self.shadow = {"weight": torch.randn(4, 4)}
        self.generator = torch.Generator().manual_seed(1)
        self.switched = False

    def train(self, mode: bool = True) -> Switching:
        super().train(mode)
        if mode == self.switched:
            self.switched = not mode
            self.switch(mode)
        return self

    def switch(self, mode: bool) -> None:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y if self.switched else y + (x @ self.a.T) @ self.b.T


class MergedInPlace(Switching):
    def switch(self, mode: bool) -> None:
        self.weight.data += (-1.0 if mode else 1.0) * (self.b @ self.a)


class MergedWithoutGradients(Switching):
    def switch(self, mode: bool) -> None:
        with torch.no_grad():
            self.weight.add_(self.b @ self.a, alpha=-1.0 if mode else 1.0)


class Assigned(Switching):
    def switch(self, mode: bool) -> None:
        self.weight.data = self.weight.data + self.b.data @ self.a.data


class Transposed(Switching):
    """The data begin at the same place afterwards."""

    def switch(self, mode: bool) -> None:
        self.weight.data = self.weight.data.T


class DataSwapped(Switching):
    def switch(self, mode: bool) -> None:
        self.weight.data, self.other.data = self.other.data, self.weight.data


class ParametersSwapped(Switching):
    def switch(self, mode: bool) -> None:
        self.weight, self.other = self.other, self.weight


class CopiedFromShadow(Switching):
    def switch(self, mode: bool) -> None:
        kept = self.weight.detach().clone()
        self.weight.data.copy_(self.shadow["weight"])
        self.shadow["weight"].copy_(kept)


class Frozen(Switching):
    def switch(self, mode: bool) -> None:
        self.bias.requires_grad_(mode)
        self.bias.grad = None


class Noisy(Switching):
    def switch(self, mode: bool) -> None:
        self.weight.data.add_(torch.randn(4, 4, generator=self.generator))


class Quantised(Switching):
    """Another module, and a buffer that was not there."""

    def switch(self, mode: bool) -> None:
        self.register_buffer("codes", self.weight.detach().round())
        self.helper = nn.Identity()


LAYERS = (
    MergedInPlace,
    MergedWithoutGradients,
    Assigned,
    Transposed,
    DataSwapped,
    ParametersSwapped,
    CopiedFromShadow,
    Frozen,
    Noisy,
    Quantised,
)


def inputs() -> Tensor:
    return torch.randn(5, 4, generator=torch.Generator().manual_seed(2))


LOOKS: dict[str, Callable[[nn.Module], Any]] = {
    "plan": lambda model: fxbio.plan(model, POLICY, inputs()),
    "capture": lambda model: fxbio.capture(model, inputs()),
    "transform": lambda model: fxbio.transform(model, POLICY, inputs()),
    "audit": lambda model: fxbio.audit(model, inputs()),
    "similarity": lambda model: similarity(model, model, inputs()),
}
AT_RULES: dict[str, Callable[[nn.Module], Any]] = {
    "verify": lambda model: fxbio.verify(model, inputs()),
    "alignment": lambda model: fxbio.alignment(model, inputs()),
    "audit": lambda model: fxbio.audit(model, inputs()),
    "graph": lambda model: draw(model),
}


def built(layer: type[Switching], *, training: bool) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(layer(), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    return model.train(training)


def everything(model: nn.Module) -> dict[str, Any]:
    """Every tensor bit by bit, and every attribute, in the mode that the model is in."""
    found: dict[str, Any] = {"random": torch.get_rng_state().tolist()}
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        found[name] = (id(tensor), tensor.data_ptr(), tensor.stride(), tensor.requires_grad)
        found[f"{name}.value"] = tensor.detach().numpy().tobytes()
        found[f"{name}.grad"] = (
            None if tensor.grad is None else (id(tensor.grad), float(tensor.grad.sum()))
        )
    for path, module in model.named_modules():
        found[f"{path} attributes"] = [
            (n, id(v)) for n, v in vars(module).items() if n != "training"
        ]
        found[f"{path} mode"] = module.training
        if isinstance(module, Switching):
            found[f"{path} shadow"] = module.shadow["weight"].tolist()
            found[f"{path} generator"] = module.generator.get_state().tolist()
            found[f"{path} switched"] = module.switched
    return found


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("look", [name for name in LOOKS if name != "capture"])  # plan captures
@pytest.mark.parametrize("layer", LAYERS)
def test_looking_changes_nothing(layer: type[Switching], look: str, training: bool) -> None:
    model = built(layer, training=training)
    before = everything(model)
    LOOKS[look](model)
    assert everything(model) == before


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("look", AT_RULES)
@pytest.mark.parametrize("layer", [MergedInPlace, Transposed, ParametersSwapped, CopiedFromShadow])
def test_looking_at_rules_changes_nothing(
    layer: type[Switching], look: str, training: bool
) -> None:
    model = built(layer, training=training)
    fxbio.transform(model, POLICY, inputs(), inplace=True)
    before = everything(model)
    AT_RULES[look](model)
    assert everything(model) == before


@pytest.mark.parametrize("layer", [MergedInPlace, DataSwapped, ParametersSwapped])
def test_a_train_that_fails_half_way_is_undone(layer: type[Switching]) -> None:
    class Failing(layer):  # type: ignore[misc,valid-type]
        def switch(self, mode: bool) -> None:
            super().switch(mode)
            if mode:
                raise RuntimeError("half way")

    model = built(Failing, training=False)
    before = everything(model)
    with pytest.raises(Exception, match="half way"):
        fxbio.plan(model, POLICY, inputs())
    assert everything(model) == before


@pytest.mark.parametrize("watched", [True, False])
def test_writes_into_wrapped_tensors_are_undone(watched: bool) -> None:
    layer = nn.Linear(4, 4)
    wrapped = TwoTensor(layer.weight.detach().clone(), layer.weight.detach().clone())
    layer.weight = nn.Parameter(wrapped)
    before = wrapped.a.clone()
    with preserved(Snapshot(layer), watched=watched), torch.no_grad():
        layer.weight.add_(1.0)
    assert torch.equal(layer.weight.a, before)
    assert torch.equal(layer.weight.b, before)


@pytest.mark.parametrize("watched", [True, False])
def test_writes_of_a_forward_are_undone(watched: bool) -> None:
    class Clipping(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            self.weight.data.clamp_(-0.1, 0.1)
            x.mul_(2.0)
            return super().forward(x)

    layer, x = Clipping(4, 4), inputs()
    weight = layer.weight.detach().clone()
    with preserved(Snapshot(layer, (x,)), watched=watched):
        layer(x)
    assert torch.equal(layer.weight, weight)
    assert torch.equal(x, inputs())


CALLS_SEEN: list[str] = []


def test_code_of_the_user_runs_and_what_it_counts_elsewhere_stays_counted() -> None:
    model, own = built(Frozen, training=True), []
    model.register_forward_hook(lambda *_: CALLS_SEEN.append("hook"))
    model.register_forward_hook(lambda *_: own.append("hook"))
    CALLS_SEEN.clear()
    transformed = fxbio.transform(model, POLICY, inputs())
    assert len(CALLS_SEEN) >= 2
    assert own == []
    transformed(inputs())
    assert own == ["hook"]


# Inference mode


def made_in_inference_mode() -> nn.Module:
    with torch.inference_mode():
        return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))


def with_a_buffer_made_in_inference_mode() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    with torch.inference_mode():
        model[1].running_mean = torch.zeros(4)
    return model


@pytest.mark.parametrize("look", ["plan", "capture", "transform", "audit"])
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (made_in_inference_mode, "0.weight"),
        (with_a_buffer_made_in_inference_mode, "1.running_mean"),
    ],
)
def test_tensors_of_inference_mode_are_named(
    make: Callable[[], nn.Module], name: str, look: str
) -> None:
    with pytest.raises(ModelError, match=f"'{name}' was made under torch.inference_mode") as caught:
        LOOKS[look](make())
    assert "build the model outside" in str(caught.value)
    assert "example input" not in str(caught.value)


@pytest.fixture(params=["inside", "inputs"])
def inference(request: pytest.FixtureRequest) -> Iterator[Tensor]:
    """Inputs that were made in inference mode; or the whole call is made in it."""
    with torch.inference_mode():
        x = inputs()
        if request.param == "inside":
            yield x
    if request.param == "inputs":
        yield x


def test_inference_mode_around_a_call_does_not_matter(inference: Tensor) -> None:
    with torch.inference_mode(False):
        model = built(Frozen, training=True)
    plan = fxbio.plan(model, POLICY, inference)
    assert len(plan.rewritten()) >= 3
    transformed = fxbio.transform(model, POLICY, inference)
    assert not any(t.is_inference() for t in chain(transformed.parameters(), transformed.buffers()))
    assert fxbio.verify(transformed, inference).ok
    found = fxbio.alignment(transformed, inference)
    assert all(row.backprop_norm for row in found.rows)
    assert fxbio.audit(transformed, inference).rows


def test_one_snapshot_serves_several_passes() -> None:
    layer, x = nn.Linear(4, 4), inputs()
    layer.tags = ["first"]
    weight = layer.weight.detach().clone()
    before = Snapshot(layer, (x,))
    for watched in (False, True, True, False):
        with preserved(before, watched=watched), torch.no_grad():
            assert torch.equal(layer.weight, weight)
            assert layer.tags == ["first"]
            layer.weight.add_(1.0)
            layer.weight.data.mul_(2.0)
            layer.tags.append("more")
            x.zero_()
    assert torch.equal(layer.weight, weight)
    assert torch.equal(x, inputs())
    assert layer.tags == ["first"]


def test_classes_without_a_module_are_looked_into_like_others() -> None:
    class Meta(type):
        __module__ = property(lambda cls: cls)  # type: ignore[assignment]

    class Odd(metaclass=Meta):
        pass

    layer = nn.Linear(4, 4)
    layer.odd, layer.kind = Odd(), Odd
    with preserved(Snapshot(layer)):
        del layer.odd
    assert isinstance(layer.odd, Odd)

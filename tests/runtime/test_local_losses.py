"""Local losses count once for each update, whatever happens between two updates."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint_sequential

import fxbio
from fxbio.errors import ModelError
from tests.runtime.learning import OPTIONS, batch, feedback_of, loss_of, train, transformed

TAUGHT = ["aa", "ia", "sa", "wm"]
"""Rules with a loss of their own."""
every_rule = pytest.mark.parametrize("rule", [name for name in OPTIONS if name != "fbp"])
every_taught = pytest.mark.parametrize("rule", TAUGHT)


def gradients(model: nn.Module) -> dict[str, Tensor | None]:
    return {
        name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()
    }


def backward(model: nn.Module, x: Tensor, parts: int = 1) -> dict[str, Tensor | None]:
    """Gradients of a batch in equal parts, from none."""
    model.zero_grad()
    for part in x.chunk(parts):
        (loss_of(model(part)) / parts).backward()
    return gradients(model)


def agree(one: dict[str, Tensor | None], other: dict[str, Tensor | None]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-6, msg=name)


@every_rule
@pytest.mark.parametrize("parts", [2, 4])
def test_micro_batches_equal_one_batch(rule: str, parts: int) -> None:
    model = transformed(rule)
    wanted = backward(model, batch())  # thrown away before the parts
    agree(backward(model, batch(), parts), wanted)


@every_rule
@pytest.mark.parametrize("to_none", [True, False])
def test_accumulation_in_training_equals_one_batch(rule: str, to_none: bool) -> None:
    whole, parts = transformed(rule), transformed(rule)
    for model, count, forget in ((whole, 1, True), (parts, 2, to_none)):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.5, weight_decay=0.1)
        for number in range(4):
            optimizer.zero_grad(set_to_none=forget)
            for part in batch(number).chunk(count):
                (loss_of(model(part)) / count).backward()
            optimizer.step()
    for name, mine in feedback_of(parts).items():
        torch.testing.assert_close(mine, feedback_of(whole)[name], rtol=1e-4, atol=1e-5)


@every_rule
@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_counts_once(rule: str, reentrant: bool) -> None:
    model, x = transformed(rule), batch().requires_grad_()
    wanted = backward(model, x)
    model.zero_grad()
    loss_of(checkpoint_sequential(model, 3, x, use_reentrant=reentrant)).backward()
    agree(gradients(model), wanted)


@every_taught
def test_the_size_of_the_loss_does_not_matter(rule: str) -> None:
    model = transformed(rule)
    wanted = backward(model, batch())
    model.zero_grad()
    (100 * loss_of(model(batch()))).backward()
    for name, found in gradients(model).items():
        if "fxbio" in name:
            assert torch.equal(found, wanted[name])  # type: ignore[arg-type]


@every_taught
def test_a_gradient_that_is_thrown_away_is_added_again(rule: str) -> None:
    model = transformed(rule)
    agree(backward(model, batch()), backward(model, batch()))


def test_the_noise_of_mirrors_changes_with_updates_only() -> None:
    model = transformed("wm")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    name = "0.fxbio_feedback_0"
    first = backward(model, batch())[name]
    assert torch.equal(backward(model, batch(5))[name], first)  # type: ignore[arg-type]
    before = copy.deepcopy(model.state_dict())
    optimizer.step()
    model.load_state_dict(before)
    assert not torch.equal(backward(model, batch())[name], first)  # type: ignore[arg-type]


def saved_whole(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded: nn.Module = torch.load(file, weights_only=False)
    return loaded


@every_rule
@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), saved_whole],
    ids=["deepcopy", "pickle", "torch.save"],
)
def test_copies_learn_each_for_itself(rule: str, copied: Callable[[nn.Module], nn.Module]) -> None:
    original = transformed(rule)
    train(original, torch.optim.SGD(original.parameters(), lr=0.1, weight_decay=0.1), steps=2)
    twin, before = copied(original), feedback_of(original)
    for model in (twin, original):
        train(model, torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1), 2, steps=2)
        if model is twin:
            assert all(torch.equal(b, before[n]) for n, b in feedback_of(original).items())
    for name, mine in feedback_of(twin).items():
        assert torch.equal(mine, feedback_of(original)[name]), name


@every_taught
def test_casts_keep_the_loss(rule: str) -> None:
    model = transformed(rule)
    wanted = backward(model, batch())
    found = backward(model.double(), batch().double())
    for name, gradient in wanted.items():
        assert gradient is not None
        torch.testing.assert_close(found[name], gradient.double(), rtol=1e-4, atol=1e-5)


@every_taught
def test_exchanged_parameters_keep_the_loss(rule: str) -> None:
    model, other = transformed(rule), transformed(rule)
    wanted = backward(model, batch())
    model.load_state_dict(other.state_dict(), assign=True)
    agree(backward(model, batch()), wanted)


@every_taught
def test_verify_leaves_the_count_alone(rule: str) -> None:
    model = transformed(rule)
    wanted = backward(model, batch(), 2)
    model.zero_grad()
    (loss_of(model(batch()[:4])) / 2).backward()
    assert fxbio.verify(model).ok
    (loss_of(model(batch()[4:])) / 2).backward()
    agree(gradients(model), wanted)


@every_taught
def test_a_tied_weight_has_one_feedback_that_learns_once(rule: str) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.second(torch.tanh(self.first(x)))
            return result

    x = torch.randn(6, 4)
    model = fxbio.transform(Tied(), fxbio.Policy.uniform(rule, **OPTIONS[rule]), (x,))
    assert model.first.fxbio_feedback_0 is model.second.fxbio_feedback_0
    twin = copy.deepcopy(model)
    assert twin.first.fxbio_feedback_0 is twin.second.fxbio_feedback_0
    one, other = backward(model, x), backward(twin, x, 2)
    agree(one, other)


@every_taught
def test_float16_autocast_is_refused(rule: str) -> None:
    model = transformed(rule)
    with (
        torch.autocast("cpu", torch.float16),
        pytest.raises(ModelError, match="cannot learn under float16 autocast") as caught,
    ):
        model(batch())
    assert "bfloat16" in str(caught.value)
    with torch.autocast("cpu", torch.float16), torch.no_grad():
        model(batch())


@every_taught
def test_so_it_is_of_a_compiled_model(rule: str) -> None:
    torch._dynamo.reset()
    run = torch.compile(transformed(rule), backend="aot_eager", fullgraph=True)
    loss_of(run(batch())).backward()
    with (
        torch.autocast("cpu", torch.float16),
        pytest.raises(Exception, match="cannot learn under float16 autocast"),
    ):
        run(batch())
    torch._dynamo.reset()


@pytest.mark.parametrize("rule", ["kp", "pfa"])
def test_tied_feedback_runs_under_float16_autocast(rule: str) -> None:
    model = transformed(rule)
    with torch.autocast("cpu", torch.float16):
        loss = loss_of(model(batch()))
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())


@every_taught
def test_parameters_from_elsewhere_are_refused(rule: str) -> None:
    model = transformed(rule)
    given = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    with pytest.raises(ModelError, match="is not the module's own parameter"):
        torch.func.functional_call(model, given, (batch(),))
    stock = {name: value for name, value in given.items() if "fxbio" not in name}
    loss_of(torch.func.functional_call(model, stock, (batch(),))).backward()
    assert model[0].fxbio_feedback_0.grad.any()


@every_taught
@pytest.mark.parametrize("given", [nn.Parameter, lambda p: p.requires_grad_() * 1.0])
def test_so_are_new_parameters_and_what_is_made_of_some(
    rule: str, given: Callable[[Tensor], Tensor]
) -> None:
    model = transformed(rule)
    others = {name: given(p.detach().clone()) for name, p in model.named_parameters()}
    with pytest.raises(ModelError, match="is not the module's own parameter"):
        loss_of(torch.func.functional_call(model, others, (batch(),))).backward()


@every_rule
def test_backprop_leaves_the_feedback_alone(rule: str) -> None:
    model = transformed(rule)
    with fxbio.backprop(model):
        found = backward(model, batch())
    assert all((gradient is None) == ("fxbio" in name) for name, gradient in found.items())


@every_rule
def test_revert_takes_parameters_and_hooks_away(rule: str) -> None:
    model = transformed(rule)
    kept = [p for n, p in model.named_parameters() if "fxbio" in n]
    fxbio.revert(model)
    assert not feedback_of(model)
    assert not any(p._backward_hooks for p in kept)
    for module in model.modules():
        assert not any("fxbio" in name for name in vars(module))
        assert not module._load_state_dict_pre_hooks
        assert not module._load_state_dict_post_hooks


def test_a_compiled_model_learns_once_for_each_update() -> None:
    plain, compiled = transformed("wm"), transformed("wm")
    torch._dynamo.reset()
    run = torch.compile(compiled, backend="aot_eager", fullgraph=True)
    for model, forward in ((plain, plain), (compiled, run)):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
        for number in range(3):
            optimizer.zero_grad()
            for part in batch(number).chunk(2):
                (loss_of(forward(part)) / 2).backward()
            optimizer.step()
    torch._dynamo.reset()
    for name, mine in feedback_of(compiled).items():
        torch.testing.assert_close(mine, feedback_of(plain)[name], rtol=1e-4, atol=1e-5)

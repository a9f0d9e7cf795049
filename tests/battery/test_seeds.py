"""Feedback comes from the seed and the name of the weight, and from nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import fxbio
from tests.battery.cases import CASES
from tests.battery.harness import combinations, feedback_parts, policy_of, subject
from tests.battery.rules import RULES

X = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
DRAWING = ["fa", "frsf", "brsf", "kp", "pfa", "pfa-o"]


def stack(*names: str, width: int = 8) -> nn.Sequential:
    """Linear layers in the order of their names."""
    model = nn.Sequential()
    for name in names:
        model.add_module(name, nn.Linear(width, width))
    return model


def feedback(model: nn.Module, rule: str, seed: int = 3) -> dict[str, Tensor]:
    """``B`` with the forward weights out of the way."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    policy = fxbio.Policy.from_yaml(f"version: 1\nseed: {seed}\ndefault: {rule}\n")
    return fxbio.feedback_weights(fxbio.transform(model, policy, (X,)))


@pytest.mark.parametrize("rule", DRAWING)
def test_order_and_company_do_not_matter(rule: str) -> None:
    one, other = feedback(stack("a", "b", "c"), rule), feedback(stack("c", "a"), rule)
    assert torch.equal(one["a.weight"], other["a.weight"])
    assert torch.equal(one["c.weight"], other["c.weight"])
    assert not torch.equal(one["a.weight"], one["b.weight"])


@pytest.mark.parametrize("rule", DRAWING)
def test_another_seed_gives_other_feedback(rule: str) -> None:
    one, same, other = (feedback(stack("a"), rule, seed)["a.weight"] for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("rule", DRAWING)
def test_the_dtype_of_the_model_only_rounds(rule: str) -> None:
    with torch.random.fork_rng():
        double = stack("a").double()
        policy = policy_of(rule)
        wide = fxbio.transform(double, policy, (X.double(),))
        narrow = fxbio.transform(double.float(), policy, (X,))
    a, b = (fxbio.feedback_weights(m)["a.weight"] for m in (wide, narrow))
    assert a.dtype == torch.float64
    torch.testing.assert_close(a.float(), b)


@pytest.mark.parametrize("rule", RULES)
def test_the_random_state_of_the_user_is_left_alone(rule: str) -> None:
    model = stack("a")
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one = fxbio.transform(model, policy_of(rule), (X,))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    two = fxbio.transform(model, policy_of(rule), (X,))
    for name, matrix in fxbio.feedback_weights(one).items():
        assert torch.equal(matrix, fxbio.feedback_weights(two)[name])


def test_a_shared_layer_has_one_feedback() -> None:
    model = subject("fa", "shared").transformed()
    assert set(fxbio.feedback_weights(model)) == {"body.layer.weight"}
    assert len([name for name, _ in model.named_buffers()]) == 1


class Tied(nn.Module):
    """Two layers with one weight, one of which is also applied by their parent."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.second(torch.tanh(self.first(x))))
        return nn.functional.linear(hidden, self.second.weight)


@pytest.mark.parametrize("rule", ["fa", "brsf"])
def test_tied_weights_have_one_feedback(rule: str) -> None:
    model = fxbio.transform(Tied(), policy_of(rule), (X,))
    assert set(fxbio.feedback_weights(model)) == {"first.weight"}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        model(X).square().sum().backward()
        optimizer.step()
        copies = [b for name, b in model.named_buffers() if "fxbio_feedback" in name]
        assert all(torch.equal(copies[0], other) for other in copies)


@pytest.mark.parametrize(("rule", "case"), [c for c in combinations() if c[0] != "bp"])
def test_feedback_weights_are_those_in_use(rule: str, case: str) -> None:
    model = subject(rule, case).transformed()
    found, stored = fxbio.feedback_weights(model), feedback_parts(model)
    body, parameters = dict(model.body.named_parameters()), dict(model.named_parameters())
    for short in CASES[case].weights:
        weight = body.get(short, None if CASES[case].computed else getattr(model.body, short, None))
        parts = stored[f"body.{short}"]
        part = parts.whole(RULES[rule], parameters)
        matrix = None if weight is None else RULES[rule].feedback(weight.detach(), part)
        if CASES[case].computed and rule != "fa" and not RULES[rule].learns:
            matrix = None  # it depends on a weight that exists only inside the forward
        if CASES[case].table:
            matrix = None  # nothing goes below it
        if matrix is None:
            assert f"body.{short}" not in found
        else:
            torch.testing.assert_close(found[f"body.{short}"], matrix * parts.scale)

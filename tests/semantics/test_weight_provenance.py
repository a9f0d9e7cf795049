"""What is made of a weight, and what its feedback becomes: capture, lowering and scopes agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxbio.semantics.weight_provenance import Followed, follow
from fxbio.verification.probe import OpProbe
from tests.passes.program import program_of, run
from tests.passes.test_emit_graphs import EMIT
from tests.routes.nets import policy

Made = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A weight of two parameters and a buffer, each 4 × 6."""


class Applies(nn.Module):
    """A linear map with a weight that is made of two parameters and a buffer."""

    def __init__(self, made: Made) -> None:
        super().__init__()
        self.one, self.two = (nn.Parameter(torch.randn(4, 6)) for _ in range(2))
        self.register_buffer("fixed", torch.randn(4, 6))
        self.made = made

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(F.linear(x, self.made(self.one, self.two, self.fixed)))


class Uneven(nn.Module):
    """One weight, put together of parameters of several sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.randn(2, 6))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(F.linear(x, torch.cat([self.one, self.two])))


def feedbacks(model: nn.Module, x: Tensor) -> list[Tensor]:
    """The feedback of every call of a rule op."""
    probe = OpProbe(lambda tensor: frozenset())
    with probe:
        model(x)
    return [call.arguments["feedback"] for call in probe.calls]


def installed_and_emitted(model: nn.Module) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """The feedback that reaches the one weight, and the shape that it was drawn in."""
    x = torch.randn(3, 6)
    on = program_of(model, x, policy("fa"))
    bound = run(EMIT, on)
    (site,) = on.graph.sites
    (mine,), (theirs,) = feedbacks(bound, x), feedbacks(on.emitted[""], x)
    return mine, theirs, site.feedback_shape


CASES: dict[str, tuple[Made, Any]] = {
    "itself": (lambda a, b, m: a, lambda B, m: B),
    "rows": (lambda a, b, m: a[1:3], lambda B, m: B[1:3]),
    "arithmetic": (lambda a, b, m: a / (1 + a.norm()) + m, lambda B, m: B),
    "as a mask says": (lambda a, b, m: a * m.sign(), lambda B, m: B),
    "both": (lambda a, b, m: torch.cat([a, b]), lambda B, m: torch.cat([B, B])),
    "with a constant": (lambda a, b, m: torch.cat([a, m]), lambda B, m: torch.cat([B, m])),
    "in the shape of a constant": (lambda a, b, m: a.view_as(m), lambda B, m: B),
    "of which one gives its shape": (lambda a, b, m: b + torch.zeros_like(a), lambda B, m: B),
    "a constant in front": (lambda a, b, m: m + a, lambda B, m: B),
    "repeated": (lambda a, b, m: a.repeat(2, 1), lambda B, m: B.repeat(2, 1)),
}


@pytest.mark.parametrize("case", CASES)
def test_feedback_becomes_what_the_weight_becomes(case: str) -> None:
    made, expected = CASES[case]
    model = Applies(made)
    mine, theirs, shape = installed_and_emitted(model)
    assert shape == (4, 6)
    drawn = next(b for name, b in model.named_buffers() if "feedback" in name)
    assert torch.equal(mine, expected(drawn, model.fixed))
    assert torch.equal(theirs, mine)


NEW: dict[str, Made] = {
    "a product": lambda a, b, m: a @ b.T @ torch.ones(4, 6),
    "a product beside the weight": lambda a, b, m: torch.cat([a, a @ b.T @ torch.ones(4, 6)]),
    "a sum of rows": lambda a, b, m: a.sum(0, keepdim=True),
}


@pytest.mark.parametrize("case", NEW)
def test_what_not_all_weights_reach_is_a_new_weight(case: str) -> None:
    model = Applies(NEW[case])
    mine, theirs, shape = installed_and_emitted(model)
    weight = model.made(model.one, model.two, model.fixed)
    assert shape == tuple(weight.shape) == tuple(mine.shape)
    assert torch.equal(theirs, mine)


def test_no_part_of_a_weight_is_its_own_feedback() -> None:
    model = Uneven()
    mine, theirs, shape = installed_and_emitted(model)
    assert shape == (6, 6)
    assert torch.equal(theirs, mine)
    assert not torch.equal(mine[4:], model.two)


def weight(twin: str | None, shape: tuple[int, ...] = (4, 6)) -> Followed[str]:
    return Followed(shape, True, twin)


CONSTANT = Followed[str]((4, 6), False, "no feedback of a constant")


@pytest.mark.parametrize(
    ("function", "operands", "expected"),
    [
        (torch.cat, [weight("B"), CONSTANT], "moved"),
        (torch.cat, [weight("B"), weight(None)], None),
        (torch.cat, [CONSTANT], None),
        (torch.add, [CONSTANT, weight("B")], "B"),
        (torch.add, [weight(None), weight("B")], "B"),
        (torch.add, [weight("A", (6,)), weight("B")], "B"),
        (torch.add, [weight("A", (6,))], None),
        (torch.add, [CONSTANT], None),
    ],
)
def test_one_function_decides(
    function: Any, operands: list[Followed[str]], expected: str | None
) -> None:
    assert follow(function, operands, [(4, 6)], lambda: ["moved"]) == [expected]


def test_results_are_followed_one_by_one() -> None:
    shapes = [(2, 6), (4, 6)]
    assert follow(torch.chunk, [weight("B")], shapes, lambda: ["b", "c"]) == ["b", "c"]
    assert follow(torch.linalg.svd, [weight("B")], shapes, lambda: []) == [None, "B"]

"""What a model did, what it should have done, and whether the two agree."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

import fxbio
from fxbio.runtime.install import bound_modules
from fxbio.runtime.module_state import binding_of
from tests.battery.cases import CASES, Case
from tests.battery.modules import Model
from tests.battery.rules import OF_TABLES, RULES, RuleLine

__all__ = [
    "Outcome",
    "Subject",
    "combinations",
    "differs",
    "feedback_parts",
    "loss_of",
    "measure",
    "policy_of",
    "reference",
    "subject",
]

SEED = 3
EXACT = {"rtol": 1e-4, "atol": 1e-6}
ROUNDED = {"rtol": 4e-2, "atol": 2e-2}
"""Tolerances: of float32, and of bfloat16."""


@dataclass(frozen=True)
class Outcome:
    """One forward and backward pass."""

    output: Tensor
    gradients: dict[str, Tensor | None]
    """By the name of the parameter, and ``input``."""

    def check_output(self, expected: Outcome, *, bitwise: bool = True) -> None:
        """The outputs agree."""
        if bitwise:
            assert torch.equal(self.output, expected.output), "the forward pass differs"
        else:
            torch.testing.assert_close(self.output, expected.output, **EXACT)

    def check_gradients(self, expected: Outcome, tolerance: dict[str, float] = EXACT) -> None:
        """The gradients agree.

        Where there should be none there may be zeros: some kernels of torch, fused attention among
        them, answer an absent error with zeros.
        """
        assert self.gradients.keys() == expected.gradients.keys()
        for name, wanted in expected.gradients.items():
            found = self.gradients[name]
            if wanted is None:
                assert found is None or not found.any(), f"{name} has a gradient"
            else:
                assert found is not None, f"{name} has no gradient"
                size = max(float(wanted.abs().max()), 1e-9)
                try:
                    torch.testing.assert_close(found / size, wanted / size, **tolerance)
                except AssertionError as error:
                    raise AssertionError(f"gradient of {name}: {error}") from None

    def differs_upstream(self, other: Outcome) -> bool:
        """Whether the gradient of the parameter below all rules is another one."""
        mine, theirs = self.gradients["gain"], other.gradients["gain"]
        if mine is None or theirs is None:
            return mine is not theirs
        return not torch.allclose(mine, theirs, rtol=1e-2, atol=0.1 * float(theirs.abs().max()))


@dataclass(frozen=True)
class Subject:
    """A rule on a case, with what it must do."""

    rule: str
    case: Case
    expected: Outcome
    """By the reference, in float32 on the case's example."""
    stock: Outcome
    """Of the model before it was transformed."""

    def transformed(self) -> Model:
        """A new transformed model: a copy, because planning anew would take most of the time."""
        return copy.deepcopy(_transformed(self.rule, self.case.name))

    def check(
        self, found: Outcome, tolerance: dict[str, float] = EXACT, *, bitwise: bool = True
    ) -> None:
        """The forward pass is the stock model's and the gradients are the rule's."""
        found.check_output(self.stock, bitwise=bitwise)
        found.check_gradients(self.expected, tolerance)
        assert found.differs_upstream(self.stock) == differs(self.rule, self.case)


def differs(rule: str, case: Case) -> bool:
    """Whether the error below the weights of a case differs from backprop's."""
    return RULES[rule].differs and not case.table


def loss_of(output: Tensor) -> Tensor:
    """A mean over the batch whose error depends on the output."""
    return (output.float() - 0.3).square().mean()


def measure(run: Callable[..., Tensor], model: nn.Module, x: Tensor) -> Outcome:
    """One forward and backward pass of ``run``, with the gradients of ``model``."""
    x = x.clone().requires_grad_()
    parameters = dict(model.named_parameters())
    for parameter in parameters.values():
        parameter.grad = None
    output = run(x)
    loss_of(output).backward()
    gradients = {name: p.grad for name, p in parameters.items()} | {"input": x.grad}
    return Outcome(output.detach(), gradients)


def reference(model: Model, rule: str, case: Case, x: Tensor) -> Outcome:
    """The same by plain functions and autograd, from the drawn feedback of ``model``."""
    line = RULES[rule]
    leaves = {
        name: p.detach().clone().requires_grad_(p.requires_grad)
        for name, p in model.named_parameters(remove_duplicate=False)
    }
    paths = {
        weight: (parts.whole(line, leaves), parts.scale)
        for weight, parts in feedback_parts(model).items()
    }
    local: list[Tensor] = []

    def cross(
        name: str,
        function: Callable[[Tensor, Tensor], Tensor],
        x: Tensor,
        weight: Tensor,
        part: Callable[[Tensor], Tensor] = lambda whole: whole,
    ) -> Tensor:
        whole, scale = paths.get(f"body.{name}", (None, 1.0))
        stored = None if whole is None else part(whole)
        matrix = line.feedback(weight.detach(), stored)
        exact = function(x.detach(), weight)
        if matrix is None:
            return exact
        if line.activity_loss is not None:
            local.append(line.activity_loss(x.detach(), weight.detach(), matrix, function))
        if line.loss is not None or line.activity_loss is not None:
            matrix = matrix.detach()
        carrier = function(x, matrix * scale)
        return exact + (carrier - carrier.detach())

    x = x.clone().requires_grad_()
    body = {n.removeprefix("body."): p for n, p in leaves.items() if n.startswith("body.")}
    output = case.reference(body, cross, x * leaves["gain"])
    if line.loss is not None:
        weights = {name: weight_named(model, name) for name in paths}
        local += [
            line.loss(weights[name], whole)
            for name, (whole, _) in paths.items()
            if whole is not None
        ]
    (loss_of(output) + sum(local)).backward()
    gradients = {name: p.grad for name, p in leaves.items()} | {"input": x.grad}
    return Outcome(output.detach(), gradients)


@dataclass(frozen=True)
class Parts:
    """What is stored of one feedback."""

    drawn: Tensor | None
    learned: str | None
    """Name of the parameter."""
    shape: tuple[int, ...]
    scale: float

    def whole(self, line: RuleLine, parameters: dict[str, Tensor]) -> Tensor | None:
        """The stored feedback in the shape of the weight."""
        if self.learned is None:
            return self.drawn
        if self.drawn is None or line.path is None:
            return parameters[self.learned]
        return line.path(self.drawn, parameters[self.learned], self.shape)


def feedback_parts(model: nn.Module) -> dict[str, Parts]:
    """What is stored of each feedback, by the name of the weight."""
    found = {}
    for path, module in bound_modules(model):
        for bound in binding_of(module).weights:
            drawn: Any = None if bound.feedback is None else getattr(module, bound.feedback)
            learned = None if bound.learned is None else f"{path}.{bound.learned}".lstrip(".")
            found[bound.weight] = Parts(drawn, learned, bound.shape, bound.scale)
    return found


def weight_named(model: nn.Module, name: str) -> Tensor:
    """A weight as the attribute of that name serves it."""
    value: Any = model
    for part in name.split("."):
        value = getattr(value, part)
    return value.detach()  # type: ignore[no-any-return]


def policy_of(rule: str) -> fxbio.Policy:
    """One rule for every site."""
    options = RULES[rule].options if rule in RULES else ""
    default = f"{{rule: {rule}, with: {{{options}}}}}"
    content = f"version: 1\nseed: {SEED}\ndefault: {default}\n"
    if rule in OF_TABLES:
        where = "where: {op: embedding}, allow_unmatched: true"
        content += f"rules: [{{{where}, rule: {rule}}}]\n"
    return fxbio.Policy.from_yaml(content)


@cache
def _transformed(rule: str, name: str) -> Model:
    case = CASES[name]
    model = fxbio.transform(case.build(), policy_of(rule), (case.example(2),), inplace=True)
    assert isinstance(model, Model)
    return model


@cache
def subject(rule: str, name: str) -> Subject:
    """A combination, with its expected outcome; computed once."""
    case = CASES[name]
    stock = case.build()
    before = measure(stock, stock, case.example())
    blank = Subject(rule, case, before, before)
    expected = reference(blank.transformed(), rule, case, case.example())
    return Subject(rule, case, expected, before)


def combinations() -> list[tuple[str, str]]:
    """Every rule with every case that it can serve."""
    return [
        (rule, name)
        for rule, line in RULES.items()
        for name, case in CASES.items()
        if not (line.reads_weight and case.computed)
        and name not in line.without
        and (rule in OF_TABLES or not case.table)
    ]

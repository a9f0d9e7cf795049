"""Feedback has the dtype of its weight; complex weights, and integers as such, are named."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxbio
from fxbio.errors import PolicyError, UnreachableWeightError

FA = fxbio.Policy.uniform("fa")


def inputs(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(4, 6, generator=torch.Generator().manual_seed(1)).to(dtype)


class Spectral(nn.Module):
    """Real layers around a complex weight."""

    def __init__(self, apply: Callable[[Tensor, Tensor], Tensor], *, pairs: bool = False) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.lift, self.head, self.apply_weight = nn.Linear(6, 5), nn.Linear(5, 3), apply
        numbers = torch.randn(5, 5, 2)
        self.w = nn.Parameter(numbers if pairs else torch.view_as_complex(numbers))

    def forward(self, x: Tensor) -> Tensor:
        out = self.apply_weight(self.lift(x), self.w)
        return self.head(out.real if out.is_complex() else out)


def as_complex(h: Tensor) -> Tensor:
    return torch.complex(h, 0.5 * h)


def convolved(h: Tensor, w: Tensor) -> Tensor:
    return F.conv1d(as_complex(h)[:, None], w[:1, None, :3], padding=1)[:, 0]


COMPLEX: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "matmul": lambda h, w: as_complex(h) @ w,
    "weight on the left": lambda h, w: (w @ as_complex(h).T).T,
    "mm": lambda h, w: torch.mm(as_complex(h), w),
    "addmm": lambda h, w: torch.addmm(as_complex(h), as_complex(h), w),
    "einsum": lambda h, w: torch.einsum("bi,io->bo", as_complex(h), w),
    "linear": lambda h, w: F.linear(as_complex(h), w),
    "conv": convolved,
    "conjugate": lambda h, w: as_complex(h) @ w.conj().T,
    "real part": lambda h, w: h @ w.real,
}
PAIRS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "view_as_complex": lambda h, w: as_complex(h) @ torch.view_as_complex(w),
    "torch.complex": lambda h, w: as_complex(h) @ torch.complex(w[..., 0], w[..., 1]),
}
WAYS = [*((way, False) for way in COMPLEX), *((way, True) for way in PAIRS)]


def spectral(way: str, pairs: bool) -> Spectral:
    return Spectral((PAIRS if pairs else COMPLEX)[way], pairs=pairs)


@pytest.mark.parametrize(("way", "pairs"), WAYS)
def test_complex_weights_keep_bp_with_the_reason(way: str, pairs: bool) -> None:
    plan = fxbio.plan(spectral(way, pairs), FA, inputs())
    rules = {assignment.site.name: assignment for assignment in plan.assignments}
    assert {name: a.rule for name, a in rules.items()} == {"lift": "fa", "w": "bp", "head": "fa"}
    assert "complex" in (rules["w"].site.unreachable or "")


@pytest.mark.parametrize(("way", "pairs"), WAYS)
def test_an_entry_that_asks_for_a_complex_weight_is_refused(way: str, pairs: bool) -> None:
    entry = (
        "version: 1\ndefault: bp\nrules:\n  - {where: {op: [matmul, linear, conv1d]}, rule: fa}\n"
    )
    with pytest.raises(UnreachableWeightError, match=r"'w'(.|\n)*the weight is complex"):
        fxbio.transform(spectral(way, pairs), fxbio.Policy.from_yaml(entry), inputs())


@pytest.mark.parametrize(("way", "pairs"), WAYS)
def test_around_a_complex_weight_gradients_are_those_of_autograd(way: str, pairs: bool) -> None:
    model, x = spectral(way, pairs), inputs()
    transformed = fxbio.transform(model, FA, x)
    feedback = fxbio.feedback_weights(transformed)["head.weight"]
    y = transformed(x)
    error = torch.randn(y.shape, generator=torch.Generator().manual_seed(3))
    y.backward(error)
    assert torch.equal(y, model(x))
    model.head = nn.Identity()
    model(x).backward(error @ feedback)
    for name in ("w", "lift.weight", "lift.bias"):
        found, wanted = (m.get_parameter(name).grad for m in (transformed, model))
        torch.testing.assert_close(found, wanted)
    assert fxbio.verify(transformed, x).ok


def test_complex_layers_keep_bp_with_the_reason() -> None:
    model = nn.Sequential(nn.Linear(6, 5, dtype=torch.cfloat), nn.Linear(5, 2, dtype=torch.cfloat))
    plan = fxbio.plan(model, FA, inputs(torch.cfloat))
    assert [a.rule for a in plan.assignments] == ["bp", "bp"]
    assert all("complex" in (a.site.unreachable or "") for a in plan.assignments)


class ComplexOutput(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return torch.complex(y[:, :2], y[:, 2:])


def test_a_complex_output_is_no_source_of_an_error() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), ComplexOutput(5, 4))
    with pytest.raises(PolicyError, match="the model returns no tensor of real numbers"):
        fxbio.transform(model, fxbio.Policy.uniform("dfa"), inputs())


class Quantised(nn.Module):
    """A weight in eight bits, made a number in the forward."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.first, self.head = nn.Linear(6, 5), nn.Linear(5, 3)
        bits = torch.randint(-99, 99, (5, 5), dtype=torch.int8)
        if "buffer" in kind:
            self.register_buffer("q", bits)
        else:
            self.q = nn.Parameter(bits, requires_grad=False)
        shape = (5, 5) if "buffer" in kind else (5, 1)
        if "fixed" in kind:
            self.register_buffer("scale", torch.rand(shape) / 99)
        else:
            self.scale = nn.Parameter(torch.rand(shape) / 99)

    def served(self) -> Tensor:
        return self.q.to(torch.float32) * self.scale

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(F.linear(self.first(x), self.served())))


QUANTISED = ["parameter", "parameter, fixed scale", "buffer"]


@pytest.mark.parametrize("rule", ["fa", "usf", "brsf", "frsf", "kp", "pfa", "aa", "ia"])
@pytest.mark.parametrize("kind", QUANTISED)
def test_feedback_of_quantised_weights_is_floating(kind: str, rule: str) -> None:
    transformed = fxbio.transform(Quantised(kind), fxbio.Policy.uniform(rule), inputs())
    added = [
        tensor
        for name, tensor in (*transformed.named_parameters(), *transformed.named_buffers())
        if "fxbio_" in name
    ]
    assert all(tensor.dtype == torch.float32 for tensor in added)
    assert fxbio.verify(transformed, inputs()).ok


@pytest.mark.parametrize("kind", QUANTISED)
def test_quantised_weights_send_errors_by_their_feedback(kind: str) -> None:
    torch.manual_seed(2)
    model, x = Quantised(kind), inputs()
    policy = "version: 1\ndefault: fa\nrules:\n  - {where: {module: [first, head]}, rule: bp}\n"
    transformed = fxbio.transform(model, fxbio.Policy.from_yaml(policy), x)
    [feedback] = [b for name, b in transformed.named_buffers() if "fxbio_feedback" in name]
    assert feedback.unique().numel() > 20  # not rounded to integers
    transformed(x).sum().backward()
    h = model.first(x)
    carrier = F.linear(h, feedback)
    out = F.linear(h.detach(), model.served()) + (carrier - carrier.detach())
    model.head(torch.tanh(out)).sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(transformed.get_parameter(name).grad, parameter.grad)


class Whole(nn.Module):
    """A product of integers; nothing can learn from it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(6, 5), nn.Linear(5, 3)
        self.q = nn.Parameter(torch.randint(-9, 9, (6, 5)), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.first(x) + (x.round().long() @ self.q).float()))


def test_weights_in_integers_are_named() -> None:
    plan = fxbio.plan(Whole(), FA, inputs())
    rules = {a.site.name: a for a in plan.assignments}
    assert rules["q"].rule == "bp"
    assert "torch.int64" in (rules["q"].site.unreachable or "")
    assert fxbio.verify(fxbio.transform(Whole(), FA, inputs()), inputs()).ok


class Mixed(nn.Module):
    """Two weights of different dtypes in one forward."""

    def __init__(self, first: torch.dtype, second: torch.dtype) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.first = nn.Parameter(torch.randn(5, 6, dtype=first))
        self.second = nn.Parameter(torch.randn(3, 5, dtype=second))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(F.linear(x.to(self.first.dtype), self.first))
        return F.linear(h.to(self.second.dtype), self.second)


@pytest.mark.parametrize("rule", ["fa", "kp", "frsf"])
@pytest.mark.parametrize("dtypes", [("bfloat16", "float32"), ("float32", "float64")])
def test_each_weight_of_a_module_has_feedback_of_its_dtype(
    dtypes: tuple[str, str], rule: str
) -> None:
    first, second = (getattr(torch, name) for name in dtypes)
    transformed = fxbio.transform(Mixed(first, second), fxbio.Policy.uniform(rule), inputs())
    stored = {"first": "fxbio_feedback_0", "second": "fxbio_feedback_1"}
    assert {k: getattr(transformed, v).dtype for k, v in stored.items()} == {
        "first": first,
        "second": second,
    }
    assert fxbio.verify(transformed, inputs()).ok


@pytest.mark.parametrize("rule", ["fa", "usf", "kp", "wm", "sa", "dfa", "aa", "fbp", "pfa"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_rules_run_in_every_floating_dtype(dtype: torch.dtype, rule: str) -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 3))
    transformed = fxbio.transform(model.to(dtype), fxbio.Policy.uniform(rule), inputs(dtype))
    transformed(inputs(dtype)).sum().backward()
    assert {p.grad.dtype for p in transformed.parameters() if p.grad is not None} == {dtype}
    assert fxbio.verify(transformed, inputs(dtype)).ok

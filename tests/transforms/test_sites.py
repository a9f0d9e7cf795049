"""Error transforms in models: each product of a site by hand, composition, survival, refusals."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import fxbio
from fxbio.errors import PolicyError
from fxbio.transforms import SiteValues, parse_transform
from fxbio.transforms import base as registry
from tests.passes.program import program_of, run

Gradients = dict[str, Tensor]


class Left(nn.Module):
    """A weight that multiplies from the left, so that samples are columns."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 6))

    def forward(self, x: Tensor) -> Tensor:
        return torch.matmul(self.weight, x.mT).mT


class Heads(nn.Module):
    """An einsum whose result has an output of the weight in front of the sample."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 6))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("oi,bi->ob", self.weight, x).mT


class Addmm(nn.Module):
    """``torch.addmm`` of a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(6, 4)), nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.weight)


class OwnLinear(nn.Module):
    """``F.linear`` in a forward of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 6))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


SITES = {
    "linear": (lambda: nn.Linear(6, 4), (5, 6), -1),
    "tokens": (lambda: nn.Linear(6, 4), (2, 3, 6), -1),
    "functional": (OwnLinear, (5, 6), -1),
    "left": (Left, (5, 6), -1),
    "einsum": (Heads, (5, 6), -1),
    "addmm": (Addmm, (5, 6), -1),
    "conv": (lambda: nn.Conv2d(2, 4, 3), (3, 2, 5, 5), 1),
    "conv_transpose": (lambda: nn.ConvTranspose1d(2, 4, 3), (3, 2, 5), 1),
}


def policy(rule: str, error: str) -> fxbio.Policy:
    return fxbio.Policy.from_yaml(f"version: 1\ndefault: {{rule: {rule}, error: '{error}'}}\n")


def gradients(model: nn.Module, x: Tensor, error: Tensor) -> Gradients:
    x = x.clone().requires_grad_()
    model.zero_grad()
    model(x).backward(error)
    assert x.grad is not None
    return {"x": x.grad, **{n: p.grad for n, p in model.named_parameters() if p.grad is not None}}


@pytest.mark.parametrize("where", ["both", "input", "weight"])
@pytest.mark.parametrize("name", SITES)
def test_each_product_is_made_of_its_error(name: str, where: str) -> None:
    """Plain autograd of the stock module, given the error that each product is to have."""
    make, shape, sample_dim = SITES[name]
    torch.manual_seed(0)
    stock = make().double()
    x = torch.randn(*shape, dtype=torch.float64)
    error = torch.randn_like(stock(x))
    spec = f"topk{{k=2,where={where}}}"
    model = fxbio.transform(stock, policy("bp", spec), x)
    site = SiteValues(x, x, sample_dim)
    sparse = parse_transform(spec).apply(error, site)
    assert not torch.equal(sparse, error)
    plain, changed = gradients(stock, x, error), gradients(stock, x, sparse)
    expected = {
        key: (changed if where in ("both", "input" if key == "x" else "weight") else plain)[key]
        for key in plain
    }
    found = gradients(model, x, error)
    assert found.keys() == expected.keys()
    for key, want in expected.items():
        assert torch.allclose(found[key], want, rtol=1e-9, atol=1e-12), key
    assert torch.equal(model(x), stock(x))
    verification = fxbio.verify(model)
    assert verification.ok, str(verification)


@pytest.mark.parametrize("rule", ["bp", "usf", "fa", "kp"])
def test_smaller_products_give_the_gradients_of_the_sparse_error(rule: str) -> None:
    layer, x = nn.Linear(6, 4).double(), torch.randn(2, 3, 6, dtype=torch.float64)
    error = torch.randn(2, 3, 4, dtype=torch.float64)
    given = policy(rule, "topk{k=2,unified=true}")
    plain = fxbio.Policy.from_yaml(f"version: 1\ndefault: {rule}\n")
    kept = error.abs().sum((0, 1)).topk(2).indices
    sparse = torch.zeros_like(error).index_copy(-1, kept, error[..., kept])
    found = gradients(fxbio.transform(layer, given, x), x, error)
    expected = gradients(fxbio.transform(layer, plain, x), x, sparse)
    assert found.keys() == expected.keys()
    for key, want in expected.items():
        assert torch.allclose(found[key], want, rtol=1e-9, atol=1e-12), key


@pytest.mark.parametrize("spec", ["topk{share=1.0}", "clip{bound=1e30}", "topk{k=99,where=weight}"])
@pytest.mark.parametrize("name", SITES)
def test_what_changes_nothing_is_backprop_to_the_bit(name: str, spec: str) -> None:
    make, shape, _ = SITES[name]
    stock, x = make(), torch.randn(*shape)
    error = torch.randn_like(stock(x))
    model = fxbio.transform(stock, policy("bp", spec), x)
    found, expected = gradients(model, x, error), gradients(stock, x, error)
    assert all(torch.equal(found[key], expected[key]) for key in expected)


NET = """version: 1
default: {rule: bp, error: "topk{share=0.5}"}
rules:
  - {where: "0", rule: usf, error: "clip{bound=0.1,where=weight}"}
  - {where: "3", rule: fa, error: [{quantise: {bits: 4, where: input}}, sign]}
"""


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 8), nn.Tanh(), nn.Linear(8, 5)
    )


X = torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def transformed() -> nn.Module:
    return fxbio.transform(net(), fxbio.Policy.from_yaml(NET), X)


def net_gradients(model: nn.Module) -> list[Tensor]:
    model.zero_grad()
    model(X).square().sum().backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def alike(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.allclose, one, other))


def test_verify_confirms_transforms_over_several_rules(transformed: nn.Module) -> None:
    verification = fxbio.verify(transformed)
    assert verification.ok, str(verification)
    assert len(verification.rows) == 3
    assert not alike(net_gradients(transformed), net_gradients(net()))
    assert torch.equal(transformed(X), net()(X))


def test_alignment_measures_the_transformed_error(transformed: nn.Module) -> None:
    rows = fxbio.alignment(transformed, X, torch.tensor([0, 1, 2, 3])).rows
    angles = {row.site: row.error_angle for row in rows}
    assert angles["5"] is not None
    assert angles["5"] > 5  # backprop of half of the error


def test_verify_notices_a_transform_that_does_not_run(
    transformed: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fxbio.ops.transformed_error._applied", lambda _, error, *__: error)
    assert not fxbio.verify(transformed).ok


def test_copies_files_and_compilers_keep_transforms(transformed: nn.Module, tmp_path: Path) -> None:
    want = net_gradients(transformed)
    assert alike(net_gradients(copy.deepcopy(transformed)), want)
    assert alike(net_gradients(pickle.loads(pickle.dumps(transformed))), want)
    exported = torch.export.export(transformed, (X,)).module()
    assert alike(net_gradients(exported), want)
    compiled = torch.compile(transformed, backend="aot_eager", fullgraph=True)
    assert alike(net_gradients(compiled), want)
    plan = fxbio.Plan.from_json(fxbio.plan(net(), fxbio.Policy.from_yaml(NET), X).to_json())
    assert alike(net_gradients(fxbio.transform(net(), plan, X)), want)
    assert alike(net_gradients(fxbio.revert(copy.deepcopy(transformed))), net_gradients(net()))


def test_checkpointed_activations(transformed: nn.Module) -> None:
    want = net_gradients(transformed)
    transformed.zero_grad()
    checkpoint(transformed, X, use_reentrant=False).square().sum().backward()
    assert alike([p.grad for p in transformed.parameters() if p.grad is not None], want)


def test_the_emitted_graph_agrees() -> None:
    made = program_of(net(), X, fxbio.Policy.from_yaml(NET))
    model = run("assign-rules,make-feedback,lower-feedback,bind-modules,emit-graphs", made)
    (emitted,) = made.emitted.values()
    assert "topk{share=0.5}" in str(emitted.code)
    want = net_gradients(model)
    emitted.zero_grad()
    emitted(X).square().sum().backward()
    found = {n: p.grad for n, p in emitted.named_parameters() if p.grad is not None}
    named = [found[n] for n, p in model.named_parameters() if p.grad is not None]
    assert alike(named, want)


def test_the_plan_and_the_code_show_transforms(transformed: nn.Module) -> None:
    plan = fxbio.plan(net(), fxbio.Policy.from_yaml(NET), X)
    assert "clip{bound=0.1,where=weight}" in " ".join(str(plan).split())
    assert plan.digest != fxbio.plan(net(), policy("bp", "sign"), X).digest


def test_a_transform_of_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_TRANSFORMS", dict(registry._TRANSFORMS))

    @fxbio.error_transform("active-inputs")
    @dataclass(frozen=True)
    class ActiveInputs(fxbio.ErrorTransform):
        """The error of samples whose input is strong: ``δ · 1[mean |h| > least]``."""

        least: float = 0.5

        def apply(self, error: Tensor, site: SiteValues) -> Tensor:
            strong = site.input.abs().mean(-1, keepdim=True) > self.least
            return error * strong

    layer = nn.Linear(6, 4)
    x = torch.cat([torch.ones(1, 6), torch.full((1, 6), 0.1)])
    model = fxbio.transform(layer, policy("fa", "active-inputs{least=0.3}"), x)
    found = gradients(model, x, torch.ones(2, 4))
    assert found["bias"].tolist() == [1, 1, 1, 1]
    assert found["x"][0].any()
    assert not found["x"][1].any()
    assert fxbio.verify(model).ok


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("default: {rule: bp, error: 'topk{k=0}'}", 2, "k must be a whole number ≥ 1, not 0"),
        ("default: bp\nrules:\n - {where: '0', rule: fa,\n    error: sing}", 5, "unknown error tr"),
        ("default: {rule: dfa, error: sign}", 2, "rule 'dfa' takes no error transforms"),
        ("default: {rule: bp, error: 3}", 2, "error holds names of error transforms"),
        ("default: {rule: bp, error: []}", 2, "error is an empty list"),
        ("default: {rule: fa, with: {error: sign}}", 2, "'error' is no option of a rule"),
    ],
)
def test_bad_entries_name_their_line(text: str, line: int, words: str) -> None:
    with pytest.raises(PolicyError) as caught:
        fxbio.Policy.from_yaml(f"version: 1\n{text}\n")
    assert words in str(caught.value)
    assert caught.value.location is not None
    assert caught.value.location.line == line


def test_a_site_that_no_transform_serves() -> None:
    rules = "rules: [{where: {op: norm}, rule: bp, error: sign}]"
    given = fxbio.Policy.from_yaml(f"version: 1\ndefault: bp\n{rules}\n")
    model = nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4))
    with pytest.raises(PolicyError, match=r"rule 'bp' cannot serve '1'") as caught:
        fxbio.plan(model, given, torch.randn(2, 6))
    assert "error transforms serve linear" in str(caught.value)

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

import fxbio
from fxbio.passes import DEFAULT_PIPELINE, Pipeline, Program
from fxbio.passes.pipeline import PassRun
from tests.passes.program import program, program_of, run
from tests.routes import nets as routes
from tests.small import BUILDERS, build, policy, step

EMIT = f"{DEFAULT_PIPELINE},emit-graphs"
RULES = ("fa", "usf", "signed-init", "frsf", "brsf", "stop", "frozen", "fbp", "kp", "pfa", "pfa-o")
RULES += ("sa", "wm")
OF_LAYERS = ("aa", "ia")
"""Rules that serve linear layers and convolutions only."""
ROUTED = ("dfa", "drtp", "dgl")
TARGETS = ("tp", "dtp", "drl", "l-drl", "sdtp", "ao-sdtp")


class Blocks(nn.Module):
    """Two blocks with skip connections inside of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.parts = nn.Linear(6, 8), nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(8, routes.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.stem(x))
        for part in self.parts:
            h = part(h)
        result: Tensor = self.head(h)
        return result


class Block(nn.Module):
    """A residual branch of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(8, 5), nn.Linear(5, 8)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = torch.relu(x + self.two(torch.relu(self.one(x))))
        return result


def chain() -> nn.Module:
    hidden = [nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 5), nn.Tanh()]
    return nn.Sequential(*hidden, nn.Linear(5, routes.CLASSES))


class Words(nn.Module):
    """Words and positions, normalised by their root mean square."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(9, 6), nn.Embedding(4, 6)
        self.norm, self.mix = nn.RMSNorm(6), nn.Linear(6, 6)
        self.last = nn.Linear(6, routes.CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        places = self.places(torch.arange(ids.shape[1]))
        h = self.norm(torch.tanh(self.words(ids) + places))
        result: Tensor = self.last(torch.tanh(self.mix(h)).mean(1))
        return result


class Styles(nn.Module):
    """Convolutions with instance norms, as style transfer has them."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3)
        self.norms = nn.ModuleList(
            [
                nn.InstanceNorm2d(4, affine=True),
                nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
            ]
        )
        self.last = nn.Linear(4, routes.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.norms[0](self.one(x)))
        h = torch.tanh(self.norms[1](self.two(h)))
        result: Tensor = self.last(h.mean((2, 3)))
        return result


def tokens() -> Tensor:
    return torch.randint(9, (routes.CLASSES, 4))


def pictures() -> Tensor:
    return torch.randn(3, 2, 8, 8)


NETS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "perceptron": (routes.Perceptron, routes.rows),
    "residual": (routes.Residual, routes.rows),
    "convolutions": (routes.Convolutions, routes.images),
    "blocks": (Blocks, routes.rows),
    "chain": (chain, routes.rows),
    "words": (Words, tokens),
    "images": (Styles, pictures),
}


def agree(on: Program, x: Tensor) -> None:
    """The installed model and the emitted graph: outputs bitwise, gradients to rounding."""
    installed = gradients(run(EMIT, on), x)
    (module,) = on.emitted.values()
    emitted = gradients(module, x)
    assert torch.equal(emitted["output"], installed["output"])
    assert set(emitted) == set(installed)
    for name, gradient in installed.items():
        torch.testing.assert_close(emitted[name], gradient, msg=lambda text, n=name: f"{n}: {text}")


def gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Logits, and the gradients of their cross-entropy, with all draws from one seed."""
    model.zero_grad(set_to_none=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        output = model(x)
        F.cross_entropy(output, torch.arange(len(output)) % output.shape[-1]).backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return {"output": output.detach(), **found}


def made(kind: str) -> tuple[nn.Module, Tensor]:
    build_net, build_input = NETS[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return build_net(), build_input()


@pytest.mark.parametrize("kind", BUILDERS)
@pytest.mark.parametrize("rule", RULES)
def test_the_graph_agrees_with_the_bound_model(kind: str, rule: str) -> None:
    """Two implementations of one plan: the user's own modules, and the rewritten graph."""
    agree(program(kind, rule), build(kind)[1])


@pytest.mark.parametrize("rule", OF_LAYERS)
@pytest.mark.parametrize("kind", ["perceptron", "convolutions"])
def test_so_do_rules_that_learn_from_activity(kind: str, rule: str) -> None:
    net, x = made(kind)
    agree(program_of(net, x, routes.policy(rule)), x)


@pytest.mark.parametrize("rule", ROUTED)
@pytest.mark.parametrize("kind", ["perceptron", "convolutions", "residual", "blocks"])
def test_errors_that_leave_the_path_agree_too(kind: str, rule: str) -> None:
    net, x = made(kind)
    agree(program_of(net, x, routes.policy(rule)), x)


@pytest.mark.parametrize(("at", "skip"), [("input", "sum"), ("activation", "sum")])
def test_so_do_other_points_of_reception(at: str, skip: str) -> None:
    net, x = made("residual")
    agree(program_of(net, x, routes.policy("dfa", at=at, skip=skip)), x)


@pytest.mark.parametrize("rule", ["dfa", "dgl"])
def test_so_do_receivers_behind_blocks(rule: str) -> None:
    net, x = made("blocks")
    options = {"at": "block", "block": "parts.*"}
    inside = {"where": {"module": "parts.**"}, "rule": rule, "with": options}
    agree(program_of(net, x, routes.policy("bp", inside)), x)


@pytest.mark.parametrize("rule", TARGETS)
def test_so_do_targets_and_the_losses_of_inverses(rule: str) -> None:
    net, x = made("chain")
    agree(program_of(net, x, routes.policy(rule)), x)


@pytest.mark.parametrize("rule", ["frozen", "stop", *ROUTED])
def test_so_do_tables_of_rows(rule: str) -> None:
    net, ids = made("words")
    entry = {"where": {"op": "embedding"}, "rule": rule}
    agree(program_of(net, ids, routes.policy("bp", entry)), ids)


@pytest.mark.parametrize("rule", ["usf", "fa", "kp", "stop", "frozen"])
@pytest.mark.parametrize("kind", ["words", "images"])
def test_so_do_scales_of_norms(kind: str, rule: str) -> None:
    net, x = made(kind)
    entry = {"where": {"op": "norm"}, "rule": rule}
    agree(program_of(net, x, routes.policy("bp", entry)), x)


def test_so_do_all_families_in_one_model() -> None:
    net, x = made("chain")
    entries = [{"where": "0", "rule": "dfa"}, {"where": "2", "rule": "usf"}]
    agree(program_of(net, x, routes.policy("dtp", *entries)), x)


@pytest.mark.parametrize("kind", BUILDERS)
def test_the_graph_differs_from_backprop(kind: str) -> None:
    model, x = build(kind)
    on = program(kind, "fa")
    run(EMIT, on)
    emitted, plain = step(on.emitted[""], x), step(model, x)
    lowest = next(iter(dict(model.named_parameters())))
    assert torch.equal(emitted["output"], plain["output"])
    assert not torch.allclose(emitted[lowest], plain[lowest])


def test_the_module_shares_the_parameters() -> None:
    on = program("functional")
    model = run(EMIT, on)
    module = on.emitted[""]
    assert isinstance(module, fx.GraphModule)
    module.graph.lint()
    assert {id(p) for p in module.parameters()} == {id(p) for p in model.parameters()}


def test_it_can_be_asked_for_in_transform() -> None:
    model, x = build()
    found: list[fx.GraphModule] = []

    def keep(run: PassRun, on: object) -> None:
        found.extend(on.emitted.values())  # type: ignore[attr-defined]

    pipeline = Pipeline.parse(EMIT)
    made = fxbio.transform(model, policy(), x, pipeline=pipeline, observers=[keep])
    assert torch.equal(found[0](x), made(x))


def test_all_backprop_emits_the_model_as_it_was() -> None:
    model, x = build("convolutions")
    on = program("convolutions", "bp")
    run(EMIT, on)
    found = step(on.emitted[""], x)
    for name, value in step(model, x).items():
        assert torch.equal(found[name], value), name

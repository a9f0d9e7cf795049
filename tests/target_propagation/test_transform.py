"""Rules of target propagation on a model of the user's own, against formulas written out here."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import fxbio
from fxbio.errors import FxbioError, ModelError, UnreachableWeightError
from fxbio.target_propagation.block_target import BlockTarget

RULES = ("tp", "dtp", "sdtp", "ao-sdtp", "drl", "l-drl")
LABELS = torch.arange(6) % 3


def mlp() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return nn.Sequential(
            nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 3)
        )


def conv_net() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(6)
        return nn.Sequential(
            nn.Conv2d(2, 4, 3, stride=2, padding=1),
            nn.BatchNorm2d(4),
            nn.Tanh(),
            nn.Conv2d(4, 5, 3),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(5 * 3 * 3, 8),
            nn.Tanh(),
            nn.Linear(8, 3),
        )


def image() -> Tensor:
    return torch.randn(6, 2, 16, 16, generator=torch.Generator().manual_seed(1))


def vector() -> Tensor:
    return torch.randn(6, 5, generator=torch.Generator().manual_seed(1))


def transformed(rule: str, model: nn.Module, x: Tensor, **options: object) -> nn.Module:
    return fxbio.transform(model, fxbio.Policy.uniform(rule, **options), (x,))


def gradients(
    model: nn.Module, x: Tensor, run: Callable[[Tensor], Tensor] | None = None, **loss: str
) -> dict[str, Tensor]:
    model.zero_grad()
    torch.manual_seed(3)
    F.cross_entropy((run or model)(x), LABELS[: len(x)], **loss).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-4, atol=1e-6)


def by_hand(model: nn.Module, rule: str, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Gradients of the weights and biases of ``mlp`` under a rule, from the equations."""
    layers = [model.get_submodule(str(k)) for k in (0, 2, 4)]
    inverse = [None, *(_inverse(layer) for layer in layers[1:])]
    h0 = x
    h1 = torch.tanh(h0 @ layers[0].weight.T + layers[0].bias)
    h2 = torch.tanh(h1 @ layers[1].weight.T + layers[1].bias)
    logits = h2 @ layers[2].weight.T + layers[2].bias
    p, y, n = logits.softmax(-1), F.one_hot(LABELS, 3).float(), len(x)
    e3 = p - y  # of single samples; every gradient below is divided by their number
    if rule == "dtp":
        e2 = 0.1 * e3 @ layers[2].weight
    elif rule == "tp":
        e2 = h2 - inverse[2](y)
    elif rule == "sdtp":
        e2 = inverse[2](p) - inverse[2](y)
    else:
        features = model.get_submodule("4.fxbio_target").auxiliary(h2)
        g = inverse[2]
        e2 = g(torch.cat([p, features], 1)) - g(torch.cat([y, features], 1))
    target = h2 - e2
    e1 = (h1 if rule == "tp" else inverse[1](h2)) - inverse[1](target)
    d1, d2 = e1 * (1 - h1**2), e2 * (1 - h2**2)
    pairs = ((d1, h0), (d2, h1), (e3, h2))
    return [(d.T @ h / n, d.sum(0) / n) for d, h in pairs]


def _inverse(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    target = layer.fxbio_target
    if target.inverse is None:
        return lambda h: h
    [linear] = [m for m in target.inverse.modules() if isinstance(m, nn.Linear)]
    return lambda h: torch.tanh(h @ linear.weight.T + linear.bias)


@pytest.mark.parametrize("rule", ["tp", "dtp", "sdtp", "ao-sdtp"])
def test_gradients_are_those_of_the_equations(rule: str) -> None:
    x = vector()
    model = transformed(rule, mlp(), x)
    found = gradients(model, x)
    with torch.no_grad():
        wanted = by_hand(model, rule, x)
    for layer, (weight, bias) in zip((0, 2, 4), wanted, strict=True):
        torch.testing.assert_close(found[f"{layer}.weight"], weight, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(found[f"{layer}.bias"], bias, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("build", [mlp, conv_net])
def test_forward_statistics_and_verification(rule: str, build: Callable[[], nn.Module]) -> None:
    x = vector() if build is mlp else image()
    stock = build()
    model = transformed(rule, stock, x)
    assert torch.equal(model(x), stock(x))
    buffers = dict(model.named_buffers())
    for name, buffer in stock.named_buffers():
        assert torch.equal(buffers[name], buffer), f"{name}: the noisy pass left a trace"
    result = fxbio.verify(model)
    assert result.ok, str(result)
    assert len(result.rows) == len([m for m in model.modules() if isinstance(m, BlockTarget)])


def test_verify_finds_a_wrong_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    x = vector()
    model = transformed("sdtp", mlp(), x)
    right = BlockTarget._send

    def wrong(self: BlockTarget, h: Tensor, x: Tensor) -> Tensor:
        return h + 0 * x.sum() if self.inverse is not None else right(self, h, x)

    monkeypatch.setattr(BlockTarget, "_send", wrong)
    assert not fxbio.verify(model).ok


@pytest.mark.parametrize("rule", RULES)
def test_reduction_and_batch_size_do_not_matter(rule: str) -> None:
    """The gradient of a mean over a batch is the mean of the gradients of its halves."""
    x = vector()
    mean, total = (transformed(rule, mlp(), x, reduction=r) for r in ("mean", "sum"))
    whole = gradients(mean, x)
    halves = []
    for part, labels in zip(x.split(3), LABELS.split(3), strict=True):
        mean.zero_grad()
        F.cross_entropy(mean(part), labels).backward()
        halves.append({n: p.grad.clone() for n, p in mean.named_parameters() if p.grad is not None})
    summed = gradients(total, x, reduction="sum")
    for name in ("0.weight", "2.weight", "4.weight"):
        together = (halves[0][name] + halves[1][name]) / 2
        torch.testing.assert_close(together, whole[name], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(summed[name] / len(x), whole[name], rtol=1e-4, atol=1e-6)


SURVIVALS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": lambda model: _saved(model),
    "state dict": lambda model: _loaded(model),
}


def _saved(model: nn.Module) -> nn.Module:
    stream = io.BytesIO()
    torch.save(model, stream)
    stream.seek(0)
    loaded: nn.Module = torch.load(stream, weights_only=False)
    return loaded


def _loaded(model: nn.Module) -> nn.Module:
    rule = next(m.rule for m in model.modules() if isinstance(m, BlockTarget))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    other = transformed(rule.name, conv_net(), image())
    other.load_state_dict(model.state_dict())
    return other


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("survival", SURVIVALS)
def test_copies_learn_the_same(rule: str, survival: str) -> None:
    x = image()
    model = transformed(rule, conv_net(), x)
    copied = SURVIVALS[survival](model)
    assert_same(gradients(copied, x), gradients(model, x))


@pytest.mark.parametrize("rule", RULES)
def test_compiled(rule: str) -> None:
    x = image()
    model = transformed(rule, conv_net(), x)
    wanted = gradients(model, x)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert_same(gradients(model, x, compiled), wanted)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed(reentrant: bool) -> None:
    x = image()
    model = transformed("dtp", conv_net(), x)
    wanted = gradients(model, x)
    leaf = x.clone().requires_grad_()
    found = gradients(model, x, lambda _: checkpoint(model, leaf, use_reentrant=reentrant))
    assert_same(found, wanted)


def test_half_precision() -> None:
    x = image()
    model = transformed("dtp", conv_net(), x)
    wanted = gradients(model, x)
    with torch.autocast("cpu", torch.bfloat16):
        found = gradients(model, x)
    for name in ("3.weight", "7.weight", "9.weight"):
        cosine = F.cosine_similarity(found[name].flatten(), wanted[name].flatten(), dim=0)
        assert cosine > 0.9, name  # a rounded maximum picks another position here and there


def test_graphs_that_would_lose_the_rule_are_refused() -> None:
    x = vector()
    model = transformed("dtp", mlp(), x)
    with pytest.raises(UnreachableWeightError, match=r"torch\.fx cannot keep"):
        torch.fx.symbolic_trace(model)
    with pytest.raises(UnreachableWeightError, match=r"torch\.export cannot keep"):
        torch.export.export(model, (x,))


def test_stock_checkpoints_load_and_partial_ones_do_not() -> None:
    x = vector()
    model = transformed("dtp", mlp(), x)
    model.load_state_dict(mlp().state_dict())
    partial = {k: v for k, v in model.state_dict().items() if not k.endswith("inverse.0.bias")}
    with pytest.raises(RuntimeError, match="Missing key"):
        model.load_state_dict(partial)
    blocks = {key.partition(".fxbio_target")[0] for key in partial if "fxbio_target" in key}
    gone = max(blocks)
    others = {k: v for k, v in model.state_dict().items() if not k.startswith(f"{gone}.fxbio")}
    with pytest.raises(RuntimeError, match=rf"Missing key\(s\).*{gone}\.fxbio_target"):
        model.load_state_dict(others)


def test_revert_leaves_nothing() -> None:
    x = vector()
    stock = mlp()
    model = fxbio.revert(transformed("ao-sdtp", stock, x))
    assert model.state_dict().keys() == stock.state_dict().keys()
    assert [type(m) for m in model.modules()] == [type(m) for m in stock.modules()]
    wanted = gradients(stock, x)
    assert_same(gradients(model, x), wanted)


def test_backprop_inside_the_context() -> None:
    x = vector()
    stock = mlp()
    model = transformed("dtp", stock, x)
    with fxbio.backprop(model):
        found = gradients(model, x)
    assert_same(found, gradients(stock, x))


def test_inverses_are_a_function_of_the_seed() -> None:
    x = vector()
    states = []
    for scramble in (1, 2):
        torch.manual_seed(scramble)
        states.append(transformed("dtp", mlp(), x).state_dict())
    assert all(torch.equal(states[0][k], v) for k, v in states[1].items() if "inverse" in k)


def test_phases() -> None:
    x = vector()
    model = transformed("dtp", mlp(), x)
    both = gradients(model, x)
    inverse = {name for name in both if "inverse" in name}
    fxbio.set_phase(model, "inverse")
    assert_same(gradients(model, x), {name: both[name] for name in inverse})
    fxbio.set_phase(model, "forward")
    assert_same(gradients(model, x), {n: g for n, g in both.items() if n not in inverse})
    fxbio.set_phase(model, "both")
    assert_same(gradients(model, x), both)


def test_phases_of_a_model_without_targets() -> None:
    with pytest.raises(ModelError, match="no block of this model learns from targets"):
        fxbio.set_phase(mlp(), "forward")


def test_train_feedback_trains_inverses_alone_and_resumes() -> None:
    x = image()
    model = transformed("l-drl", conv_net(), x, iterations=3)
    before = {k: v.clone() for k, v in model.state_dict().items() if isinstance(v, Tensor)}
    losses = fxbio.train_feedback(model, x)
    assert list(losses) == ["3", "7", "9"]
    after = model.state_dict()
    changed = {k for k, v in before.items() if not torch.equal(v, after[k])}
    assert changed == {k for k in before if "inverse" in k}

    resumed = transformed("l-drl", conv_net(), x, iterations=3)
    resumed.load_state_dict(model.state_dict())
    for each in (model, resumed):
        torch.manual_seed(9)
        fxbio.train_feedback(each, x)
    for name, value in model.state_dict().items():
        if isinstance(value, Tensor):
            assert torch.equal(value, resumed.state_dict()[name]), name


def test_train_feedback_without_such_a_rule() -> None:
    model = transformed("dtp", mlp(), vector())
    with pytest.raises(ModelError, match="no inverse of this model is trained in steps"):
        fxbio.train_feedback(model, vector())


class Residual(nn.Module):
    """A sum around two layers, in the forward of the model itself."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.outer = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.stem(x))
        return self.head(torch.tanh(x + self.outer(torch.tanh(self.inner(x)))))


def test_a_connection_around_a_block_is_refused() -> None:
    with pytest.raises(FxbioError) as caught:
        transformed("dtp", Residual(), vector())
    assert "blocks" in str(caught.value.help)
    assert "decided by default" in str(caught.value)


def test_other_rules_above_and_below() -> None:
    """The chain of an ordinary layer continues below, and its step enters from above."""
    x = vector()
    policy = fxbio.Policy.uniform("bp").append(where="2", rule="dtp", options={"step": 1.0})
    model = fxbio.transform(mlp(), policy, (x,))
    found = gradients(model, x)
    with torch.no_grad():
        h1 = torch.tanh(model[0](x))
        h2 = torch.tanh(h1 @ model[2].weight.T + model[2].bias)
        logits = h2 @ model[4].weight.T + model[4].bias
        e2 = (logits.softmax(-1) - F.one_hot(LABELS, 3)) @ model[4].weight
        g = _inverse(model[2])
        e1 = g(h2) - g(h2 - e2)
        weight = (e1 * (1 - h1**2)).T @ x / len(x)
    torch.testing.assert_close(found["0.weight"], weight, rtol=1e-4, atol=1e-6)
    assert fxbio.verify(model).ok


def test_float16_is_refused() -> None:
    x = vector()
    model = transformed("dtp", mlp(), x)
    with torch.autocast("cpu", torch.float16), pytest.raises(ModelError, match="float16"):
        model(x)


def test_ddp_leaves_inverses_alone_that_train_feedback_trains() -> None:
    x = vector()
    inverse = {n for n, _ in transformed("l-drl", mlp(), x).named_parameters() if "fxbio" in n}
    model = transformed("l-drl", mlp(), x)
    assert set(model._ddp_params_and_buffers_to_ignore) == inverse
    assert not hasattr(fxbio.revert(model), "_ddp_params_and_buffers_to_ignore")
    assert not hasattr(transformed("dtp", mlp(), x), "_ddp_params_and_buffers_to_ignore")


def test_readable_code_shows_where_targets_are_sent() -> None:
    [code] = transformed("dtp", mlp(), vector())._fxbio_record.code.values()
    assert code.count("# targets: block") == 3
    assert code.count("= ops.stop(") == 1


def test_a_list_among_the_options_is_shown() -> None:
    model = transformed("dtp", mlp(), vector(), blocks=["2"])
    assert "dtp{blocks=['2']}" in str(fxbio.verify(model))

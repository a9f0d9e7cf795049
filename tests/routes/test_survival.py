"""Routed errors through everything that a model can be put through."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import fxbio
from fxbio.errors import ModelError, UnreachableWeightError
from tests.routes.nets import (
    Convolutions,
    Residual,
    gradients,
    images,
    policy,
    rows,
    transformed,
)

RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "dfa": ("dfa", {}),
    "dfa-sum": ("dfa", {"skip": "sum"}),
    "dfa-shared": ("dfa", {"projection": "shared", "init": "launay-2020"}),
    "dfa-conv": ("dfa", {"at": "input", "skip": "sum", "projection": "conv"}),
    "drtp": ("drtp", {}),
    "dgl": ("dgl", {"hidden": 4}),
}
NETS: dict[str, tuple[Callable[[], nn.Module], Callable[..., Tensor]]] = {
    "residual": (Residual, rows),
    "convolutions": (Convolutions, images),
}


@cache
def original(rule: str, net: str) -> nn.Module:
    build, x = NETS[net]
    with torch.random.fork_rng():
        torch.manual_seed(7)
        stock = build()
    name, options = RULES[rule]
    return transformed(stock, x(2), name, **options)


def made(rule: str, net: str) -> Any:
    return copy.deepcopy(original(rule, net))


Found = dict[str, Tensor | None]


def measured(run: Callable[[Tensor], Tensor], model: nn.Module, x: Tensor) -> Found:
    found = gradients(run, model, x)
    return {name: None if g is None else g.clone() for name, g in found.items()}


def agree(found: Found, wanted: Found, **tolerance: float) -> None:
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert gradient is not None, name
        size = max(float(gradient.abs().max()), 1e-6)
        mine = found[name]
        assert mine is not None, name
        torch.testing.assert_close(
            mine / size, gradient / size, **(tolerance or {"rtol": 1e-4, "atol": 1e-4}),
            msg=lambda text, n=name: f"{n}: {text}",
        )  # fmt: skip


def deep_copied(model: Any, x: Tensor) -> Found:
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.zero_()
    return measured(copied, copied, x)


def pickled(model: Any, x: Tensor) -> Found:
    copied = pickle.loads(pickle.dumps(model))
    return measured(copied, copied, x)


def saved_whole(model: Any, x: Tensor) -> Found:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    copied = torch.load(file, weights_only=False)
    return measured(copied, copied, x)


def reloaded(model: Any, x: Tensor) -> Found:
    state = {k: v.clone() for k, v in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    model.load_state_dict(state, strict=True)
    return measured(model, model, x)


def checkpointed_reentrant(model: Any, x: Tensor) -> Found:
    return measured(lambda x: checkpoint(model, x.requires_grad_(), use_reentrant=True), model, x)


def checkpointed(model: Any, x: Tensor) -> Found:
    return measured(lambda x: checkpoint(model, x, use_reentrant=False), model, x)


def retraced(model: Any, x: Tensor) -> Found:
    traced = torch.fx.symbolic_trace(nn.Sequential(model))
    traced.graph.eliminate_dead_code()
    traced.recompile()
    found = measured(traced, traced, x)
    return {name.removeprefix("0."): gradient for name, gradient in found.items()}


def exported(model: Any, x: Tensor) -> Found:
    program = torch.export.export(model, (x,))
    # Torch itself cannot train a decomposed batch norm.
    for each in (program, program.run_decompositions()) if x.dim() == 2 else (program,):
        module = each.module()
        found = measured(module, module, x)
    return found


def exported_strict(model: Any, x: Tensor) -> Found:
    module = torch.export.export(model, (x,), strict=True).module()
    return measured(module, module, x)


def compiled(backend: str) -> Callable[[Any, Tensor], Found]:
    def run(model: Any, x: Tensor) -> Found:
        torch._dynamo.reset()
        found = measured(torch.compile(model, fullgraph=True, backend=backend), model, x)
        torch._dynamo.reset()
        return found

    return run


def channels_last(model: Any, x: Tensor) -> Found:
    model = model.to(memory_format=torch.channels_last)
    return measured(model, model, x.to(memory_format=torch.channels_last))


def other_batch_sizes(model: Any, x: Tensor) -> Found:
    for size in (3, 7):
        few = x[:1].expand(size, *x.shape[1:]).clone()
        with torch.no_grad():
            copy.deepcopy(model)(few)
        copy.deepcopy(model)(few)
    return measured(model, model, x)


def called_functionally(model: Any, x: Tensor) -> Found:
    given = {n: p.detach().clone().requires_grad_() for n, p in model.named_parameters()}

    def run(x: Tensor) -> Tensor:
        out: Tensor = torch.func.functional_call(model, given, (x,))
        return out

    measured(run, model, x)
    return {n: p.grad for n, p in given.items()}


def evaluated_in_between(model: Any, x: Tensor) -> Found:
    with torch.no_grad():
        copy.deepcopy(model).eval()(x)
    with torch.inference_mode():
        copy.deepcopy(model).eval()(x)
    return measured(model.eval().train(), model, x)


SURVIVALS: dict[str, Callable[[Any, Tensor], Found]] = {
    "deepcopy": deep_copied,
    "pickle": pickled,
    "torch.save": saved_whole,
    "state_dict": reloaded,
    "checkpoint-reentrant": checkpointed_reentrant,
    "checkpoint": checkpointed,
    "symbolic_trace": retraced,
    "export": exported,
    "export-strict": exported_strict,
    "compile-eager": compiled("eager"),
    "compile-aot_eager": compiled("aot_eager"),
    "channels_last": channels_last,
    "batch-size": other_batch_sizes,
    "functional_call": called_functionally,
    "train-eval": evaluated_in_between,
}


def combinations() -> Iterator[Any]:
    for rule in RULES:
        for net in NETS:
            yield pytest.param(rule, net, id=f"{rule}-{net}")


def survivals() -> Iterator[Any]:
    """Every combination with every survival; the channels of images alone can come last."""
    for survival in SURVIVALS:
        for rule in RULES:
            for net, (_, example) in NETS.items():
                if survival != "channels_last" or example().dim() == 4:
                    yield pytest.param(survival, rule, net, id=f"{survival}-{rule}-{net}")


@pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects")
@pytest.mark.filterwarnings("ignore:.*requires_grad=True")
@pytest.mark.parametrize(("survival", "rule", "net"), list(survivals()))
def test_survives(survival: str, rule: str, net: str) -> None:
    x = NETS[net][1]()
    model = made(rule, net)
    wanted = measured(model, model, x)
    stock = fxbio.revert(made(rule, net))
    plain = measured(stock, stock, x)
    agree(SURVIVALS[survival](made(rule, net), x), wanted)
    first = next(iter(plain))
    assert not torch.allclose(wanted[first], plain[first], rtol=0.05)


@pytest.mark.parametrize(("rule", "net"), list(combinations()))
def test_the_forward_is_that_of_the_stock_model(rule: str, net: str) -> None:
    x, model = NETS[net][1](), made(rule, net)
    stock = fxbio.revert(made(rule, net))
    assert torch.equal(model(x), stock(x))


@pytest.mark.parametrize(("rule", "net"), list(combinations()))
def test_autocast(rule: str, net: str) -> None:
    x, model = NETS[net][1](), made(rule, net)
    wanted = measured(model, model, x)

    def run(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            out: Tensor = model(x)
        return out.float()

    agree(measured(run, model, x), wanted, rtol=0.2, atol=0.2)


def test_retracing_the_model_itself_is_loud() -> None:
    with pytest.raises(UnreachableWeightError, match="itself without losing its rule"):
        torch.fx.symbolic_trace(made("dfa", "residual"))


class Checkpointed(Residual):
    """With activation checkpointing of a block inside of it."""

    reentrant: bool | None = None

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.stem(x))
        if self.reentrant is None:
            h = self.block(h)
        else:
            h = checkpoint(self.block, h, use_reentrant=self.reentrant)
        result: Tensor = self.last(h)
        return result

    def block(self, h: Tensor) -> Tensor:
        """A layer that receives, with its skip connection."""
        return torch.tanh(h + self.one(h))


@pytest.mark.filterwarnings("ignore:None of the inputs")
def test_checkpointing_inside_of_the_model() -> None:
    """Without reentry only values are recomputed; with it a second graph is made, and refused."""
    model = transformed(Checkpointed(), rows())
    wanted = measured(model, model, rows())
    model.reentrant = False
    found = measured(model, model, rows())
    for name, gradient in wanted.items():
        assert gradient is None if found[name] is None else torch.equal(found[name], gradient)
    for each in (model, transformed(Checkpointed(), rows(), skip="sum")):
        each.reentrant = True
        with pytest.raises(ModelError, match="'one' ran without gradients"):
            each(rows().requires_grad_())


@pytest.mark.parametrize(("rule", "net"), list(combinations()))
def test_revert_leaves_nothing(rule: str, net: str) -> None:
    model, stock = made(rule, net), NETS[net][0]()
    fxbio.revert(model)
    assert [n for n, _ in model.named_parameters()] == [n for n, _ in stock.named_parameters()]
    assert model.state_dict().keys() == stock.state_dict().keys()
    for mine, theirs in zip(model.modules(), stock.modules(), strict=True):
        assert type(mine) is type(theirs)
        assert vars(mine).keys() == vars(theirs).keys()


def test_a_stock_checkpoint_loads_strictly() -> None:
    for rule, persist in (("dgl", False), ("dfa", True)):
        text = f"version: 1\nseed: 5\npersist_feedback: {str(persist).lower()}\ndefault: {rule}\n"
        model = fxbio.transform(Residual(), fxbio.Policy.from_yaml(text), rows())
        added = [key for key in model.state_dict() if "fxbio" in key]
        assert added
        stock = Residual().state_dict()
        model.load_state_dict(stock, strict=True)
        assert torch.equal(model.one.weight, stock["one.weight"])
        with pytest.raises(RuntimeError, match="Missing key"):
            model.load_state_dict({**stock, added[0]: model.state_dict()[added[0]]}, strict=True)
        model.load_state_dict(model.state_dict(), strict=True)


def test_the_seed_and_the_name_make_the_matrix() -> None:
    one, two = made("dfa", "residual"), transformed(Residual(), rows(3))
    for name, buffer in two.named_buffers():
        assert torch.equal(dict(one.named_buffers())[name], buffer)
    text = "version: 1\nseed: 6\ndefault: dfa\n"
    other = fxbio.transform(Residual(), fxbio.Policy.from_yaml(text), rows())
    assert not torch.equal(other.fxbio_route_0, two.fxbio_route_0)


def test_the_random_state_of_the_user_is_left_alone() -> None:
    for rule in ("dfa", "dgl"):
        before = torch.random.get_rng_state()
        fxbio.transform(Residual(), policy(rule), rows())
        built = torch.random.get_rng_state()
        torch.random.set_rng_state(before)
        Residual()
        assert torch.equal(built, torch.random.get_rng_state())


@pytest.mark.parametrize("rule", RULES)
def test_a_saved_folder_gives_the_same_model(rule: str, tmp_path: Any) -> None:
    model = made(rule, "residual")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    gradients(model, model, rows())
    optimizer.step()
    fxbio.save(model, tmp_path / "saved")
    again = fxbio.load(tmp_path / "saved", Residual(), rows())
    agree(measured(again, again, rows()), measured(model, model, rows()), rtol=0.0, atol=0.0)
    record = (tmp_path / "saved" / "record.json").read_text()
    assert "route:" in record

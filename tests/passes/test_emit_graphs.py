from __future__ import annotations

import pytest
import torch
from torch import fx

import fxbio
from fxbio.passes import DEFAULT_PIPELINE, Pipeline
from fxbio.passes.pipeline import PassRun
from tests.passes.program import program, run
from tests.small import BUILDERS, build, policy, step

EMIT = f"{DEFAULT_PIPELINE},emit-graphs"
RULES = ("fa", "usf", "signed-init", "stop", "frozen", "kp", "pfa", "fbp")


@pytest.mark.parametrize("kind", BUILDERS)
@pytest.mark.parametrize("rule", RULES)
def test_the_graph_agrees_with_the_bound_model(kind: str, rule: str) -> None:
    """Two implementations of one plan: the user's own modules, and the rewritten graph."""
    _, x = build(kind)
    on = program(kind, rule)
    bound = step(run(EMIT, on), x)
    (module,) = on.emitted.values()
    emitted = step(module, x)
    assert torch.equal(emitted["output"], bound["output"])
    assert set(emitted) == set(bound)
    for name, gradient in bound.items():
        torch.testing.assert_close(emitted[name], gradient, msg=lambda text, n=name: f"{n}: {text}")


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

"""Capture, transform and verify every awkward module."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

import fxbio
from fxbio.errors import UnreachableWeightError
from fxbio.graph.capture import run_for_structure
from fxbio.graph.state_guard import Snapshot, preserved
from fxbio.graph.taint import WeightTaint
from fxbio.models.default_inputs import default_inputs
from fxbio.models.inputs import ExampleInputs
from fxbio.passes import DEFAULT_PIPELINE, Program
from fxbio.site import Site
from fxbio.tensors.nested import tensors_in
from tests.graph.awkward import Awkward, all_awkward, find_awkward

CASES = list(all_awkward().values())
OPAQUE = [case for case in CASES if any("!" in s for s in case.sites) or case.opaque]
WHOLE = [case for case in CASES if case.whole]

NOT_TRAINED = {
    "LoraModules": {"a.base"},  # frozen, and its input needs no gradient
    "WithoutGradients": {"teacher"},
    "Routing": {"experts.2"},
    "LayerDrop": {"layers.2"},
    "NeverCalled": {"spare"},
}
"""Sites that a rule is installed at and that one pass does not train."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit")
        warnings.filterwarnings("ignore", message=".*nested tensor.*")
        yield


@pytest.fixture
def model(case: Awkward) -> nn.Module:
    return find_awkward(case.name)


def inputs_of(model: nn.Module) -> ExampleInputs:
    inputs = default_inputs(model)
    assert inputs is not None
    return inputs


def described(site: Site) -> str:
    owner = "" if site.owner == site.path else f" {site.owner or '<root>'}"
    return f"{site.name} {site.op}{owner}{' !' if site.unreachable else ''}"


def parametrize(cases: list[Awkward]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


@parametrize(CASES)
def test_sites_are_those_found_by_hand(case: Awkward, model: nn.Module) -> None:
    graph = fxbio.capture(model)
    assert tuple(described(site) for site in graph.sites) == case.sites
    assert len({site.name for site in graph.sites}) == len(graph.sites)
    assert [site.order for site in graph.sites] == list(range(len(graph.sites)))


@parametrize(CASES)
def test_opaque_code_is_listed_with_line_and_reason(case: Awkward, model: nn.Module) -> None:
    graph = fxbio.capture(model)
    found = [(part.path, part.reason) for part in graph.unreachable]
    assert len(found) == len(case.opaque)
    for (path, reason), (expected_path, word) in zip(found, case.opaque, strict=True):
        assert path == expected_path
        assert word in reason
    for part in graph.unreachable:
        assert part.origin is not None
        assert "awkward_" in part.origin.file
    assert ([island.path for island in graph.islands] == [""]) == case.whole


@parametrize(CASES)
def test_every_applied_weight_is_accounted_for(case: Awkward, model: nn.Module) -> None:
    def applied(args: Any, kwargs: Any) -> set[str]:
        taint = WeightTaint(model)
        taint.mark_activation((args, kwargs))
        with torch.enable_grad(), taint:
            model(*args, **kwargs)
        return {source for use in taint.uses for source in use.sources}

    graph = fxbio.capture(model)
    accounted = {source for site in graph.sites for source in site.sources}
    accounted |= {weight for part in graph.unreachable for weight in part.weights}
    assert run_for_structure(model, inputs_of(model), applied) <= accounted


@parametrize(CASES)
def test_every_reachable_site_runs_its_rule(case: Awkward, model: nn.Module) -> None:
    fxbio.transform(model, fxbio.Policy.uniform("fa"), inplace=True)
    verification = fxbio.verify(model)
    assert verification.ok, str(verification)
    assert set(verification.idle) == NOT_TRAINED.get(case.name, set())
    ruled = (s.split() for s in case.sites if s.split()[1] not in ("norm", "embedding"))
    reachable = {name.partition("#")[0] for name, *_, last in ruled if last != "!"}
    seen = {row.site.partition("#")[0] for row in verification.rows} | set(verification.idle)
    assert seen == {name for name in reachable if not shares_weight(case, name)}


def shares_weight(case: Awkward, name: str) -> bool:
    """Whether a site is judged together with an earlier one of the same weight."""
    return (case.name, name) == ("OneParameterTwoLayers", "b")


@parametrize(OPAQUE)
def test_a_policy_cannot_ask_for_what_is_out_of_reach(case: Awkward, model: nn.Module) -> None:
    graph = fxbio.capture(model)
    wanted = [site.weight for site in graph.sites if site.unreachable]
    wanted += [part.path for part in graph.unreachable if part.weights and part.path]
    for name in wanted:
        path = name.rpartition(".")[0] if name.endswith("weight") else name
        policy = fxbio.Policy.uniform("bp").append(where={"index": 0}, rule="bp")
        site = next((s for s in graph.sites if s.weight == name), None)
        where: Any = {"index": site.order} if site else {"module": path}
        with pytest.raises(UnreachableWeightError, match="reason"):
            fxbio.plan(model, policy.append(where=where, rule="fa"))


@parametrize(CASES)
def test_capture_leaves_everything_as_it_was(case: Awkward, model: nn.Module) -> None:
    model.eval()
    inputs = inputs_of(model)
    random.seed(3)
    handle = next(model.modules()).register_forward_hook(lambda *_: None)
    before = snapshot(model, inputs)
    fxbio.capture(model, inputs)
    after = snapshot(model, inputs)
    assert before.keys() == after.keys()
    assert [key for key in before if not same(before[key], after[key])] == []
    handle.remove()
    assert not model._forward_hooks


def snapshot(model: nn.Module, inputs: ExampleInputs) -> dict[str, Any]:
    """Copies of all that a pass could change."""
    found: dict[str, Any] = {"torch": torch.get_rng_state(), "python": random.getstate()}
    found["numpy"] = repr(np.random.get_state())
    found["inputs"] = [t.clone() for t in tensors_in((inputs.args, inputs.kwargs))]
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            # The object, for it must be the same one, and a copy of what is in it.
            found[f"{path}.{name}"] = (id(value), copied(value))
    return found


def copied(value: Any) -> Any:
    def copy(leaf: Any) -> Any:
        return leaf.detach().clone() if isinstance(leaf, Tensor) else repr(leaf)

    return tree_map(copy, dict(value) if isinstance(value, dict) else value)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(v, other[k]) for k, v in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@parametrize(CASES)
def test_graphs_are_well_formed(case: Awkward, model: nn.Module) -> None:
    graph = fxbio.capture(model)
    graph.graph.lint()
    for island in graph.islands:
        island.graph.lint()
        assert not any(n.op == "placeholder" and "site" in n.meta for n in island.graph.nodes)


@parametrize(WHOLE)
def test_a_whole_graph_runs_like_the_model(case: Awkward, model: nn.Module) -> None:
    programs: list[Program] = []
    inputs = inputs_of(model)
    fxbio.transform(
        model,
        fxbio.Policy.uniform("fa"),
        inputs,
        inplace=True,
        pipeline=f"{DEFAULT_PIPELINE},emit-graphs",
        observers=[lambda _, program: programs.append(program)],
    )
    emitted = programs[-1].emitted[""]
    tensors = list(tensors_in((inputs.args, inputs.kwargs)))
    expected, wanted = outputs_and_gradients(model, *inputs.args, **inputs.kwargs)
    with preserved(Snapshot(model, tensors)):
        torch.manual_seed(0)
        found = list(tensors_in(emitted(*(t.clone() for t in tensors))))
        found_gradients = gradients(found, model)
    assert same(expected, [t.detach() for t in found])
    assert wanted.keys() == found_gradients.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found_gradients[name], gradient, msg=name)


def outputs_and_gradients(
    model: nn.Module, *args: Any, **kwargs: Any
) -> tuple[list[Tensor], dict[str, Tensor]]:
    with preserved(Snapshot(model, (args, kwargs))):
        torch.manual_seed(0)
        outputs = list(tensors_in(model(*args, **kwargs)))
        return [t.detach() for t in outputs], gradients(outputs, model)


def gradients(outputs: list[Tensor], model: nn.Module) -> dict[str, Tensor]:
    """By ``backward``, for checkpointing in its old form refuses ``torch.autograd.grad``."""
    model.zero_grad()
    torch.stack([(t * t).sum() for t in outputs if t.requires_grad]).sum().backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found

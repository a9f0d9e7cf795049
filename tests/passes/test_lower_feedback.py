from __future__ import annotations

import pytest

from fxbio.errors import PassError
from fxbio.ops import functional
from fxbio.ops.functional import Backward
from tests.passes.program import program, run
from tests.small import BUILDERS, policy

LOWER = "assign-rules,check-support,make-feedback,lower-feedback"


@pytest.mark.parametrize("kind", BUILDERS)
def test_every_site_becomes_a_rule_op_in_a_sound_graph(kind: str) -> None:
    on = program(kind, "frsf")
    run(LOWER, on)
    graph = on.lowered.graph
    graph.lint()
    lowered = {node.meta["site"]: node for node in graph.nodes if "rule" in node.meta}
    assert set(lowered) == {a.site.name for a in on.planned().rewritten()}
    for node in lowered.values():
        assert getattr(functional, node.target.__name__) is node.target
        assert isinstance(node.kwargs["backward"], Backward)
        assert "frsf" in node.meta["rule"]


def test_the_captured_graph_is_kept() -> None:
    on = program()
    before = str(on.graph.graph)
    run(LOWER, on)
    assert str(on.graph.graph) == before
    assert str(on.lowered.graph) != before


def test_nothing_is_bound_yet_but_all_is_prepared() -> None:
    on = program("attention")
    run(LOWER, on)
    assert set(on.lowered.weights) == {"first", "attention", "head"}
    assert not on.bound
    assert type(on.model.first).__mro__[0].__module__ == "torch.nn.modules.linear"
    assert not list(on.model.buffers())


def test_sites_under_backprop_stay_as_they_are() -> None:
    on = program(rules=policy("bp", rules="[{where: {module: second}, rule: fa}]"))
    run(LOWER, on)
    kept = [n for n in on.lowered.graph.nodes if n.op == "call_module" and "site" in n.meta]
    assert [node.meta["site"] for node in kept] == ["first", "head"]
    assert set(on.lowered.weights) == {"second"}


def test_a_rule_on_no_site_is_noticed() -> None:
    on = program()
    run(LOWER, on)
    node = next(n for n in on.lowered.graph.nodes if "rule" in n.meta)
    del node.meta["site"]
    from fxbio.passes.lower_feedback import LowerFeedback

    with pytest.raises(PassError, match="has a rule but no site"):
        LowerFeedback().ensures(on)


def test_a_broken_graph_is_noticed() -> None:
    on = program()
    run(LOWER, on)
    graph = on.lowered.graph
    first, second = [n for n in graph.nodes if "rule" in n.meta][:2]
    first.append(second)  # before what it reads is computed
    first.prepend(second)
    from fxbio.passes.lower_feedback import LowerFeedback

    with pytest.raises(RuntimeError):
        LowerFeedback().ensures(on)

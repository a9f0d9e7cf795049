from __future__ import annotations

import pytest
import torch

from fxbio.passes.make_feedback import MakeFeedback
from tests.passes.program import program, run
from tests.small import policy


def test_each_site_gets_a_backward_path_and_each_weight_one() -> None:
    on = program("chunked")
    run("assign-rules,make-feedback", on)
    assert set(on.feedback) == {a.site.name for a in on.planned().rewritten()}
    assert on.feedback["twice"] is on.feedback["twice#1"]
    chunks = [path for name, path in on.feedback.items() if name.startswith("qkv")]
    assert len(chunks) == 3
    assert len({id(path) for path in chunks}) == 1
    assert chunks[0].drawn is not None
    assert chunks[0].drawn.shape == (24, 8)


def test_the_summary_counts() -> None:
    on = program(rules=policy("usf", rules="[{where: {last: true}, rule: fa}]"))
    run("assign-rules", on)
    assert MakeFeedback().run(on).summary.startswith("3 backward paths, 1 of them drawn (0.0 MiB)")


@pytest.mark.parametrize("rule", ["fa", "frsf", "brsf"])
def test_the_draw_depends_on_the_seed_of_the_policy_alone(rule: str) -> None:
    def drawn(seed: int) -> torch.Tensor:
        torch.rand(3)  # the global generator has no say
        on = program(rules=policy(rule, seed=seed))
        run("assign-rules,make-feedback", on)
        found = on.feedback["second"].drawn
        assert found is not None
        return found

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_the_model_is_not_touched() -> None:
    on = program()
    before = {name: id(tensor) for name, tensor in on.model.state_dict(keep_vars=True).items()}
    run("assign-rules,make-feedback", on)
    after = {name: id(tensor) for name, tensor in on.model.state_dict(keep_vars=True).items()}
    assert after == before
    assert not list(on.model.buffers())

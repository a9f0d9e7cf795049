from __future__ import annotations

import pytest

from fxbio.errors import VerificationError
from fxbio.passes.check_witness import CheckWitness
from fxbio.runtime.classes import unbind_module
from tests.passes.program import program, run
from tests.small import BUILDERS, snapshot

BIND = "assign-rules,check-support,make-feedback,lower-feedback,bind-modules"


@pytest.mark.parametrize("kind", BUILDERS)
def test_every_weight_is_seen_and_the_model_left_alone(kind: str) -> None:
    on = program(kind, "frsf")
    run(BIND, on)
    before = snapshot(on.model)
    weights = len({a.site.weight for a in on.planned().rewritten()})
    assert CheckWitness().run(on).summary == f"{weights} weights seen to run their rules"
    assert snapshot(on.model) == before


@pytest.mark.parametrize(("kind", "path"), [("layers", "second"), ("attention", "attention")])
def test_a_module_that_lost_its_rule_is_named(kind: str, path: str) -> None:
    on = program(kind)
    run(BIND, on)
    unbind_module(on.model.get_submodule(path))
    with pytest.raises(VerificationError, match="do not run their rule") as caught:
        run("check-witness", on)
    assert f"{path}" in str(caught.value)
    assert "was never run" in str(caught.value)

from __future__ import annotations

import pytest
from torch import nn

import fxbio
from fxbio.errors import PassError
from fxbio.passes.bind_modules import BindModules
from fxbio.runtime import install as installing
from fxbio.runtime.install import bound_modules, uninstall
from tests.passes.program import program, run
from tests.small import BUILDERS, build, policy, snapshot

BIND = "assign-rules,check-support,make-feedback,lower-feedback,bind-modules"


@pytest.mark.parametrize("kind", BUILDERS)
def test_the_owners_of_rewritten_sites_are_bound_and_no_others(kind: str) -> None:
    on = program(kind)
    run(BIND, on)
    owners = {a.site.owner for a in on.planned().rewritten()}
    assert {path for path, _ in bound_modules(on.model)} == owners
    assert on.bound


def test_a_module_too_few_is_noticed() -> None:
    on = program()
    run(BIND, on)
    on.model.second = nn.Linear(8, 8)
    with pytest.raises(PassError, match="are not those of the lowered graph"):
        BindModules().ensures(on)


@pytest.mark.parametrize("rule", ["fa", "frozen", "brsf"])
@pytest.mark.parametrize("persist", ["true", "false"])
def test_a_failure_half_way_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, rule: str, persist: str
) -> None:
    """The second module fails after its feedback has been put on it."""
    model, x = build("convolutions")
    before = snapshot(model)
    bind = installing.bind_module
    count = 0

    def fail(module: nn.Module, binding: object) -> None:
        nonlocal count
        count += 1
        if count == 2:
            raise OSError("no")
        bind(module, binding)  # type: ignore[arg-type]

    monkeypatch.setattr(installing, "bind_module", fail)
    with pytest.raises(PassError, match="OSError: no"):
        fxbio.transform(model, policy(rule, persist_feedback=persist), x, inplace=True)
    assert count == 2
    assert snapshot(model) == before
    assert all(not module._non_persistent_buffers_set for module in model.modules())


def test_the_list_of_what_ddp_ignores_is_the_users() -> None:
    on = program()
    on.model._ddp_params_and_buffers_to_ignore = ["mine"]
    run(BIND, on)
    assert on.model._ddp_params_and_buffers_to_ignore == [
        "mine",
        "first.fxbio_feedback_0",
        "second.fxbio_feedback_0",
        "head.fxbio_feedback_0",
    ]
    uninstall(on.model)
    assert on.model._ddp_params_and_buffers_to_ignore == ["mine"]

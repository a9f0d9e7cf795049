"""Two gloo processes that share parameters or optimizers, against one process without either."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.multiprocessing

from tests.runtime import sharding_worker
from tests.runtime.sharding_worker import RANKS, RULES, STEPS, WAYS, trained

Results = list[dict[tuple[str, str], dict[str, Any]]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Of both ranks; one start of processes, which takes longer than all that they do."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(sharding_worker.run, args=(str(folder),), nprocs=RANKS)
    return [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("rule", RULES)
def test_two_processes_do_what_one_does(results: Results, rule: str, way: str) -> None:
    mine, theirs = (result[way, rule] for result in results)
    alone = trained(rule)
    for kind in ("state", "feedback"):
        assert mine[kind].keys() == alone[kind].keys()
        for name, value in mine[kind].items():
            assert torch.equal(value, theirs[kind][name]), name
            torch.testing.assert_close(value, alone[kind][name], rtol=1e-4, atol=1e-5)
    assert mine["counts"] == theirs["counts"] == alone["counts"]
    assert set(alone["counts"].values()) == {STEPS}

"""Two gloo processes with half of the batch each, against one process with the whole batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing
from torch import Tensor

from tests.battery import ddp_worker
from tests.battery.cases import CASES
from tests.battery.harness import Outcome, differs, subject


def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    """One test, because starting two processes takes longer than all that they do."""
    torch.multiprocessing.spawn(ddp_worker.run, args=(str(tmp_path),), nprocs=ddp_worker.RANKS)
    results = [torch.load(tmp_path / f"{k}.pt") for k in range(ddp_worker.RANKS)]
    check_gradients(results)
    check_redraws(*(result["redrawn"] for result in results))
    check_learned(*(result["learned"] for result in results))
    for rank, result in enumerate(results):
        assert torch.all(result["own feedback"] == rank + 1), "DDP broadcast the feedback"
        assert "Expected to have finished reduction" in result["unused"]


def check_gradients(results: list[dict[str, Any]]) -> None:
    """Every combination, on both ranks."""
    for rule, case in ddp_worker.distributed():
        combination = subject(rule, case)
        for result in results:
            found = Outcome(combination.stock.output, result["gradients"][rule, case])
            below = combination.expected.gradients["input"]
            found.gradients["input"] = below  # each rank has its own half of it
            found.check_gradients(combination.expected)
            assert found.differs_upstream(combination.stock) == differs(rule, CASES[case]), (
                rule,
                case,
            )


def check_redraws(mine: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """The ranks agree, and every step draws afresh."""
    for name in mine[0]:
        steps = [step[name] for step in mine]
        assert all(torch.equal(a, b[name]) for a, b in zip(steps, theirs, strict=True)), name
        assert not torch.equal(steps[0].abs(), steps[1].abs()), name
        assert not torch.equal(steps[1].abs(), steps[2].abs()), name


def check_learned(mine: dict[str, dict[str, Tensor]], theirs: dict[str, dict[str, Tensor]]) -> None:
    """The ranks agree to the last bit, and with one process on the whole batch."""
    for rule, learned in mine.items():
        whole = ddp_worker.learned_feedback(rule, -1)
        for name, feedback in learned.items():
            assert torch.equal(feedback, theirs[rule][name]), (rule, name)
            torch.testing.assert_close(feedback, whole[name], rtol=1e-4, atol=1e-5)

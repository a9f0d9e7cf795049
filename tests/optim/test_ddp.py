"""Two gloo processes with half of the batch each, against one process with the whole batch."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.multiprocessing

from tests.optim import ddp_worker


def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(ddp_worker.run, args=(str(tmp_path),), nprocs=ddp_worker.RANKS)
    alone = ddp_worker.network()
    ddp_worker.train(alone)
    for rank in range(ddp_worker.RANKS):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), alone.state_dict())

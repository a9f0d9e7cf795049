"""Rendezvous of the processes of a run, also when torchrun has started them again.

torchrun's store outlives a restart, and with it the addresses of processes that are dead: whoever
is quick reads one of those and connects to nobody. So each start gets a part of the store of its
own.
"""

from __future__ import annotations

import datetime
import time
import uuid
from collections.abc import Callable

from torch.distributed.distributed_c10d import PrefixStore, Store

from fxbio.errors import TrainError

__all__ = ["meet"]

LOOK = 0.05
"""Seconds between two looks at the store. Inside of torch no signal would be heard meanwhile."""


def meet(store: Store, rank: int, size: int, patience: datetime.timedelta) -> Store:
    """Wait for the other processes, and agree with them on a part of the store.

    The first process names it. The others know that it is not one of an earlier start by its
    answer to what they have just made up.

    Args:
        store: that all of them reach.
        rank: of this process.
        size: how many there are.
        patience: how long to wait.

    Raises:
        TrainError: when some of them do not come.
    """
    name = uuid.uuid4().hex
    if rank == 0:
        missing = set(range(1, size))
        _wait(lambda: _all_served(store, name, missing), patience, missing)
    else:
        store.set(f"ask/{rank}", name)
        _wait(lambda: _read(store, f"answer/{rank}").startswith(name), patience, {0})
        name = _read(store, f"answer/{rank}").split()[1]
        store.set(f"heard/{rank}", name)
    return PrefixStore(name, store)


def _all_served(store: Store, name: str, missing: set[int]) -> bool:
    for rank in list(missing):
        if _read(store, f"heard/{rank}") == name:
            missing.remove(rank)
        else:
            store.set(f"answer/{rank}", f"{_read(store, f'ask/{rank}')} {name}")
    return not missing


def _read(store: Store, key: str) -> str:
    """Value in the store; asking for what is not there would wait for it."""
    return store.get(key).decode() if store.check([key]) else ""


def _wait(done: Callable[[], bool], patience: datetime.timedelta, missing: set[int]) -> None:
    deadline = time.monotonic() + patience.total_seconds()
    while not done():
        if time.monotonic() > deadline:
            raise TrainError(
                f"processes of this run have not come in {patience}: rank "
                f"{', '.join(map(str, sorted(missing)))}",
                help="see whether they were started, and can reach MASTER_ADDR and MASTER_PORT",
            )
        time.sleep(LOOK)

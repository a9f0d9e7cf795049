"""Processes that were started together find each other, whatever an earlier start left behind."""

from __future__ import annotations

import datetime
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from torch.distributed import HashStore
from torch.distributed.distributed_c10d import Store

from fxbio.errors import TrainError
from fxbio.train.distributed.rendezvous import meet

LONG, SHORT = datetime.timedelta(seconds=60), datetime.timedelta(seconds=0.2)


def start(store: Store, order: list[int], size: int) -> list[Store]:
    """The parts of the store that processes get, who come in this order."""
    with ThreadPoolExecutor(size) as pool:
        came = {rank: pool.submit(meet, store, rank, size, LONG) for rank in order}
        return [came[rank].result() for rank in range(size)]


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 0, 2]])
def test_a_new_start_has_nothing_of_the_one_before(order: list[int]) -> None:
    store = HashStore()
    first = start(store, [0, 1, 2], 3)
    first[1].set("address", "of somebody dead")
    second = start(store, order, 3)
    assert not any(part.check(["address"]) for part in second)
    second[2].set("address", "of somebody alive")
    assert {part.get("address") for part in second} == {b"of somebody alive"}


def test_the_others_do_not_go_on_with_a_first_process_that_is_dead() -> None:
    store = HashStore()
    start(store, [0, 1], 2)
    with pytest.raises(TrainError, match=r"have not come in .*: rank 0"):
        meet(store, 1, 2, SHORT)


def test_the_first_process_says_who_is_missing() -> None:
    store = HashStore()
    start(store, [0, 1, 2], 3)
    other = threading.Thread(target=meet, args=(store, 1, 3, LONG))
    other.start()
    with pytest.raises(TrainError, match=r"have not come in .*: rank 2\n"):
        meet(store, 0, 3, datetime.timedelta(seconds=0.5))
    other.join()

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import chain
from typing import Any

import numpy as np
import pytest

from fxbio.train.data import EpochSampler, EvalSampler


def epoch_sampler(size: int, rank: int = 0, world: int = 1, **options: Any) -> EpochSampler:
    return EpochSampler(size, batch_size=3, rank=rank, world=world, seed=5, **options)


def indices(sampler: EpochSampler | EvalSampler) -> list[int]:
    return [pick.sample for pick in sampler]


def flat(shards: Iterable[list[int]]) -> list[int]:
    return list(chain.from_iterable(shards))


@pytest.mark.parametrize("world", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", [0, 1, 7, 10, 20])
def test_evaluation_sees_every_index_exactly_once(size: int, world: int) -> None:
    shards = [EvalSampler(size, rank=rank, world=world) for rank in range(world)]
    assert sorted(flat(map(indices, shards))) == list(range(size))
    assert [len(shard) for shard in shards] == [len(indices(shard)) for shard in shards]


@pytest.mark.parametrize("world", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", [1, 7, 10, 20])
def test_training_repeats_fewer_samples_than_there_are_ranks(size: int, world: int) -> None:
    shards = [indices(epoch_sampler(size, rank, world)) for rank in range(world)]
    counts = Counter(flat(shards))
    assert set(counts) == set(range(size))
    assert {len(shard) for shard in shards} == {epoch_sampler(size, 0, world).samples}
    assert sum(counts.values()) - size < world


@pytest.mark.parametrize("world", [1, 2, 3])
def test_drop_last_leaves_full_batches_on_every_rank(world: int) -> None:
    shards = [indices(epoch_sampler(20, rank, world, drop_last=True)) for rank in range(world)]
    sampler = epoch_sampler(20, 0, world, drop_last=True)
    assert {len(shard) for shard in shards} == {sampler.batches * 3}
    assert 20 - len(set(flat(shards))) < 3 * world
    assert max(Counter(flat(shards)).values()) == 1


def test_each_epoch_has_an_order_of_its_own_and_the_seed_fixes_it() -> None:
    sampler = epoch_sampler(20)
    first = indices(sampler)
    assert indices(epoch_sampler(20)) == first
    sampler.set_epoch(1)
    assert indices(sampler) != first
    assert sorted(indices(sampler)) == sorted(first)
    assert {pick.epoch for pick in sampler} == {1}
    assert indices(epoch_sampler(20, shuffle=False)) == list(range(20))


SHAPES = np.array([0, 1, 1, 0, 1, 2, 1, 0, 0, 1] * 6)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_a_step_has_samples_of_one_group(world: int) -> None:
    """But for fewer than a step of each group, which come last."""
    shards = [
        indices(EpochSampler(60, batch_size=8 // world, rank=rank, world=world, groups=SHAPES))
        for rank in range(world)
    ]
    order = flat(zip(*shards, strict=True))  # type: ignore[arg-type]
    assert sorted(order) == list(range(60))
    steps = [SHAPES[order[start : start + 8]] for start in range(0, 60, 8)]
    full = sum(int((group == SHAPES).sum()) // 8 for group in range(3))
    assert all(len(set(step.tolist())) == 1 for step in steps[:full])
    assert order == indices(EpochSampler(60, batch_size=8, groups=SHAPES))


def test_groups_are_shuffled_too_and_orders_that_are_not_stay() -> None:
    sampler = EpochSampler(60, batch_size=8, groups=SHAPES)
    first = indices(sampler)
    sampler.set_epoch(1)
    assert indices(sampler) != first
    kept = EpochSampler(60, batch_size=8, groups=SHAPES, shuffle=False)
    assert indices(kept) == list(range(60))


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_an_epoch_is_resumed_where_it_was_left(world: int, grouped: bool) -> None:
    groups = SHAPES[:20] if grouped else None
    for rank in range(world):
        whole, resumed = (epoch_sampler(20, rank, world, groups=groups) for _ in range(2))
        whole.set_epoch(4)
        order = indices(whole)
        whole.advance(3)
        resumed.load_state_dict(whole.state_dict())
        assert indices(resumed) == order[3:]
        assert len(resumed) == len(order) - 3


def test_an_epoch_can_be_resumed_by_another_number_of_ranks() -> None:
    two = [epoch_sampler(20, rank, 2) for rank in range(2)]
    seen = flat(indices(sampler)[:4] for sampler in two)
    two[0].advance(4)
    one = epoch_sampler(20)
    one.load_state_dict(two[0].state_dict())
    assert sorted(seen + indices(one)) == list(range(20))

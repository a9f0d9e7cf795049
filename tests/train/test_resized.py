"""A run that goes on with another batch size, or number of processes, is where it was in epochs."""

from __future__ import annotations

import json
import math
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from fxbio.train.data import EpochSampler
from fxbio.train.engine.run import train
from fxbio.train.output.status import read_status
from tests.train.test_resume import assert_same, final, run, terminate, trapped
from tests.train.tiny import recipe, source

SIZE = 40
OFTEN = "checkpoint.every_steps=1"


def cosine(epochs: float, total: int) -> float:
    return 0.05 * (1 + math.cos(math.pi * epochs / total)) / 2


def lines(folder: Path) -> list[dict[str, Any]]:
    found = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in found if line["kind"] == "train"]


def sampler(batch: int, rank: int = 0, world: int = 1) -> EpochSampler:
    return EpochSampler(SIZE, batch_size=batch, rank=rank, world=world, drop_last=True)


@pytest.mark.parametrize("larger", [20, 10, 5, 4])
def test_after_whole_epochs_the_schedule_goes_on_in_epochs(tmp_path: Path, larger: int) -> None:
    plain = ("schedule.warmup_steps=0", "log.every_steps=1")
    run(recipe("train.epochs=2", *plain), tmp_path)
    outcome = run(recipe("train.epochs=6", f"train.batch_size={larger}", *plain), tmp_path)
    each = SIZE // larger
    assert outcome.step == 10 + 4 * each
    new = lines(tmp_path)[10:]
    assert [line["step"] for line in new] == list(range(11, outcome.step + 1))
    for number, line in enumerate(new):
        assert line["lr"] == pytest.approx(cosine(2 + number / each, 6))
        assert line["epoch"] == pytest.approx(2 + (number + 1) / each)
    status = read_status(tmp_path / "status.json")
    assert status is not None
    assert (status.state, status.step, status.steps) == ("done", outcome.step, outcome.step)


@pytest.mark.parametrize(
    ("schedule", "drops"),
    [
        (("schedule.name=step", "schedule.every=1"), [0, 1, 2, 3]),
        (("schedule.name=multistep", "schedule.milestones=[2, 3]"), [0, 0, 1, 2]),
    ],
)
def test_drops_come_at_their_epochs(
    tmp_path: Path, schedule: tuple[str, ...], drops: list[int]
) -> None:
    common = (*schedule, "schedule.warmup_steps=0", "log.every_steps=1", "train.epochs=4")
    assert run(recipe(*common), tmp_path, trapped(60, terminate)).step == 8
    run(recipe(*common, "train.batch_size=10"), tmp_path)
    # 24 of 40 samples of the second epoch were done, so that one batch of 10 was left of it
    epochs = [*[0] * 5, *[1] * 3, 1, *[2] * 4, *[3] * 4]
    rates = [line["lr"] for line in lines(tmp_path)]
    assert rates == pytest.approx([0.05 * 0.1 ** drops[epoch] for epoch in epochs])


def test_a_run_that_was_resized_in_mid_epoch_goes_on_bit_for_bit(tmp_path: Path) -> None:
    for name in ("straight", "stopped"):
        assert run(recipe(OFTEN), tmp_path / name, trapped(20, terminate)).step == 3
    resized = recipe(OFTEN, "train.batch_size=6")
    assert run(resized, tmp_path / "straight").state == "done"
    for samples in (5, 12):
        again = run(resized, tmp_path / "stopped", trapped(samples, terminate))
        assert again.state == "preempted"
    assert run(resized, tmp_path / "stopped").state == "done"
    assert_same(final(tmp_path / "stopped"), final(tmp_path / "straight"))


def test_a_rest_smaller_than_a_batch_ends_the_epoch(tmp_path: Path) -> None:
    assert run(recipe(OFTEN), tmp_path, trapped(30, terminate)).step == 4
    outcome = run(recipe(OFTEN, "train.batch_size=20", "log.every_steps=1"), tmp_path)
    assert (outcome.state, outcome.step) == ("done", 4 + 2 * 2)
    evaluated = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    found = [(line["step"], line["epoch"]) for line in evaluated if line["kind"] == "eval"]
    assert found == [(4, 1.0), (6, 2.0), (8, 3.0)]


def test_fewer_epochs_than_were_trained_are_done_at_once(tmp_path: Path) -> None:
    run(recipe("train.epochs=2"), tmp_path)
    outcome = run(recipe("train.epochs=1", "train.batch_size=20"), tmp_path)
    status = read_status(tmp_path / "status.json")
    assert status is not None
    assert (outcome.step, status.step, status.steps) == (10, 10, 10)


def test_a_checkpoint_continued_elsewhere_is_where_it_was(tmp_path: Path) -> None:
    run(recipe("train.epochs=2"), tmp_path / "a")
    last = tmp_path / "a" / "checkpoints" / "last.pt"
    settings = recipe("train.epochs=4", "train.batch_size=20", "schedule.warmup_steps=0")
    train(settings, tmp_path / "b", data=source(), resume=last)
    assert lines(tmp_path / "b")[0]["epoch"] == 3.0
    assert lines(tmp_path / "b")[0]["lr"] == pytest.approx(cosine(2.5, 4))


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 2, 3, 5])
@pytest.mark.parametrize("position", [0, 1, 7, 8, 24, 39, 40])
def test_ranks_have_equally_many_whole_batches_of_what_was_not_seen(
    world: int, batch: int, position: int
) -> None:
    whole = [pick.sample for pick in sampler(1)]
    ranks = [sampler(batch, rank, world) for rank in range(world)]
    for one in ranks:
        one.load_state_dict({"epoch": 0, "position": position})
    shards = [[pick.sample for pick in one] for one in ranks]
    total = SIZE // (world * batch) * world * batch
    left = max(0, total - position) // (world * batch)
    assert [len(shard) for shard in shards] == [len(one) for one in ranks] == [left * batch] * world
    assert [one.steps_left for one in ranks] == [left] * world
    seen = list(chain.from_iterable(zip(*shards, strict=True)))
    assert seen == whole[position : position + left * batch * world]


@pytest.mark.parametrize(("batch", "world"), [(8, 1), (4, 2), (2, 4)])
def test_the_schedule_of_a_run_that_is_not_resized_goes_by_its_steps(
    batch: int, world: int
) -> None:
    one = sampler(batch, world - 1, world)
    for step in range(15):
        if step % 5 == 0:
            one.set_epoch(step // 5)
        assert one.steps == step
        one.advance(batch)


@pytest.mark.parametrize(("batch", "world"), [(10, 1), (5, 2), (4, 3)])
def test_position_in_steps_of_another_size(batch: int, world: int) -> None:
    one = sampler(batch, 0, world)
    one.load_state_dict({"epoch": 3, "position": 24})
    assert one.steps == pytest.approx(3 * (SIZE // (batch * world)) + 24 / (batch * world))

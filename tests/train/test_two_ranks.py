"""Two processes on the loopback: against one with the whole batch, and stopped and resumed."""

from __future__ import annotations

import os
import signal
import socket
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing

from fxbio.errors import FxbioError, TrainError
from fxbio.train.engine.divergence import Diverged
from fxbio.train.engine.run import Outcome, train
from fxbio.train.output.status import read_status
from fxbio.train.state.checkpoint_files import read_checkpoint
from tests.train.test_resume import Trap, assert_same, metrics
from tests.train.tiny import recipe, source

RANKS = 2
OFTEN = "checkpoint.every_steps=2"
EMA = "train.ema=0.9"
TURNS = "train.phases=[inverse, forward]"
RULES = ("fa", "sa", "dgl", "tp")
"""Of every way in which a gradient depends on the size of the batch; none draws noise."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def work(rank: int, folder: str, ports: list[int]) -> None:
    """What each of the two processes does; starting them takes longer than all of it."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(RANKS)}
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    loopback = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback[0])
    here = Path(folder)
    scenarios = [
        *(partial(plain, rule) for rule in RULES),
        phased,
        straight,
        stopped,
        resumed,
        stopped_in_evaluation,
        resumed_again,
        diverged,
        failed,
        stopped_early,
        failed_early,
    ]
    for scenario, port in zip(scenarios, ports, strict=True):
        os.environ["MASTER_PORT"] = str(port)
        scenario(here, rank)


def plain(rule: str, folder: Path, rank: int) -> None:
    settings = recipe("train.batch_size=16", "train.accumulate=2", model="deep", rule=rule)
    train(settings, folder / rule, data=source(48, 21))


def phased(folder: Path, rank: int) -> None:
    settings = recipe("train.batch_size=16", "train.accumulate=2", TURNS, model="deep", rule="tp")
    train(settings, folder / "phased", data=source(48, 21))


def straight(folder: Path, rank: int) -> None:
    assert train(recipe(OFTEN, EMA), folder / "straight", data=source()).state == "done"


def stopped(folder: Path, rank: int) -> None:
    data = source()
    if rank == 1:  # the signal reaches one process only
        trap = Trap(data.train, 26, lambda: os.kill(os.getpid(), signal.SIGTERM))
        data = replace(data, train=trap)
    check_stopped(train(recipe(OFTEN, EMA), folder / "stopped", data=data))


def resumed(folder: Path, rank: int) -> None:
    go_on(folder / "stopped")


def stopped_in_evaluation(folder: Path, rank: int) -> None:
    data = source()
    if rank == 1:
        trap = Trap(data.val, 17, lambda: os.kill(os.getpid(), signal.SIGTERM))
        data = replace(data, val=trap)
    check_stopped(train(recipe(OFTEN, EMA), folder / "evaluation", data=data))


def resumed_again(folder: Path, rank: int) -> None:
    go_on(folder / "evaluation")


def diverged(folder: Path, rank: int) -> None:
    data = source()
    if rank == 1:
        nan = torch.full((1, 8, 8), float("nan"))
        data = replace(data, train=Poisoned(data.train, nan))
    with pytest.raises(Diverged, match="not finite in step 1"):
        train(recipe(rule="fa"), folder / "diverged", data=data)


def failed(folder: Path, rank: int) -> None:
    data = source()
    if rank == 1:
        data = replace(data, train=Trap(data.train, 7, broken))
    with pytest.raises((ValueError, TrainError), match="broken"):
        train(recipe(), folder / "failed", data=data)


def stopped_early(folder: Path, rank: int) -> None:
    check_stopped(train(recipe(model="stopping"), folder / "early", data=source()))


def failed_early(folder: Path, rank: int) -> None:
    settings = recipe("model.args.rank='1'", model="failing")
    said = "^building" if rank else "rank 1: building"
    with pytest.raises(FxbioError, match=f"{said} .* raised ValueError: no weights on this"):
        train(settings, folder / "failed-early", data=source())


def broken() -> None:
    raise ValueError("this image is broken")


def check_stopped(outcome: Outcome) -> None:
    assert (outcome.state, outcome.exit) == ("preempted", 143)


def go_on(folder: Path) -> None:
    assert train(recipe(OFTEN, EMA), folder, data=source(), resume="auto").state == "done"


class Poisoned(Trap):
    def __init__(self, inner: Any, image: torch.Tensor) -> None:
        super().__init__(inner, 7, lambda: None)
        self.image = image

    def __getitem__(self, index: int) -> Any:
        image, label = super().__getitem__(index)
        return (self.image if self.left < 0 else image), label


def state(folder: Path) -> dict[str, Any]:
    return read_checkpoint(folder / "checkpoints" / "last.pt")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    ports = [free_port() for _ in range(10 + len(RULES))]
    torch.multiprocessing.spawn(work, args=(str(folder), ports), nprocs=RANKS)
    return folder


@pytest.mark.parametrize(
    ("name", "rule", "overrides"), [*((r, r, []) for r in RULES), ("phased", "tp", [TURNS])]
)
def test_two_ranks_are_one_rank_with_the_whole_batch(
    ran: Path, tmp_path: Path, name: str, rule: str, overrides: list[str]
) -> None:
    settings = recipe("train.batch_size=16", *overrides, model="deep", rule=rule)
    outcome = train(settings, tmp_path, data=source(48, 21))
    two, one = state(ran / name), state(tmp_path)
    torch.testing.assert_close(two["model"]["weights"], one["model"]["weights"])
    assert_same(two["model"]["feedback"], one["model"]["feedback"])
    assert two["progress"]["metrics"] == pytest.approx(outcome.metrics)
    assert outcome.metrics["samples"] == 21


@pytest.mark.parametrize("name", ["stopped", "evaluation"])
def test_a_stopped_run_goes_on_bit_for_bit(ran: Path, name: str) -> None:
    assert_same(state(ran / name), state(ran / "straight"))
    assert metrics(ran / name) == metrics(ran / "straight")
    assert len(state(ran / name)["ranks"]) == RANKS


def test_all_ranks_stop_when_one_diverges(ran: Path) -> None:
    status = read_status(ran / "diverged" / "status.json")
    assert status is not None
    assert status.state == "diverged"
    assert "first layer that is not finite: 0 (rule fa)" in (status.error or "")


def test_the_status_says_what_went_wrong_in_another_process(ran: Path) -> None:
    status = read_status(ran / "failed" / "status.json")
    assert status is not None
    assert (status.state, status.exit) == ("failed", 1)
    assert "rank 1: ValueError: this image is broken" in (status.error or "")


def test_all_ranks_leave_when_they_are_stopped_before_training(ran: Path) -> None:
    status = read_status(ran / "early" / "status.json")
    assert status is not None
    assert (status.state, status.exit) == ("preempted", 143)


def test_a_rank_that_cannot_begin_costs_no_folder(ran: Path) -> None:
    assert not (ran / "failed-early").exists()


def test_another_number_of_processes_can_go_on(ran: Path, tmp_path: Path) -> None:
    earlier = sorted((ran / "straight" / "checkpoints").glob("step-*.pt"))[0]
    outcome = train(recipe(OFTEN, EMA), tmp_path, data=source(), resume=earlier)
    assert (outcome.state, outcome.step) == ("done", 15)

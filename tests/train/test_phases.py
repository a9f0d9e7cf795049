"""Phases of target propagation: an epoch for the inverses, an epoch for the forward weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fxbio.errors import ConfigError
from fxbio.train.config import Recipe
from fxbio.train.config.sections import TrainConfig
from fxbio.train.distributed.process_group import World
from fxbio.train.engine.dry_run import dry_run
from fxbio.train.engine.run import train
from fxbio.train.engine.trainer_state import open_trainer
from fxbio.train.tasks import make_task
from tests.train.test_resume import assert_same, final, metrics, run, terminate, trapped
from tests.train.tiny import recipe, source

TURNS = "train.phases=[inverse, forward]"


def settings(*overrides: str, rule: str = "dtp") -> Recipe:
    return recipe("checkpoint.keep=9", *overrides, model="deep", rule=rule)


@pytest.mark.parametrize(
    ("phases", "first", "expected"),
    [
        ((), 0, "both both both both"),
        ((), 2, "inverse inverse both both"),
        (("inverse", "forward"), 0, "inverse forward inverse forward"),
        (("forward", "inverse"), 1, "inverse forward inverse forward"),
        (("forward", "both", "both"), 0, "forward both both forward"),
    ],
)
def test_a_phase_is_a_function_of_the_epoch(
    phases: tuple[str, ...], first: int, expected: str
) -> None:
    config = TrainConfig(phases=phases, inverse_epochs=first)  # type: ignore[arg-type]
    assert [config.phase(epoch) for epoch in range(4)] == expected.split()


@pytest.mark.parametrize(
    ("override", "learning"),
    [
        (TURNS, ["inverse", "forward", "inverse"]),
        ("train.inverse_epochs=1", ["inverse", "both", "both"]),
    ],
)
def test_what_does_not_learn_stays_to_the_bit(
    tmp_path: Path, override: str, learning: list[str]
) -> None:
    """In spite of momentum and weight decay, which both of them have."""
    train(settings(override), tmp_path, data=source())
    paths = sorted((tmp_path / "checkpoints").glob("step-*.pt"))
    states = [torch.load(path, weights_only=True)["model"]["weights"] for path in paths]
    pairs = zip([initial(settings(override)), *states[:-1]], states, strict=True)
    for (before, after), phase in zip(pairs, learning, strict=True):
        names = {name for name, value in before.items() if isinstance(value, Tensor)}
        inverses = {name for name in names if "inverse" in name}
        learning_now = {"inverse": inverses, "forward": names - inverses, "both": names}[phase]
        moved = {name for name in names if not torch.equal(before[name], after[name])}
        assert moved == learning_now


def initial(asked: Recipe) -> dict[str, Any]:
    """The weights before the first step."""
    data = source()
    task = make_task(asked.task, data)
    with open_trainer(asked, World(torch.device("cpu")), data, task) as trainer:
        return trainer.model.state_dict()


@pytest.mark.parametrize("samples", [17, 49, 81])
def test_a_run_that_is_stopped_within_a_phase_goes_on_bit_for_bit(
    tmp_path: Path, samples: int
) -> None:
    """In an epoch of the first, the second, and again of the first phase."""
    asked = settings(TURNS, "train.accumulate=2", "train.ema=0.9")
    assert run(asked, tmp_path / "straight").state == "done"
    assert run(asked, tmp_path / "stopped", trapped(samples, terminate)).state == "preempted"
    assert run(asked, tmp_path / "stopped").state == "done"
    assert_same(final(tmp_path / "stopped"), final(tmp_path / "straight"))
    assert metrics(tmp_path / "stopped") == metrics(tmp_path / "straight")


def test_alignment_is_measured_with_all_gradients(tmp_path: Path) -> None:
    train(settings(TURNS, "log.alignment_every=1"), tmp_path, data=source())
    lines = (tmp_path / "alignment.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert {row["step"] for row in rows} == {0, 5, 10, 15}
    assert all(row["gradient_cosine"] is not None for row in rows)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ([TURNS], "phases   inverse, forward by turns, an epoch each"),
        (["train.inverse_epochs=2"], "phases   2 epochs inverse, then both"),
        (
            ["train.phases=[forward]", "train.inverse_epochs=1"],
            "phases   1 epoch inverse, then forward",
        ),
    ],
)
def test_the_summary_says_it(overrides: list[str], line: str) -> None:
    said: list[str] = []
    dry_run(settings(*overrides), said.append, source())
    assert line in said


@pytest.mark.parametrize("override", [TURNS, "train.inverse_epochs=1"])
def test_phases_need_inverses(tmp_path: Path, override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        train(settings(override, rule="fa"), tmp_path / "run", data=source())
    text = str(caught.value)
    assert f"{override.partition('=')[0]} is about learned inverses" in text
    assert "its rules: fa" in text


def test_inverses_that_train_before_each_step_have_no_phases(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.phases does not go with rule 'l-drl'"):
        train(settings(TURNS, rule="l-drl"), tmp_path / "run", data=source())


def test_a_phase_that_does_not_exist_is_pointed_at() -> None:
    argument = "train.phases=[inverse, forwards]"
    with pytest.raises(ConfigError, match="did you mean 'forward'") as caught:
        settings(argument)
    assert caught.value.location is not None
    assert caught.value.location.column == argument.index("forwards") + 1

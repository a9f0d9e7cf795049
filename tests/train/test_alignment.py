"""Alignment measured on the way: it is written, and it changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fxbio.train.engine.run import train
from tests.train.test_resume import Killed, kill, metrics, trapped
from tests.train.tiny import recipe, source


def rows(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "alignment.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("rule", ["usf", "kp", "sa"])
def test_it_is_measured_before_and_after_every_second_epoch(tmp_path: Path, rule: str) -> None:
    settings = (f"policy.rule={rule}",)
    measured = recipe(*settings, "log.alignment_every=2")
    outcome = train(measured, tmp_path / "measured", data=source())
    train(recipe(*settings), tmp_path / "plain", data=source())
    found = rows(tmp_path / "measured")
    sites = {row["site"] for row in found}
    assert {row["rule"] for row in found} == {rule}
    steps = [row["step"] for row in found if row["site"] == found[0]["site"]]
    assert steps == [0, outcome.step * 2 // 3]
    assert len(found) == 2 * len(sites)
    assert not (tmp_path / "plain" / "alignment.jsonl").exists()
    states = [_last(tmp_path / name) for name in ("measured", "plain")]
    assert all(torch.equal(states[0][key], value) for key, value in states[1].items())


# Sanity takes 8 images, a measurement 8, an evaluation 21, and an epoch is 5 steps of 8.
@pytest.mark.parametrize(
    ("samples", "val"),
    [(3, False), (60, False), (67, True)],
    ids=["in the first step", "in an epoch", "after an evaluation, before it is saved"],
)
def test_a_killed_run_measures_nothing_twice(tmp_path: Path, samples: int, val: bool) -> None:
    settings = recipe("log.alignment_every=1", "checkpoint.every_steps=2", rule="fa")
    train(settings, tmp_path / "straight", data=source())
    with pytest.raises(Killed):
        train(settings, tmp_path / "killed", data=trapped(samples, kill, val=val))
    with (tmp_path / "killed" / "alignment.jsonl").open("a") as file:
        file.write('{"step": 1')
    train(settings, tmp_path / "killed", data=source(), resume="auto")
    assert rows(tmp_path / "killed") == rows(tmp_path / "straight")
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "straight")


def _last(folder: Path) -> dict[str, torch.Tensor]:
    state = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)
    return dict(_tensors(state["model"]))


def _tensors(value: object, path: str = "") -> list[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        return [(path, value)]
    if isinstance(value, dict):
        return [pair for k, v in value.items() for pair in _tensors(v, f"{path}/{k}")]
    return []

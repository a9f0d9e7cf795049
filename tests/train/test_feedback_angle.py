"""The angle between W and B at the end of a run, against what its last checkpoint holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from torch import Tensor

from fxbio.errors import FxbioError
from fxbio.train.engine.run import train
from fxbio.train.output.status import Status, read_status
from fxbio.train.state.checkpoint_files import read_checkpoint
from tests.train.test_resume import Killed, kill, trapped
from tests.train.tiny import recipe, source

LAYERS = ("0.weight", "3.weight", "7.weight")


def ended(folder: Path) -> Status:
    status = read_status(folder / "status.json")
    assert status is not None
    return status


def degrees(one: Tensor, other: Tensor) -> float:
    a, b = (tensor.double().flatten() for tensor in (one, other))
    squares = float((a * a).sum()) * float((b * b).sum())
    return math.degrees(math.acos(float((a * b).sum()) / math.sqrt(squares)))


def to_signs(state: dict[str, Any]) -> list[float]:
    """``cos ∠(W, sign W) = Σ|w| / ‖W‖√n``."""
    weights = [state["weights"][name].double() for name in LAYERS]
    cosines = [float(w.abs().sum() / w.norm()) / math.sqrt(w.numel()) for w in weights]
    return [math.degrees(math.acos(cosine)) for cosine in cosines]


def to_drawn(state: dict[str, Any]) -> list[float]:
    """What is stored beside the weights: positive scales change no angle."""
    stored = {name.partition(".")[0]: matrix for name, matrix in state["feedback"].items()}
    return [degrees(state["weights"][name], stored[name.partition(".")[0]]) for name in LAYERS]


@pytest.mark.parametrize(("rule", "oracle"), [("usf", to_signs), ("fa", to_drawn)])
def test_it_is_that_of_the_last_weights(
    tmp_path: Path, rule: str, oracle: Callable[[dict[str, Any]], list[float]]
) -> None:
    train(recipe(f"policy.rule={rule}"), tmp_path / "run", data=source())
    state = read_checkpoint(tmp_path / "run/checkpoints/last.pt")["model"]
    assert ended(tmp_path / "run").angle == pytest.approx(fmean(oracle(state)), abs=1e-3)


@pytest.mark.parametrize("rule", ["bp", "dfa", "frozen"])
def test_rules_without_a_feedback_weight_have_none(tmp_path: Path, rule: str) -> None:
    train(recipe(f"policy.rule={rule}"), tmp_path / "run", data=source())
    assert (ended(tmp_path / "run").state, ended(tmp_path / "run").angle) == ("done", None)


def test_a_run_that_went_on_has_that_of_one_that_was_never_killed(tmp_path: Path) -> None:
    settings = recipe("policy.rule=kp", "checkpoint.every_steps=4")
    train(settings, tmp_path / "whole", data=source())
    with pytest.raises(Killed):
        train(settings, tmp_path / "run", data=trapped(70, kill))
    assert ended(tmp_path / "run").angle is None
    train(settings, tmp_path / "run", resume="auto", data=source())
    assert ended(tmp_path / "whole").angle is not None
    assert ended(tmp_path / "run").angle == ended(tmp_path / "whole").angle
    train(settings, tmp_path / "run", resume="auto", data=source())  # nothing is left to do
    assert ended(tmp_path / "run").angle == ended(tmp_path / "whole").angle


def test_a_run_that_diverged_has_none(tmp_path: Path) -> None:
    with pytest.raises(FxbioError):
        train(recipe("policy.rule=fa", "optim.lr=1e30"), tmp_path / "run", data=source())
    assert (ended(tmp_path / "run").state, ended(tmp_path / "run").angle) == ("diverged", None)

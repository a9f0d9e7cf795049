"""What a step computes: parts, averages, clipping, precisions, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxbio.errors import ConfigError, FxbioError, TrainError
from fxbio.train.build.ema import Average
from fxbio.train.engine.divergence import Diverged
from fxbio.train.engine.run import train
from fxbio.train.output.status import read_status
from fxbio.train.state.checkpoint_files import read_checkpoint
from tests.train.tiny import recipe, source


def weights_after(folder: Path, *overrides: str, **kwargs: Any) -> dict[str, Tensor]:
    kwargs.setdefault("model", "plain")
    outcome = train(recipe(*overrides, **kwargs), folder, data=source())
    assert outcome.state == "done"
    weights: dict[str, Tensor] = read_checkpoint(folder / "checkpoints" / "last.pt")["model"][
        "weights"
    ]
    return weights


def assert_close(a: dict[str, Tensor], b: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("rule", ["bp", "brsf", "kp", "ia", "dgl", "tp"])
def test_accumulated_parts_are_the_whole_batch(tmp_path: Path, rule: str) -> None:
    whole = weights_after(tmp_path / "1", rule=rule)
    parts = weights_after(tmp_path / "4", "train.accumulate=4", rule=rule)
    assert_close(whole, parts)


def test_channels_last_changes_nothing_but_rounding(tmp_path: Path) -> None:
    plain = weights_after(tmp_path / "a", model="conv", rule="fa")
    other = weights_after(tmp_path / "b", "train.channels_last=true", model="conv", rule="fa")
    assert_close(plain, other, 1e-3)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precisions_learn(tmp_path: Path, precision: str, parts: int) -> None:
    settings = recipe(
        f"train.precision={precision}",
        f"train.accumulate={parts}",
        "train.epochs=6",
        model="plain",
    )
    assert train(settings, tmp_path, data=source()).metrics["top1"] == 1.0


def test_clipping_bounds_a_step(tmp_path: Path) -> None:
    settings = ("train.clip_norm=1e-3", "optim.lr=1", "optim.options={}", "optim.weight_decay=0")
    flat = ("schedule={}", "train.epochs=1")
    folder = tmp_path / "a"
    train(recipe(*settings, *flat, "train.batch_size=40", model="plain"), folder, data=source())
    after = read_checkpoint(folder / "checkpoints" / "last.pt")["model"]["weights"]
    folder = tmp_path / "b"
    still = (*settings, *flat, "optim.lr=1e-12", "train.batch_size=40")
    train(recipe(*still, model="plain"), folder, data=source())
    before = read_checkpoint(folder / "checkpoints" / "last.pt")["model"]["weights"]
    moved = torch.cat([(after[n] - before[n]).flatten() for n in after]).norm()
    assert float(moved) == pytest.approx(1e-3, rel=1e-3)


def test_an_average_is_what_its_formula_says() -> None:
    model = nn.Linear(3, 2)
    average = Average(model, 0.5)
    expected = model.weight.detach().clone()
    for number in range(20):
        with torch.no_grad():
            model.weight.add_(1.0)
        average.update()
        decay = min(0.5, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * model.weight.detach()
    own = model.weight.detach().clone()
    with average.applied():
        torch.testing.assert_close(model.weight.detach(), expected)
    assert torch.equal(model.weight, own)


def test_an_average_is_evaluated_with_the_buffers_of_the_model(tmp_path: Path) -> None:
    outcome = train(recipe("train.ema=0.9"), tmp_path, data=source())
    state = read_checkpoint(tmp_path / "checkpoints" / "last.pt")
    names = state["average"]["weights"]
    assert state["average"]["updates"] == 15
    assert "1.running_mean" not in names
    assert any(not torch.equal(names[n], state["model"]["weights"][n]) for n in names)
    assert outcome.metrics["samples"] == 21


def test_one_batch_can_be_learned_by_heart(tmp_path: Path) -> None:
    settings = recipe("train.overfit_batch=true", "train.epochs=8", model="plain")
    train(settings, tmp_path, data=source())
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "train"]
    assert losses[-1] < 0.2 * losses[0]


def test_compiling_keeps_the_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(nn.Module, "compile", lambda module: calls.append(module))
    weights = weights_after(tmp_path, "train.compile=true")
    assert len(calls) == 1
    assert list(weights) == ["1.weight", "1.bias", "3.weight", "3.bias"]


def test_a_deterministic_run_repeats_itself(tmp_path: Path) -> None:
    try:
        one = weights_after(tmp_path / "1", "train.deterministic=true", model="conv")
        two = weights_after(tmp_path / "2", "train.deterministic=true", model="conv")
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("override", "products", "convolutions"),
    [("tf32=true", True, True), ("tf32=false", False, False), ("tf32=null", False, True)],
)
def test_tensorfloat_is_switched_for_each_run(
    tmp_path: Path, override: str, products: bool, convolutions: bool
) -> None:
    backends = torch.backends
    backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32 = not products, not convolutions
    try:
        train(recipe(f"train.{override}", "train.epochs=1"), tmp_path, data=source())
        assert backends.cuda.matmul.allow_tf32 is products
        assert backends.cudnn.allow_tf32 is convolutions
    finally:
        backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32 = False, True


def test_a_profile_is_written(tmp_path: Path) -> None:
    train(recipe("train.profile_steps=2", "train.epochs=2"), tmp_path, data=source())
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]


def test_what_is_not_finite_is_named(tmp_path: Path) -> None:
    with pytest.raises(Diverged) as caught:
        train(recipe(model="explosive", rule="fa"), tmp_path, data=source())
    text = str(caught.value)
    assert "not finite in step 7" in text
    assert "the first layer that is not finite: 2 (no rule), in its output" in text
    assert "optim.lr=0.005" in text
    status = read_status(tmp_path / "status.json")
    assert status is not None
    assert (status.state, status.exit) == ("diverged", 1)
    report = json.loads((tmp_path / "diverged.json").read_text())
    assert len(report["ranks"][0]["samples"]) == 8
    assert report["gradient_norms"]["1.weight"] == "nan"
    weights = read_checkpoint(tmp_path / "checkpoints" / "last.pt")["model"]["weights"]
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())


def test_a_learning_rate_that_is_too_high_is_caught(tmp_path: Path) -> None:
    settings = recipe("optim.lr=1e30", "schedule={}", rule="fa")
    with pytest.raises(Diverged, match=r"first layer that is not finite: \d \((rule fa|no rule)"):
        train(settings, tmp_path, data=source())


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["train.batch_size=9", "train.accumulate=2"], "for example train.batch_size=8"),
        (["train.batch_size=64"], "40 samples, fewer than a batch of 64"),
        (["optim.name=SDG"], "did you mean 'SGD'"),
        (["optim.name=LBFGS"], "evaluates the loss several times"),
        (["optim.options={momentun: 1}"], "did you mean 'momentum'"),
        (["optim.options={nesterov: true}"], "Nesterov"),
        (["optim.name=SparseAdam", "optim.options={}", "optim.weight_decay=0"], "sparse gradients"),
        (["optim.name=Adam", "optim.options={betas: [0.9]}"], "refuses its arguments"),
        (["optim.options={dampening: much, momentum: 0.9}"], "optim.options: {'dampening': 'much'"),
        (["optim.name=Adam", "optim.options={capturable: true}"], "capturable"),
        (["optim.groups=[{params: [biases], options: {dampening: x}}]"], "refuses its arguments"),
        (["optim.options={differentiable: true}"], "refuses its arguments"),
        (["optim.lr=1e39"], "refuses its arguments"),
        (["train.sync_bn=true"], "works on CUDA devices only"),
        (["log.tensorboard=true"], "fxbio[tensorboard]"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], text: str
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError) as caught:
        train(recipe(*overrides), tmp_path / "run", data=source())
    assert text in str(caught.value)


def test_a_worker_that_dies_is_explained(tmp_path: Path) -> None:
    data = source()
    images = data.train

    class Dying(type(images)):  # type: ignore[misc]
        def __getitem__(self, index: int) -> Any:
            import os

            os._exit(9)

    dying = Dying(40, True)
    settings = recipe("data.workers=1")
    with pytest.raises(TrainError, match="a process that loads images died") as caught:
        train(settings, tmp_path, data=type(data)(dying, data.val, data.classes, data.task))
    assert "data.workers=0" in str(caught.value)
    status = read_status(tmp_path / "status.json")
    assert status is not None
    assert status.state == "failed"


def test_groups_have_settings_of_their_own(tmp_path: Path) -> None:
    groups = (
        "optim.groups=[{params: [norms, biases], weight_decay: 0}, "
        "{where: {last: true}, params: [weights], lr: 0.01, options: {momentum: 0}}]"
    )
    outcome = train(recipe(groups, "train.epochs=1"), tmp_path, data=source())
    assert outcome.state == "done"
    saved = read_checkpoint(tmp_path / "checkpoints" / "last.pt")["optimizer"]["param_groups"]
    found = [(g["initial_lr"], g["weight_decay"], g["momentum"], len(g["params"])) for g in saved]
    assert found == [(0.05, 1e-3, 0.9, 2), (0.05, 0.0, 0.9, 5), (0.01, 1e-3, 0.0, 1)]


def test_a_group_that_selects_nothing_is_refused(tmp_path: Path) -> None:
    groups = 'optim.groups=[{where: {module: "layer9.**"}, lr: 1}]'
    with pytest.raises(FxbioError, match=r"'layer9\.\*\*' of group 1 matches no site"):
        train(recipe(groups), tmp_path / "run", data=source())


def test_constraints_are_attached_in_order(tmp_path: Path) -> None:
    settings = recipe("optim.constraints=[batch_manhattan, strict_norm]", "train.epochs=1")
    assert train(settings, tmp_path, data=source()).state == "done"
    saved = read_checkpoint(tmp_path / "checkpoints" / "last.pt")["optimizer"]
    assert len(saved["fxbio_strict_norm"]) == 3

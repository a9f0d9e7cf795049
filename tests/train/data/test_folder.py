from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from fxbio.errors import ConfigError, DataError
from fxbio.train.data import DataConfig, open_data
from fxbio.train.data.make_shapes import make_shapes
from fxbio.train.data.packed import PackedStrings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_shapes(tmp_path / "data", images=10, size=24)
    return tmp_path / "data"


def error(folder: Path | None, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        open_data(DataConfig(path=folder, **options))  # type: ignore[arg-type]
    return str(caught.value)


def test_images_and_labels_are_those_of_torchvision(folder: Path) -> None:
    (folder / "train" / "ring" / "deeper").mkdir()
    shutil.copy(folder / "train/ring/000004.jpg", folder / "train/ring/deeper/UPPER.JPG")
    (folder / "train" / "ring" / "notes.txt").write_text("no image")
    source = open_data(DataConfig(path=folder, image_size=16, augment="none"))
    steps = [v2.Resize(16), v2.CenterCrop(16), v2.PILToTensor(), v2.ToDtype(torch.float32, True)]
    normalize = v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    theirs = ImageFolder(str(folder / "train"), v2.Compose([*steps, normalize]))
    assert len(source.train) == len(theirs) == 11  # type: ignore[arg-type]
    for index in range(11):
        (image, label), (expected, expected_label) = source.train[index], theirs[index]
        assert label == expected_label
        torch.testing.assert_close(image, expected, atol=1e-6, rtol=1e-6)
        assert image.is_contiguous()


def test_validation_crops_the_centre_of_a_larger_image(folder: Path) -> None:
    source = open_data(DataConfig(path=folder, image_size=224))
    picture = Image.open(folder / "val/circle/000000.jpg").convert("RGB")
    steps = v2.Compose([v2.Resize(256), v2.CenterCrop(224), v2.PILToTensor()])
    expected = v2.functional.normalize(
        steps(picture).float() / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    )
    torch.testing.assert_close(source.val[0][0], expected)


@pytest.mark.parametrize("augment", ["imagenet", "cifar", "flip", "none"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_preset_gives_images_of_one_size(folder: Path, augment: str, channels: int) -> None:
    picture = Image.open(folder / "train/circle/000000.jpg").resize((40, 24))
    picture.save(folder / "train/circle/000000.jpg")
    config = DataConfig(
        path=folder, image_size=16, augment=augment, channels=channels, random_erase=1.0
    )  # type: ignore[arg-type]
    source = open_data(config)
    for half in (source.train, source.val):
        assert half[0][0].shape == (channels, 16, 16)


@pytest.mark.parametrize("auto", ["randaugment", "trivialaugment", "autoaugment", "augmix"])
def test_automatic_augmentation(folder: Path, auto: str) -> None:
    plain, changed = (
        open_data(
            DataConfig(path=folder, image_size=24, augment="none", auto_augment=name)  # type: ignore[arg-type]
        )
        for name in ("none", auto)
    )
    torch.manual_seed(0)
    assert any(not torch.equal(plain.train[k][0], changed.train[k][0]) for k in range(10))
    assert torch.equal(plain.val[0][0], changed.val[0][0])


def test_the_halves_must_have_the_same_classes(folder: Path) -> None:
    shutil.move(folder / "val" / "ring", folder / "val" / "rings")
    message = error(folder)
    assert "5 classes in train and 5 in val, and they differ" in message
    assert "only in train: ring\n" in message
    assert "only in val: rings\n" in message


def test_empty_classes_are_a_finding_and_an_empty_half_is_an_error(folder: Path) -> None:
    for path in (folder / "val" / "ring").iterdir():
        path.unlink()
    findings = open_data(DataConfig(path=folder)).findings
    assert "val: no images for 1 of 5 classes: ring" in findings
    for path in (folder / "val").rglob("*.jpg"):
        path.unlink()
    assert "val has no images" in error(folder)


def test_a_missing_folder(tmp_path: Path, folder: Path) -> None:
    assert "the data set has no path" in error(None)
    assert "did you mean 'data'?" in error(tmp_path / "dato")
    shutil.rmtree(folder / "val")
    message = error(folder)
    assert f"there is no folder {folder / 'val'}" in message
    assert "PATH/val/<class>/*.jpg" in message
    (folder / "val").mkdir()
    assert "has no subfolders, one for each class" in error(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"random_erase": 2.0}, "random_erase must be from 0 to 1, not 2.0"),
        ({"workers": -1}, "workers must be at least 0, not -1"),
        ({"augment": "imagnet"}, "augment cannot be 'imagnet'\n  = note: did you mean 'imagenet'?"),
        ({"name": "foldre"}, "did you mean 'folder'?"),
        ({"channels": 2}, "it may be: 0, 1, 3"),
    ],
)
def test_options_out_of_range_and_unknown_ones(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        DataConfig(**options)
    assert message in str(caught.value)


def test_options_of_detection_do_not_apply(folder: Path) -> None:
    assert "does not apply to classification" in error(folder, aspect_groups=3)


def test_packed_strings_come_back_as_they_were() -> None:
    strings = ["a.jpg", "", "ä/ö.png", "\udcff.jpg"]
    packed = PackedStrings(strings)
    assert [packed[k] for k in range(len(packed))] == strings
    assert len(PackedStrings([])) == 0

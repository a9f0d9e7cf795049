from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fxbio.errors import DataError
from fxbio.train.data import DataConfig, open_data
from fxbio.train.data.make_shapes import make_shapes
from fxbio.train.data.make_shapes_coco import make_shapes_coco
from fxbio.train.data.shapes import SHAPES

Make = Callable[..., None]
BOTH = pytest.mark.parametrize("make", [make_shapes, make_shapes_coco])


def content(folder: Path, pattern: str = "*.*") -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob(pattern)}


@BOTH
def test_the_seed_fixes_every_byte(make: Make, tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        make(tmp_path / name, images=16, size=32, seed=seed)
    one, same, other = (content(tmp_path / name) for name in ("one", "same", "other"))
    assert one == same
    assert all(one[name] != other[name] for name in one)


@BOTH
def test_an_image_depends_on_its_number_not_on_how_many_there_are(
    make: Make, tmp_path: Path
) -> None:
    make(tmp_path / "few", images=16, size=32)
    make(tmp_path / "many", images=32, size=32)
    few, many = (content(tmp_path / name, "*.jpg") for name in ("few", "many"))
    assert len(few) < len(many)
    assert few.items() <= many.items()


@BOTH
def test_what_is_there_is_not_overwritten(make: Make, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    make(tmp_path / "out", images=8, size=32)
    before = content(tmp_path / "out")
    with pytest.raises(DataError, match="is there already"):
        make(tmp_path / "out", images=8, size=32, seed=1)
    assert content(tmp_path / "out") == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@BOTH
def test_a_failure_leaves_nothing_behind(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("PIL.Image.Image.save", full)
    with pytest.raises(OSError, match="No space left"):
        make(tmp_path / "out", images=8, size=32)
    assert not list(tmp_path.iterdir())


def test_shapes_have_as_many_images_of_every_class(tmp_path: Path) -> None:
    make_shapes(tmp_path / "out", images=40, size=32)
    source = open_data(DataConfig(name="shapes", path=tmp_path / "out", image_size=32))
    assert source.classes == tuple(sorted(SHAPES))
    assert source.findings == (
        "train: 40 images, 5 classes, 8 in each",
        "val: 10 images, 5 classes, 2 in each",
    )
    image, label = source.train[0]
    assert image.shape == (3, 32, 32)
    assert source.classes[label] == "circle"


def test_shapes_coco_has_what_makes_reading_hard(tmp_path: Path) -> None:
    make_shapes_coco(tmp_path / "out", images=16, size=48)
    data = json.loads((tmp_path / "out" / DataConfig.train_annotations).read_text())
    boxes = data["annotations"]
    assert {item["id"] for item in boxes} == set(range(1, len(boxes) + 1))
    assert sum(item["iscrowd"] for item in boxes) == 1
    assert len({item["image_id"] for item in boxes}) == 14
    assert len({(item["width"], item["height"]) for item in data["images"]}) > 8
    for item in boxes:
        image = data["images"][item["image_id"] - 1]
        left, top, width, height = item["bbox"]
        assert min(left, top) >= 0
        assert left + width <= image["width"]
        assert top + height <= image["height"]


@pytest.mark.parametrize("name", ["shapes", "shapes-coco"])
def test_a_generated_data_set_is_made_where_there_is_none(name: str, tmp_path: Path) -> None:
    config = DataConfig(name=name, path=tmp_path / "new")  # type: ignore[arg-type]
    first, again = open_data(config), open_data(config)
    said = f"there was nothing in {config.path}, so it was generated there"
    assert first.findings == (said, *again.findings)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]

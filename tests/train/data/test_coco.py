from __future__ import annotations

import bisect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fxbio.errors import DataError
from fxbio.train.data import DataConfig, DataSource, open_data
from fxbio.train.data.batch_by_aspect import aspect_groups
from fxbio.train.data.coco_values import id_array
from fxbio.train.tasks.detection import CocoEvaluator

Edit = Callable[[dict[str, Any]], None]
SIZES = ((30, 20), (20, 30), (25, 25))
BOXES = {1: [(1, 2, 10, 8, 1), (12, 3, 6, 6, 3)], 2: [(0, 0, 20, 30, 3)]}
"""Left, top, width, height and category, by image; the third image has none."""


def annotations() -> dict[str, Any]:
    boxes = [(image, box) for image, found in BOXES.items() for box in found]
    return {
        "images": [
            {"id": k + 1, "file_name": f"{k + 1}.jpg", "width": w, "height": h}
            for k, (w, h) in enumerate(SIZES)
        ],
        "annotations": [
            {"id": k + 1, "image_id": image, "category_id": box[4], "bbox": list(box[:4])}
            for k, (image, box) in enumerate(boxes)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}],
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes the data set, its training annotations (or both files) edited."""

    def make(edit: Edit = lambda data: None, both: Edit = lambda data: None) -> Path:
        for half in ("train2017", "val2017"):
            (tmp_path / half).mkdir()
            for number, size in enumerate(SIZES):
                Image.new("L", size, 40 * number).save(tmp_path / half / f"{number + 1}.jpg")
        (tmp_path / "annotations").mkdir()
        for half in ("train", "val"):
            data = annotations()
            both(data)
            if half == "train":
                edit(data)
            path = tmp_path / "annotations" / f"instances_{half}2017.json"
            path.write_text(json.dumps(data))
        return tmp_path

    return make


def opened(folder: Path, **options: Any) -> DataSource:
    return open_data(DataConfig(name="coco", path=folder, **options))


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        opened(folder, **options)
    return str(caught.value)


def test_a_sound_data_set(write: Callable[..., Path]) -> None:
    source = opened(write(), augment="none")
    assert source.classes == ("background", "cat", "N/A", "dog")
    assert source.findings == (
        "train: 3 images, 1 of them without a box, 3 boxes",
        "val: 3 images, 1 of them without a box, 3 boxes",
    )
    assert len(source.train) == 2  # type: ignore[arg-type]
    assert len(source.val) == 3  # type: ignore[arg-type]
    image, target = source.train[0]
    assert image.shape == (3, 20, 30)
    assert target["boxes"].tolist() == [[1, 2, 11, 10], [12, 3, 18, 9]]
    assert target["labels"].tolist() == [1, 3]
    empty = source.val[2][1]
    assert empty["boxes"].shape == (0, 4)
    assert empty["image"] == 2


def test_images_and_boxes_are_flipped_together(write: Callable[..., Path]) -> None:
    source = opened(write())
    torch.manual_seed(0)
    found = {tuple(source.train[0][1]["boxes"][0].tolist()) for _ in range(20)}
    assert found == {(1, 2, 11, 10), (19, 2, 29, 10)}


def test_boxes_are_cut_to_the_image_for_training(write: Callable[..., Path]) -> None:
    def reach_out(data: dict[str, Any]) -> None:
        data["annotations"][0]["bbox"] = [-5, 2, 10, 100]
        data["annotations"][1]["bbox"] = [500, 2, 10, 10]

    target = opened(write(reach_out), augment="none").train[0][1]
    assert target["boxes"].tolist() == [[0, 2, 5, 20]]
    assert target["labels"].tolist() == [1]


def _set(where: str, number: int, **values: Any) -> Edit:
    return lambda data: data[where][number].update(values)


@pytest.mark.parametrize(
    ("edit", "finding", "boxes"),
    [
        (_set("annotations", 0, id=0), "an annotation has the id 0", 3),
        (_set("annotations", 0, id=2), "1 annotation ids occur twice", 3),
        (_set("annotations", 0, bbox=[1, 2, 0, 8]), "1 boxes without an area: not trained on", 3),
        (_set("annotations", 0, bbox=[1, 2, float("nan"), 8]), "1 boxes that are not finite", 2),
        (_set("annotations", 1, category_id=7), "1 boxes of unknown category ids are left", 2),
        (_set("annotations", 2, image_id=70), "1 boxes of unknown image ids are left out: 70", 2),
        (_set("annotations", 0, iscrowd=1), "1 crowd boxes", 3),
    ],
)
def test_findings(write: Callable[..., Path], edit: Edit, finding: str, boxes: int) -> None:
    findings = opened(write(edit)).findings
    assert any(line.startswith(f"train: {finding}") for line in findings), findings
    assert findings[0].endswith(f"{boxes} boxes")


CORNERS = "all boxes could be corners (x1, y1, x2, y2)"


@pytest.mark.parametrize(
    ("box", "count"),
    [
        ([24, 2, 10, 8], 1),  # the image is 30 x 20
        ([1, 15, 10, 8], 1),
        ([-4, 2, 10, 8], 1),
        ([1, -4, 10, 8], 1),
        ([-60, -60, 10, 8], 1),
        ([500, 500, 10, 8], 1),
        ([0, 0, 30, 20], 0),
        ([-0.9, -0.9, 31.7, 21.7], 0),
    ],
)
def test_boxes_beyond_their_image_are_told(
    write: Callable[..., Path], box: list[float], count: int
) -> None:
    findings = opened(write(_set("annotations", 0, bbox=box))).findings
    told = [line for line in findings if "reach beyond" in line]
    assert told == [f"train: {count} boxes reach beyond their image: in 1.jpg"] * count
    assert not any(CORNERS in line for line in findings)


def as_corners(data: dict[str, Any]) -> None:
    for box in data["annotations"]:
        left, top, width, height = box["bbox"]
        box["bbox"] = [left, top, left + width, top + height]


def test_boxes_given_as_corners_are_told(write: Callable[..., Path]) -> None:
    """Both halves; by hand: 12 + 18 = 30 fits, but 3 + 9 and 1 + 11 do too, so one is moved."""

    def move(data: dict[str, Any]) -> None:
        data["annotations"][1]["bbox"] = [20, 3, 6, 6]  # 20 + 26 > 30
        as_corners(data)

    findings = opened(write(both=move)).findings
    for half in ("train", "val"):
        assert f"{half}: 1 boxes reach beyond their image: in 1.jpg" in findings
        assert any(line.startswith(f"{half}: {CORNERS}") for line in findings)


def test_boxes_of_images_without_a_size_are_compared_with_nothing(
    write: Callable[..., Path],
) -> None:
    def forget(data: dict[str, Any]) -> None:
        data["annotations"][0]["bbox"] = [500, 2, 10, 8]
        del data["images"][0]["width"]

    findings = opened(write(forget)).findings
    assert not any("reach beyond" in line for line in findings)
    told = "train: 1 images without width and height: their boxes are compared with nothing"
    assert told in findings


def test_crowds_are_not_trained_on(write: Callable[..., Path]) -> None:
    source = opened(write(_set("annotations", 2, iscrowd=1)))
    assert len(source.train) == 1  # type: ignore[arg-type]


def test_boxes_of_size_0_are_not_trained_on(write: Callable[..., Path]) -> None:
    source = opened(write(_set("annotations", 2, bbox=[0, 0, 20, 0])))
    assert len(source.train) == 1  # type: ignore[arg-type]


EXIF_ORIENTATION, TURNED_LEFT = 0x0112, 6


def write_turned(path: Path) -> None:
    """A file of 20 x 30 that viewers show as 30 x 20: what is shown top right is red."""
    image = Image.new("RGB", (20, 30), "blue")
    image.paste("red", (0, 0, 10, 15))
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = TURNED_LEFT
    image.save(path, exif=exif, quality=95)


def test_an_image_is_turned_if_its_boxes_were_drawn_on_it_turned(
    write: Callable[..., Path],
) -> None:
    folder = write()
    for number in (1, 2):  # the first is annotated as 30 x 20, the second as 20 x 30
        write_turned(folder / "train2017" / f"{number}.jpg")
    source = opened(folder, augment="none")
    shown, stored = (source.train[k][0] for k in range(2))
    assert (shown.shape, stored.shape) == ((3, 20, 30), (3, 30, 20))
    red, blue = torch.tensor([1.0, 0, 0]), torch.tensor([0, 0, 1.0])
    for image, corner, colour in ((shown, -3, red), (shown, 2, blue), (stored, 2, red)):
        torch.testing.assert_close(image[:, 2, corner], colour, atol=0.05, rtol=0)


def test_an_image_of_another_size_than_annotated_is_bad(write: Callable[..., Path]) -> None:
    folder = write()
    Image.new("L", (31, 20)).save(folder / "train2017" / "1.jpg")
    with pytest.raises(DataError, match=r"1\.jpg is 31 x 20, but its annotations are for 30 x 20"):
        opened(folder).train[0]
    assert opened(folder, on_bad_image="skip").train[0][1]["image"] == 1


def test_sizes_need_not_be_annotated(write: Callable[..., Path]) -> None:
    def forget(data: dict[str, Any]) -> None:
        data["images"][0].pop("width")
        data["images"][1].update(height=None)

    source = opened(write(both=forget), augment="none")
    assert [source.train[k][0].shape for k in range(2)] == [(3, 20, 30), (3, 30, 20)]


def test_images_are_in_the_order_of_their_ids(write: Callable[..., Path]) -> None:
    source = opened(write(both=lambda data: data["images"].reverse()), augment="none")
    assert [source.val[k][0].shape for k in range(3)] == [(3, 20, 30), (3, 30, 20), (3, 25, 25)]
    assert source.val[0][1]["labels"].tolist() == [1, 3]


@pytest.mark.parametrize("factor", [1, 3])
def test_groups_by_shape_are_those_of_torchvisions_reference(factor: int) -> None:
    sizes = [(w, h) for w in range(20, 90, 7) for h in range(20, 90, 7)]
    limits = [2 ** (step / factor) for step in range(-factor, factor + 1)]
    groups = aspect_groups(np.array([*sizes, (0, 5), (5, 0)]), factor).tolist()
    assert groups == [*(bisect.bisect_right(limits, w / h) for w, h in sizes), -1, -1]


def test_training_images_are_grouped_without_those_that_have_no_box(
    write: Callable[..., Path],
) -> None:
    folder = write(both=lambda data: data["images"][2].update(width=90))
    groups = opened(folder, aspect_groups=1).groups
    assert groups is not None
    assert groups.tolist() == [2, 1]
    assert opened(folder).groups is None


def test_a_category_with_id_0_is_no_background(write: Callable[..., Path]) -> None:
    def zero(data: dict[str, Any]) -> None:
        data["categories"][0]["id"] = 0
        data["annotations"][0]["category_id"] = 0

    source = opened(write(both=zero), augment="none")
    assert source.classes == ("background", "cat", "N/A", "N/A", "dog")
    assert source.train[0][1]["labels"].tolist() == [1, 4]
    assert "a category has the id 0" in source.findings[-1]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda data: data.pop("images"), "is no COCO file: it has no list of images"),
        (lambda data: data["images"][0].pop("file_name"), r"images\[0\] of .* has no file_name"),
        (lambda data: data["annotations"][1].pop("bbox"), "annotation 1 of .* has no bbox"),
        (_set("annotations", 1, bbox=[1, 2, 3]), r"annotation 1 of .* has the bbox \[1, 2, 3\]"),
        (
            _set("images", 1, width="wide"),
            "a width or height in images .* is no number of pixels",
        ),
        (_set("images", 1, id=1), "the id 1 occurs twice in images"),
        *(
            (
                _set("images", 1, file_name=name),
                r"images\[1\] of .* leaves the folder of the images",
            )
            for name in ("../x.jpg", "/etc/x.jpg", "a/../../x.jpg", "..", "a/b/../../../x.jpg")
        ),
        (_set("categories", 0, name="cow"), "different categories"),
        (lambda data: data["annotations"].clear(), "no image of .* has a box"),
    ],
)
def test_what_is_refused(write: Callable[..., Path], edit: Edit, message: str) -> None:
    with pytest.raises(DataError, match=message):
        opened(write(edit))


@pytest.mark.parametrize(
    "value", [None, [1], {}, True, float("nan"), "x", "\ud800", 1.7, -1, 10**30], ids=ascii
)
@pytest.mark.parametrize(
    ("where", "key"),
    [
        ("images", "id"),
        ("images", "width"),
        ("images", "file_name"),
        ("categories", "id"),
        ("annotations", "id"),
        ("annotations", "image_id"),
        ("annotations", "category_id"),
        ("annotations", "bbox"),
        ("annotations", "area"),
    ],
)
def test_values_of_any_type_are_taken_or_refused(
    write: Callable[..., Path], where: str, key: str, value: object
) -> None:
    """What is taken are the boxes of a sound file, or fewer."""
    try:
        source = opened(write(_set(where, 0, **{key: value})))
    except DataError:
        return
    annotations = source.annotations
    assert annotations is not None
    assert set(annotations.labels.tolist()) <= {1, 3}
    assert np.isfinite(annotations.boxes).all()
    assert np.isfinite(annotations.areas).all()


@pytest.mark.parametrize("item", [5, None, [], "id name file_name", "abc"], ids=str)
@pytest.mark.parametrize("where", ["images", "annotations", "categories"])
def test_items_that_are_no_mappings_are_refused(
    write: Callable[..., Path], where: str, item: object
) -> None:
    with pytest.raises(DataError, match=r"(images|annotation|categories).* is no mapping"):
        opened(write(lambda data: data[where].append(item)))


@pytest.mark.parametrize("id_", [3_000_000, 10**12, 2**63 - 1])
def test_a_large_category_id_makes_no_classes(write: Callable[..., Path], id_: int) -> None:
    def edit(data: dict[str, Any]) -> None:
        data["categories"][1]["id"] = id_
        for box in data["annotations"]:
            box["category_id"] = id_ if box["category_id"] == 3 else box["category_id"]

    source = opened(write(both=edit))
    assert source.classes == ("background", "cat", "dog")
    assert source.findings[-1].endswith("in the order of their ids")
    truth = source.annotations
    assert truth is not None
    assert truth.labels.tolist() == [1, 2, 2]
    evaluator = CocoEvaluator(truth, partial=True)
    boxes = torch.tensor([[0.0, 0.0, 20.0, 30.0]])
    found = {"boxes": boxes, "labels": torch.tensor([2]), "scores": torch.tensor([0.9])}
    evaluator.update([found], ([], [{"image": torch.tensor(1)}]))
    assert evaluator.merge()["AP"] == pytest.approx(1.0)
    assert evaluator.predictions() == [
        {"image_id": 2, "category_id": id_, "bbox": [0, 0, 20, 30], "score": pytest.approx(0.9)}
    ]


def test_ids_come_back_as_they_were() -> None:
    for ids in ([1, 2], [1, "a"], ["a", "b"], [1, 10**30], [2**63, -1], [1.5, 2]):
        assert id_array(ids).tolist() == ids


def test_broken_json_is_pointed_at(write: Callable[..., Path]) -> None:
    folder = write()
    path = folder / DataConfig.val_annotations
    path.write_text('{"images": [,]}')
    assert f"{path} is not JSON: Expecting value" in refusal(folder)
    assert f"{path}:1:13" in refusal(folder)
    path.write_text(json.dumps(annotations())[:-30])
    assert "the file is cut off" in refusal(folder)
    path.unlink()
    assert "data.val_annotations=..." in refusal(folder)


def test_missing_files_are_listed(write: Callable[..., Path]) -> None:
    folder = write()
    (folder / "train2017" / "1.jpg").unlink()
    message = refusal(folder)
    assert "1 training images and 0 validation images are missing" in message
    assert str(folder / "train2017" / "1.jpg") in message
    source = opened(folder, on_bad_image="skip")
    assert source.train[0][1]["image"] == 1
    assert source.skipped() == (str(folder / "train2017" / "1.jpg"),)
    (folder / "val2017" / "1.jpg").unlink()
    assert "1 validation images are missing" in refusal(folder, on_bad_image="skip")


def test_options_of_classification_do_not_apply(write: Callable[..., Path]) -> None:
    folder = write()
    assert "data.random_erase does not apply to detection" in refusal(folder, random_erase=0.1)
    assert "use flip or none" in refusal(folder, augment="imagenet")


@pytest.mark.parametrize("name", ["below/1.jpg", "below/../1.jpg", "./1.jpg", "..1.jpg"])
def test_names_may_lead_below_the_folder(write: Callable[..., Path], name: str) -> None:
    folder = write(_set("images", 0, file_name=name))
    images = folder / "train2017"
    (images / "below").mkdir()
    (images / "1.jpg").rename(images / name)
    assert len(opened(folder, augment="none").train) == 2

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from fxbio.errors import DataError, ModelError
from fxbio.train.data import DataConfig, DataSource, open_data
from fxbio.train.data.make_shapes_coco import make_shapes_coco
from fxbio.train.tasks import TaskConfig, make_task
from fxbio.train.tasks.coco_ap import METRICS

Prediction = dict[str, Tensor]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("coco") / "data"
    make_shapes_coco(path, images=64, size=128)
    return path


def opened(folder: Path) -> DataSource:
    return open_data(DataConfig(name="coco", path=folder))


@pytest.fixture(scope="module")
def source(folder: Path) -> DataSource:
    return opened(folder)


def evaluate(
    source: DataSource, predictions: dict[int, Prediction], **options: Any
) -> tuple[dict[str, float], Any]:
    task = make_task(TaskConfig(), source)
    evaluator = task.new_evaluator(source, **options)
    for image, prediction in predictions.items():
        evaluator.update([prediction], task.collate_eval([source.val[image]]))
    return evaluator.merge(), evaluator


def images(source: DataSource) -> range:
    return range(len(source.val))  # type: ignore[arg-type]


def perfect(source: DataSource) -> dict[int, Prediction]:
    targets = {image: source.val[image][1] for image in images(source)}
    return {
        image: {
            "boxes": target["boxes"],
            "labels": target["labels"],
            "scores": torch.ones(len(target["labels"])),
        }
        for image, target in targets.items()
    }


def shaken(source: DataSource) -> dict[int, Prediction]:
    """Found with some error, and some of them twice."""
    generator = torch.Generator().manual_seed(0)
    found = perfect(source)
    for prediction in found.values():
        boxes = prediction["boxes"].repeat(2, 1)
        prediction["boxes"] = boxes + torch.randn(boxes.shape, generator=generator) * 3
        prediction["labels"] = prediction["labels"].repeat(2)
        prediction["scores"] = torch.rand(len(boxes), generator=generator)
    return found


def nothing(source: DataSource) -> dict[int, Prediction]:
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long(), "scores": torch.zeros(0)}
    return dict.fromkeys(images(source), empty)


def test_perfect_predictions(source: DataSource, capsys: pytest.CaptureFixture[str]) -> None:
    metrics, evaluator = evaluate(source, perfect(source))
    assert metrics["AP"] == metrics["AP50"] == metrics["AP_small"] == pytest.approx(1)
    assert metrics["samples"] == len(images(source))
    assert capsys.readouterr() == ("", "")
    assert all("AP_large" in note for note in evaluator.notes())


def test_ids_of_0_change_nothing(folder: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    copied.mkdir()
    for name in ("train2017", "val2017"):
        (copied / name).symlink_to(folder / name)
    (copied / "annotations").mkdir()
    for half in ("train", "val"):
        name = f"annotations/instances_{half}2017.json"
        data = json.loads((folder / name).read_text())
        for item in data["annotations"]:
            item.update(id=item["id"] - 1, image_id=item["image_id"] - 1)
            item["category_id"] -= 1
        for item in (*data["images"], *data["categories"]):
            item["id"] -= 1
        (copied / name).write_text(json.dumps(data))
    source = opened(copied)
    metrics, evaluator = evaluate(source, perfect(source))
    assert metrics["AP"] == pytest.approx(1)
    assert {item["category_id"] for item in evaluator.predictions()} == set(range(5))
    assert min(item["image_id"] for item in evaluator.predictions()) == 0


def by_hand(annotations: Path, predictions: Path) -> list[float]:
    """What pycocotools says about two files."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        reference = COCOeval(truth, truth.loadRes(str(predictions)), "bbox")
        reference.evaluate()
        reference.accumulate()
        reference.summarize()
    stats: list[float] = reference.stats[:6].tolist()
    return stats


def with_oddities(folder: Path) -> None:
    """Edit the annotations of the validation set."""
    path = folder / DataConfig.val_annotations
    data = json.loads(path.read_text())
    boxes = data["annotations"]
    data["images"].reverse()
    boxes[1]["iscrowd"] = 1
    boxes[2]["bbox"][2] = 0
    boxes[3]["category_id"] = 77
    boxes[4]["image_id"] = 7777
    boxes[5]["area"] = 1e5
    boxes[6]["bbox"] = [-5.5, -7.25, 40, 33.3]
    path.write_text(json.dumps(data))


def test_the_numbers_are_those_of_pycocotools_on_the_files(tmp_path: Path) -> None:
    """Exactly, and with scores that are often equal, where the order decides."""
    make_shapes_coco(tmp_path / "data", images=64, size=128)
    with_oddities(tmp_path / "data")
    source = opened(tmp_path / "data")
    predictions = shaken(source)
    for prediction in predictions.values():
        prediction["scores"] = prediction["scores"].mul(4).ceil() / 4
    metrics, evaluator = evaluate(source, predictions)
    found = tmp_path / "predictions.json"
    found.write_text(json.dumps(evaluator.predictions()))
    assert 0.1 < metrics["AP"] < 0.9
    assert [metrics[name] for name in METRICS] == by_hand(
        tmp_path / "data" / DataConfig.val_annotations, found
    )


def test_no_detection_is_an_ap_of_0_with_a_note(source: DataSource) -> None:
    metrics, evaluator = evaluate(source, nothing(source))
    assert metrics["AP"] == metrics["AP50"] == metrics["AP_small"] == 0
    assert "the model detected nothing, so AP is 0" in evaluator.notes()
    assert evaluator.predictions() == []


AREAS = [1, 1023.5, 1024, 1024.5, 9215, 9216, 9217, 2e10]
"""Around the bounds of small, medium and large, both ends of which count, and beyond them all."""


@pytest.mark.parametrize("area", AREAS)
@pytest.mark.parametrize("finds", [True, False])
def test_areas_on_a_boundary_are_those_of_pycocotools(
    tmp_path: Path, area: float, finds: bool
) -> None:
    make_shapes_coco(tmp_path / "data", images=16, size=128)
    path = tmp_path / "data" / DataConfig.val_annotations
    data = json.loads(path.read_text())
    for box in data["annotations"]:
        box.update(area=area, iscrowd=0)
    path.write_text(json.dumps(data))
    source = opened(tmp_path / "data")
    metrics, evaluator = evaluate(source, (perfect if finds else nothing)(source))
    found = tmp_path / "predictions.json"
    far = {"image_id": 1, "category_id": 1, "bbox": [9e3, 9e3, 1, 1], "score": 0.01}
    found.write_text(json.dumps(evaluator.predictions() or [far]))
    assert [metrics[name] for name in METRICS] == by_hand(path, found)


@pytest.mark.parametrize(
    ("area", "sizes"),
    [(1024, {"AP_small", "AP_medium"}), (9216, {"AP_medium", "AP_large"}), (1025, {"AP_medium"})],
)
def test_sizes_are_closed_ranges(source: DataSource, area: float, sizes: set[str]) -> None:
    annotations = source.annotations
    assert annotations is not None
    alike = replace(source, annotations=replace(annotations, areas=annotations.areas * 0 + area))
    for predictions, value in ((nothing(source), 0), (perfect(source), pytest.approx(1))):
        metrics, _ = evaluate(alike, predictions)
        assert {name for name in METRICS if "_" in name and metrics[name] != -1} == sizes
        assert all(metrics[name] == value for name in sizes)


def test_unknown_labels_are_dropped_and_noted(source: DataSource) -> None:
    predictions = perfect(source)
    for prediction in predictions.values():
        prediction["labels"] = prediction["labels"] + 50
    metrics, evaluator = evaluate(source, predictions)
    assert metrics["AP"] == 0
    assert "detections of labels that no category has are dropped" in evaluator.notes()[0]


def test_every_image_has_to_be_seen_once(source: DataSource) -> None:
    some = dict(list(perfect(source).items())[:5])
    with pytest.raises(DataError, match="the evaluation saw 5 of 16 images"):
        evaluate(source, some)
    metrics, evaluator = evaluate(source, some, partial=True)
    assert (metrics["AP"], metrics["samples"]) == (pytest.approx(1), 5)
    evaluator.update([some[0]], make_task(TaskConfig(), source).collate_eval([source.val[0]]))
    with pytest.raises(DataError, match="the evaluation saw 1 images twice"):
        evaluator.merge()


def test_the_loss_is_the_sum_of_the_models_own(source: DataSource) -> None:
    task = make_task(TaskConfig(), source)
    parts = {"classification": torch.tensor(2.0), "boxes": torch.tensor(0.5)}
    batch = task.collate([source.train[0], source.train[1]])
    loss = task.loss(lambda images, targets: parts, batch)  # type: ignore[arg-type]
    assert loss == {"loss": torch.tensor(2.5), **parts}
    assert task.size(batch) == 2
    with pytest.raises(ModelError, match="gives a dict of losses"):
        task.loss(lambda images, targets: images, batch)  # type: ignore[arg-type]


def test_options_of_classification_do_not_apply(source: DataSource) -> None:
    with pytest.raises(DataError, match=r"task\.mixup does not apply to detection"):
        make_task(TaskConfig(mixup=0.2), source)

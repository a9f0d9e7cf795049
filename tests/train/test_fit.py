"""A model that does not fit its data is refused before there is a folder, with both sides named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from torch.utils.data import Subset

from fxbio.errors import CaptureError, ModelError
from fxbio.train.config import load_recipe
from fxbio.train.data import open_data
from fxbio.train.data.make_shapes_coco import make_shapes_coco
from fxbio.train.engine.run import train
from tests.train.tiny import recipe, source

RECIPES = Path(__file__).parent.parent.parent / "examples" / "recipes"


def test_too_few_logits_leave_no_folder(tmp_path: Path) -> None:
    settings = recipe("model.args={classes: 1}", "train.sanity_batches=0")
    with pytest.raises(ModelError, match="2 classes, the model gives 1 logits") as caught:
        train(settings, tmp_path / "run", data=source())
    assert "model.args.num_classes=2" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_images_that_the_model_does_not_take(tmp_path: Path) -> None:
    settings = recipe("model.args={channels: 3}", model="coloured")
    with pytest.raises(CaptureError) as caught:
        train(settings, tmp_path / "run", data=source())
    text = str(caught.value)
    assert "the data gives a batch of shape (2, 1, 8, 8), and 2 classes" in text
    assert "model.args that the model was built with: channels=3" in text
    assert "--input" not in text
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("classes", [2, 5])
def test_a_detector_for_fewer_classes_is_refused_whatever_its_first_images_show(
    tmp_path: Path, classes: int
) -> None:
    make_shapes_coco(tmp_path / "data", images=24, size=64)
    changes = [f"data.path={tmp_path / 'data'}", f"model.args.num_classes={classes}"]
    settings = load_recipe(
        RECIPES / "shapes-coco.yaml",
        [*changes, "model.args.size=64", "data.workers=0", "train.device=cpu"],
    )
    data = open_data(settings.data)
    size = len(data.train)  # type: ignore[arg-type]
    first = [k for k in range(size) if int(data.train[k][1]["labels"].max()) < classes]
    train_set = Subset(data.train, [*first, *set(range(size)).difference(first)])
    assert int(train_set[0][1]["labels"].max()) < classes
    with pytest.raises(CaptureError) as caught:
        train(settings, tmp_path / "run", data=replace(data, train=train_set))
    assert "6 classes, with the background" in str(caught.value)
    assert "model.args.num_classes=6" in str(caught.value)
    assert not (tmp_path / "run").exists()

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Command = Callable[..., Result]


@pytest.mark.parametrize("kind", ["shapes", "shapes-coco"])
def test_what_is_made_passes_its_check(kind: str, folder: Path, fxbio_command: Command) -> None:
    made = fxbio_command("data", "make", kind, "out", "--images", 16, "--size", 32, "--seed", 3)
    assert (made.exit_code, made.stdout, made.stderr) == (0, "", "wrote out\n")
    checked = fxbio_command("data", "check", "out", "--read")
    assert checked.exit_code == 0
    assert checked.stdout.startswith("train: 16 images")
    found = json.loads(fxbio_command("data", "check", "out", "--json").stdout)
    assert found["kind"] == {"shapes": "folder", "shapes-coco": "coco"}[kind]
    assert found["findings"] == checked.stdout.splitlines()
    assert "ring" in found["classes"]


def test_an_existing_folder_is_kept(folder: Path, fxbio_command: Command) -> None:
    assert fxbio_command("data", "make", "shapes", "out", "--images", 5).exit_code == 0
    again = fxbio_command("data", "make", "shapes", "out")
    assert again.exit_code == 2
    assert again.stderr == (
        "error: out is there already\n  = help: give another path, or remove it\n"
    )


def test_a_place_that_cannot_be_written(folder: Path, fxbio_command: Command) -> None:
    (folder / "file").write_text("")
    result = fxbio_command("data", "make", "shapes", "file/out")
    assert result.exit_code == 2
    assert result.stderr == "error: nothing can be written to file: File exists\n"


def test_an_unknown_kind(fxbio_command: Command) -> None:
    result = fxbio_command("data", "make", "shape", "out")
    assert result.exit_code == 2
    assert "'shape' is not one of 'shapes', 'shapes-coco'" in result.stderr


def test_read_names_the_broken_image(folder: Path, fxbio_command: Command) -> None:
    fxbio_command("data", "make", "shapes", "out", "--images", 5)
    (folder / "out/val/ring/000004.jpg").write_bytes(b"hello")
    assert "000004" not in fxbio_command("data", "check", "out").stdout
    found = fxbio_command("data", "check", "out", "--read")
    lines = found.stdout.splitlines()
    assert (found.exit_code, len(lines)) == (1, 3)
    assert lines[2].startswith("out/val/ring/000004.jpg cannot be read as an image")


def test_boxes_as_corners_are_told(folder: Path, fxbio_command: Command) -> None:
    fxbio_command("data", "make", "shapes-coco", "made", "--images", "8")
    path = folder / "made" / "annotations" / "instances_train2017.json"
    data = json.loads(path.read_text())
    sizes = {image["id"]: (image["width"], image["height"]) for image in data["images"]}
    beyond = 0
    for item in data["annotations"]:
        left, top, width, height = item["bbox"]
        item["bbox"] = [left, top, left + width, top + height]
        wide, high = sizes[item["image_id"]]
        beyond += left + left + width > wide + 1 or top + top + height > high + 1
    path.write_text(json.dumps(data))
    result = fxbio_command("data", "check", "made")
    assert result.exit_code == 0
    assert beyond > 0
    assert f"train: {beyond} boxes reach beyond their image" in result.stdout
    assert "val: " in result.stdout
    assert result.stdout.count("could be corners (x1, y1, x2, y2)") == 1


def test_a_missing_folder(folder: Path, fxbio_command: Command) -> None:
    result = fxbio_command("data", "check", "nowhere")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: there is no folder nowhere\n")

"""The detectors of torchvision take a step, with sign-symmetry in their backbones."""

from __future__ import annotations

from pathlib import Path

import pytest

from fxbio.train.config import recipe_from
from fxbio.train.data.make_shapes_coco import make_shapes_coco
from fxbio.train.engine.dry_run import dry_run

POLICY = """
version: 1
default: bp
rules:
  - where: {module: "backbone.**", op: conv}
    rule: usf
    with: {magnitude: matched}
"""
SMALL = {"min_size": 64, "max_size": 96}
DETECTORS = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": (SMALL, "loss_objectness"),
    "fcos_resnet50_fpn": (SMALL, "bbox_ctrness"),
    "ssdlite320_mobilenet_v3_large": ({}, "bbox_regression"),  # its size is fixed
}
"""What makes each of them quick, and a loss that it has."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("detectors")
    make_shapes_coco(path / "data", images=6, size=64)
    (path / "policy.yaml").write_text(POLICY)
    return path


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_of_torchvision_takes_a_step(name: str, folder: Path) -> None:
    options, loss = DETECTORS[name]
    weights = {"num_classes": 6, "weights": None, "weights_backbone": None}
    recipe = recipe_from(
        {
            "model": {"reference": f"torchvision:detection/{name}", "args": {**weights, **options}},
            "policy": {"file": str(folder / "policy.yaml")},
            "data": {"name": "coco", "path": str(folder / "data"), "workers": 0},
            "optim": {"lr": 1e-3},
            "train": {"epochs": 1, "batch_size": 2, "device": "cpu"},
        }
    )
    said: list[str] = []
    dry_run(recipe, said.append)
    assert any(line.startswith("rules") and "usf{magnitude=matched}" in line for line in said)
    assert f"{loss} " in next(line for line in said if line.startswith("step 1"))

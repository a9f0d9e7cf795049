"""Example inputs for torchvision's models, by the class of the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import Inception3, VisionTransformer
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.ssd import SSD
from torchvision.models.optical_flow import RAFT
from torchvision.models.video import S3D, MViT, SwinTransformer3d, VideoResNet

from fxbio.models.inputs import ExampleInputs

__all__ = ["torchvision_inputs"]

_BATCH = 2
"""Batch norm over 1x1 maps needs more than one image in training mode."""
_DETECTION_SIZE = 224


def torchvision_inputs(model: nn.Module, generator: torch.Generator) -> ExampleInputs:
    """Inputs for a model of ``torchvision.models``, or of a class that extends one."""
    if isinstance(model, (GeneralizedRCNN, RetinaNet, FCOS, SSD)):
        return _detection(model, generator)
    for cls, shapes in _SHAPES.items():
        if isinstance(model, cls):
            return _tensors(shapes(model), generator)
    return _tensors([(_BATCH, _channels(model), 224, 224)], generator)


Shape = tuple[int, ...]


def _image(size: int) -> Callable[[Any], list[Shape]]:
    return lambda model: [(_BATCH, 3, size, size)]


def _clip(frames: int, size: int) -> Callable[[Any], list[Shape]]:
    return lambda model: [(_BATCH, 3, frames, size, size)]


def _mvit_shape(model: MViT) -> Shape:
    """The one size that its positions fit; one clip, for it has no batch norm and two take long."""
    grid = (model.pos_encoding.temporal_size, *model.pos_encoding.spatial_size)
    return (1, 3, *(n * stride for n, stride in zip(grid, model.conv_proj.stride, strict=True)))


_SHAPES: dict[type[nn.Module], Callable[[Any], list[Shape]]] = {
    Inception3: _image(299),
    VisionTransformer: lambda model: [(_BATCH, 3, model.image_size, model.image_size)],
    VideoResNet: _clip(8, 112),
    SwinTransformer3d: _clip(16, 112),
    S3D: _clip(16, 224),
    MViT: lambda model: [_mvit_shape(model)],
    RAFT: lambda model: [(_BATCH, 3, 128, 128)] * 2,
}


def _tensors(shapes: list[Shape], generator: torch.Generator) -> ExampleInputs:
    return ExampleInputs(tuple(torch.randn(shape, generator=generator) for shape in shapes))


def _channels(model: nn.Module) -> int:
    """Input channels, which people change by replacing the first convolution."""
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    return 3 if first is None else first.in_channels


def _detection(model: nn.Module, generator: torch.Generator) -> ExampleInputs:
    """Images and targets; in eval mode torchvision's detectors ignore the targets."""
    # The small SSD has batch norm on a 1x1 map. The others resize to 800 pixels: one is enough.
    count = _BATCH if isinstance(model, SSD) else 1
    size = _DETECTION_SIZE
    images = [torch.rand((3, size, size), generator=generator) for _ in range(count)]
    return ExampleInputs((images, [_target(model, size) for _ in range(count)]))


def _target(model: nn.Module, size: int) -> dict[str, Tensor]:
    quarter, half = size // 4, size // 2
    boxes = torch.tensor([[8, 8, half, half], [quarter, quarter, size - 8, size - 8]])
    target = {"boxes": boxes.float(), "labels": torch.ones(2, dtype=torch.int64)}
    if not isinstance(model, GeneralizedRCNN):
        return target
    heads = model.roi_heads
    if heads.has_mask():
        target["masks"] = torch.zeros((2, size, size), dtype=torch.uint8)
        for mask, (x0, y0, x1, y1) in zip(target["masks"], boxes.tolist(), strict=True):
            mask[y0:y1, x0:x1] = 1
    if heads.has_keypoint():
        points = heads.keypoint_predictor.kps_score_lowres.out_channels
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        xyv = torch.cat([centres, torch.ones(2, 1)], dim=1)
        target["keypoints"] = xyv[:, None, :].repeat(1, points, 1)
    return target

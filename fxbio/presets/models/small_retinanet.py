"""A RetinaNet of half a million parameters, which a CPU trains on small images in a minute.

    fxbio inspect examples/models/small_retinanet.py

It is torchvision's ``RetinaNet`` on a small ResNet with a pyramid of three levels, and its modules
have the names of the large one: ``backbone.body.**``, ``backbone.fpn.**``, ``head.**``.
"""

from collections import OrderedDict
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import FeaturePyramidNetwork

CHANNELS = (24, 32, 48, 64, 96)
"""Of the stem and the four stages, which shrink the image 2, 4, 8, 16 and 32 times."""

LEVELS = 3
"""The last stages go into the pyramid."""

WIDTH = 48
"""Channels of the pyramid and of the heads."""

GROUPS = 8
"""Of the norms in the heads. Without norms torchvision's initial weights, made for 256 channels,
leave nothing of the signal after four layers of 48."""

ANCHORS = ((16, 22), (32, 45), (64, 90))
"""Sides of the square anchors at each level of the pyramid, in pixels."""


class Block(nn.Module):
    """Two 3×3 convolutions that halve the size, with a 1×1 convolution around them."""

    def __init__(self, channels: int, wider: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, wider, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(wider)
        self.conv2 = nn.Conv2d(wider, wider, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(wider)
        self.shortcut = nn.Conv2d(channels, wider, 1, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(h)) + self.shortcut(x))


class Body(nn.Module):
    """A stem and four blocks, named and initialised as torchvision's ResNets.

    Sign feedback by the convention of Xiao et al. is of the size of these weights.
    """

    def __init__(self) -> None:
        super().__init__()
        stem, one, two, three, four = CHANNELS
        self.conv1 = nn.Conv2d(3, stem, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.layer1 = Block(stem, one)
        self.layer2 = Block(one, two)
        self.layer3 = Block(two, three)
        self.layer4 = Block(three, four)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        h = self.layer1(F.relu(self.bn1(self.conv1(images))))
        c2 = self.layer2(h)
        c3 = self.layer3(c2)
        return OrderedDict([("0", c2), ("1", c3), ("2", self.layer4(c3))])


class Backbone(nn.Module):
    """The body and the pyramid on top of it."""

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.body = Body()
        self.fpn = FeaturePyramidNetwork(list(CHANNELS[-LEVELS:]), out_channels)

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        return self.fpn(self.body(images))


def build_model(num_classes: int = 6, size: int = 128) -> RetinaNet:
    """The detector.

    Args:
        num_classes: with the background.
        size: to which the shorter side of an image is resized.
    """
    head = RetinaNetHead(
        WIDTH, len(ANCHORS[0]), num_classes, norm_layer=partial(nn.GroupNorm, GROUPS)
    )
    return RetinaNet(
        Backbone(WIDTH),
        num_classes,
        min_size=size,
        max_size=2 * size,
        anchor_generator=AnchorGenerator(ANCHORS, ((1.0,),) * LEVELS),
        head=head,
    )

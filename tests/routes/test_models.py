"""Models as people use them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

import fxbio
from tests.routes.nets import labels, transformed

CONVS = {"module": "**", "op": "conv"}


@pytest.mark.parametrize(
    "options",
    [
        {"projection": "channel"},
        {"at": "input", "skip": "sum", "projection": "conv", "init": "biotorch-xavier"},
        {"at": "block", "block": "layer*.*", "projection": "channel"},
    ],
    ids=["activation", "input", "block"],
)
def test_resnet18(options: dict[str, Any]) -> None:
    entry = {"where": {"module": "layer*.**", "op": "conv"}, "rule": "dfa", "with": options}
    model = torchvision.models.resnet18(num_classes=3)
    made = transformed(model, torch.rand(2, 3, 64, 64), "bp", entry)
    found = fxbio.verify(made)
    assert found.ok, found
    F.cross_entropy(made(torch.rand(4, 3, 64, 64)), labels()).backward()
    assert all(p.grad is not None and p.grad.any() for p in made.parameters())


def test_the_two_branches_of_a_residual_block_receive_together() -> None:
    entry = {"where": {"module": "layer2.**", "op": "conv"}, "rule": "dfa",
             "with": {"projection": "channel"}}  # fmt: skip
    made = transformed(
        torchvision.models.resnet18(num_classes=3), torch.rand(2, 3, 32, 32), "bp", entry
    )
    paths = {row.site: row.path for row in fxbio.verify(made).rows}
    assert paths["layer2.0.downsample.0"] == "with layer2.0.conv2"


@pytest.mark.parametrize("name", ["mobilenet_v2", "densenet121", "squeezenet1_1"])
def test_other_convolutional_nets(name: str) -> None:
    """Linear bottlenecks, concatenated features, and a convolution that is itself the output."""
    model = torchvision.models.get_model(name, num_classes=3)
    entry = {"where": CONVS, "rule": "dfa", "with": {"projection": "channel"}}
    made = transformed(model, torch.rand(2, 3, 64, 64), "bp", entry)
    found = fxbio.verify(made)
    assert found.ok, found
    F.cross_entropy(made(torch.rand(4, 3, 64, 64)), labels()).backward()
    assert not [n for n, p in made.named_parameters() if p.grad is None]
    exact = {row.site for row in found.rows if row.path == "the error itself"}
    assert exact == ({"classifier.1"} if name == "squeezenet1_1" else set())


def test_vision_transformer() -> None:
    model = torchvision.models.VisionTransformer(32, 16, 2, 2, 16, 32, num_classes=3)
    options = {"at": "block", "block": "encoder.layers.*", "projection": "channel"}
    entry = {"where": {"module": "encoder.layers.**"}, "rule": "dfa", "with": options}
    made = transformed(model, torch.rand(2, 3, 32, 32), "bp", entry)
    found = fxbio.verify(made)
    assert found.ok, found
    assert [row.calls for row in found.rows] == [1, 1]


def detection() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    targets = {"boxes": torch.tensor([[4.0, 4.0, 40.0, 40.0]]), "labels": torch.tensor([1])}
    return [torch.rand(3, 64, 64), torch.rand(3, 64, 64)], [targets, targets]


def test_a_detector_with_two_heads() -> None:
    """Its losses are computed inside; two errors are sent, of 3 · 9 and of 4 features."""
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=5)
    model = RetinaNet(backbone, num_classes=3, min_size=64, max_size=64)
    heads = ["head.classification_head", "head.regression_head"]
    options = {"projection": "channel", "source": heads}
    entry = {"where": {"module": "backbone.body.**", "op": "conv"}, "rule": "dfa", "with": options}
    made = transformed(model, detection(), "bp", entry)
    found = fxbio.verify(made)
    assert found.ok, found
    routes = made._fxbio_binding.routes
    units = {unit for _, unit in routes.deliveries}
    assert set(routes.deliveries) == {(head, unit) for head in heads for unit in units}
    assert len(units) == 17
    sum(made(*detection()).values()).backward()
    assert all(p.grad is not None for n, p in made.named_parameters() if "body" in n)
    made.eval()
    with torch.no_grad():
        made([torch.rand(3, 64, 64)])


def test_two_ranks_do_what_one_process_does(tmp_path: Any) -> None:
    from tests.routes.ddp_worker import RULES, gradients_of, run

    torch.multiprocessing.spawn(run, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for rule in RULES:
        whole = gradients_of(rule, slice(None))
        for name, gradient in whole.items():
            torch.testing.assert_close(first[rule][name], gradient, msg=f"{rule}: {name}")
            assert torch.equal(first[rule][name], second[rule][name])


def test_buffers_are_left_to_each_rank() -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    made = transformed(net, torch.rand(2, 6))
    assert made._ddp_params_and_buffers_to_ignore == ["fxbio_route_0"]

"""Models cut into blocks: sites, boundaries, shapes, operations; and what cannot be cut."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import fxbio
from fxbio.errors import PolicyError
from fxbio.nn import LocallyConnected2d
from fxbio.target_propagation.blocks import Block, partition
from fxbio.target_propagation.operations import Activation, Geometry


def blocks_of(model: nn.Module, x: Any, *globs: str) -> tuple[Block, ...]:
    return partition(model, fxbio.capture(model, x), globs)


def names(blocks: tuple[Block, ...]) -> list[str]:
    return [block.name for block in blocks]


def kinds(block: Block) -> list[str]:
    return [operation.kind for operation in block.operations]


def check_chain(blocks: tuple[Block, ...]) -> None:
    assert blocks[0].input is None
    assert blocks[0].predecessor is None
    for before, block in itertools.pairwise(blocks):
        assert (block.input, block.predecessor) == (before.output, before.name)
        assert block.input_shape == before.output_shape
        assert block.operations[0].input_shape == block.input_shape
        assert block.operations[-1].output_shape == block.output_shape


def test_a_perceptron() -> None:
    layers = [nn.Linear(4, 5), nn.Tanh(), nn.Dropout(), nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)]
    blocks = blocks_of(nn.Sequential(*layers), torch.randn(2, 4))
    check_chain(blocks)
    assert names(blocks) == ["0", "3", "5"]
    assert [block.sites for block in blocks] == [("0",), ("3",), ("5",)]
    assert [block.output for block in blocks] == ["_2", "_4", "_5"]
    assert [block.output_shape for block in blocks] == [(2, 5), (2, 6), (2, 3)]
    assert [kinds(block) for block in blocks] == [
        ["linear", "activation", "kept"],
        ["linear", "activation"],
        ["linear"],
    ]
    assert [block.entry for block in blocks] == [None, Activation("tanh"), Activation("relu")]
    assert blocks[0].operations[0].weight_shape == (5, 4)


def test_a_convolutional_net() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.LeakyReLU(0.2, inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, (3, 1), padding="same", dilation=2, groups=4),
        nn.ELU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 2),
    )
    blocks = blocks_of(model, torch.randn(2, 3, 16, 16))
    check_chain(blocks)
    assert names(blocks) == ["0", "4", "8"]
    assert blocks[0].norms == ("1",)
    assert kinds(blocks[0]) == ["conv", "kept", "activation", "pool"]
    assert kinds(blocks[1]) == ["conv", "activation", "pool", "reshape"]
    assert blocks[0].operations[0].geometry == Geometry((3, 3), (2, 2), (1, 1), (1, 1), 1)
    assert blocks[1].operations[0].geometry == Geometry((3, 1), (1, 1), (2, 0), (2, 2), 4)
    assert blocks[1].entry == Activation("leaky_relu", (("negative_slope", 0.2),))
    assert str(blocks[2].entry) == "elu(alpha=1.0)"


class Functional(nn.Module):
    """The same layers, called as functions on parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Parameter(torch.randn(8, 3, 3, 3))
        self.up = nn.Parameter(torch.randn(8, 4, 2, 2))
        self.mix = nn.Parameter(torch.randn(4, 6))

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(F.conv2d(x, self.conv, stride=2, padding=1), 0.3)
        x = torch.tanh(F.conv_transpose2d(x, self.up, stride=2))
        x = F.gelu(x.mean((2, 3)), approximate="tanh")
        return torch.einsum("ni,io->no", x, self.mix)


def test_functions_are_read_like_modules() -> None:
    blocks = blocks_of(Functional(), torch.randn(2, 3, 8, 8))
    check_chain(blocks)
    assert [block.sites for block in blocks] == [("conv",), ("up",), ("mix",)]
    assert [kinds(block) for block in blocks] == [
        ["conv", "activation"],
        ["conv_transpose", "activation", "pool", "activation"],
        ["einsum"],
    ]
    assert blocks[0].operations[0].geometry == Geometry((3, 3), (2, 2), (1, 1), (1, 1), 1)
    assert blocks[1].operations[0].geometry == Geometry((2, 2), (2, 2), (0, 0), (1, 1), 1)
    assert blocks[1].entry == Activation("leaky_relu", (("negative_slope", 0.3),))
    assert blocks[2].entry == Activation("gelu", (("approximate", "tanh"),))
    assert blocks[2].operations[0].equation == ("ni", "io", "no")


def test_vgg11() -> None:
    blocks = blocks_of(torchvision.models.vgg11(), torch.randn(2, 3, 64, 64))
    check_chain(blocks)
    features = [f"features.{i}" for i in (0, 3, 6, 8, 11, 13, 16, 18)]
    assert names(blocks) == [*features, *(f"classifier.{i}" for i in (0, 3, 6))]
    assert kinds(blocks[7]) == ["conv", "activation", "pool", "pool", "reshape"]


RESIDUAL = [f"layer{i}.{j}" for i in (1, 2, 3, 4) for j in (0, 1)]


def test_resnet18() -> None:
    blocks = blocks_of(torchvision.models.resnet18(), torch.randn(2, 3, 64, 64))
    check_chain(blocks)
    assert names(blocks) == ["conv1", *RESIDUAL, "fc"]
    assert blocks[1].sites == ("layer1.0.conv1", "layer1.0.conv2")
    assert blocks[3].sites == tuple(f"layer2.0.{n}" for n in ("conv1", "conv2", "downsample.0"))
    assert kinds(blocks[3])[:4] == ["conv", "kept", "activation", "conv"]
    assert all(block.module is None for block in blocks)
    assert all(block.entry == Activation("relu") for block in blocks[1:])


def test_named_modules_are_one_block() -> None:
    model, x = torchvision.models.resnet18(), torch.randn(2, 3, 64, 64)
    blocks = blocks_of(model, x, "layer1", "layer*.*")
    check_chain(blocks)
    assert names(blocks) == ["conv1", "layer1", *RESIDUAL[2:], "fc"]
    assert blocks[1].module == "layer1"
    assert len(blocks[1].sites) == 4


def test_a_transformer() -> None:
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model, x = nn.Sequential(nn.Linear(3, 8), encoder, nn.Linear(8, 2)), torch.randn(2, 5, 3)
    blocks = blocks_of(model, x)
    check_chain(blocks)
    assert names(blocks) == ["0", "1.self_attn", "1.linear1", "2"]
    assert blocks[2].sites == ("1.linear1", "1.linear2")
    assert blocks[2].norms == ("1.norm2",)
    blocks = blocks_of(model, x, "1")
    check_chain(blocks)
    assert names(blocks) == ["0", "1", "2"]
    assert blocks[1].sites == tuple(
        f"1.{name}"
        for name in ("self_attn.in_proj_weight", "self_attn.out_proj", "linear1", "linear2")
    )


def test_vit_is_cut_at_its_residual_stream() -> None:
    model = torchvision.models.VisionTransformer(16, 8, 2, 2, 12, 24, num_classes=3)
    blocks = blocks_of(model, torch.randn(2, 3, 16, 16))
    check_chain(blocks)
    assert len(blocks) == 6
    assert {block.input_shape for block in blocks[1:5]} == {(2, 5, 12)}


def test_a_module_prepares_its_input_itself() -> None:
    """What comes in a module before its weight is part of its block: ``unfold`` here."""
    first, second = LocallyConnected2d(1, 2, 7, 3), LocallyConnected2d(2, 3, 5, 3)
    blocks = blocks_of(nn.Sequential(first, nn.Tanh(), second), torch.randn(2, 1, 7, 7))
    check_chain(blocks)
    assert [block.output for block in blocks] == ["_1", "add_1"]
    assert kinds(blocks[1]) == ["unfold", "einsum", "reshape", "kept"]


class Masked(nn.Module):
    """Positions that are added, and a mask that every layer reads."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 4)
        self.position = nn.Parameter(torch.randn(5, 4))
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.position
        x = torch.tanh(self.a(x)) * mask[..., None]
        return self.b(x) * mask[..., None]


def test_what_no_error_reaches_is_no_input() -> None:
    blocks = blocks_of(Masked(), (torch.randint(9, (2, 5)), torch.ones(2, 5)))
    check_chain(blocks)
    assert names(blocks) == ["a", "b"]


class TwoWays(nn.Module):
    """Two layers side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.a(x))
        return self.d(self.b(x) + self.c(x))


def refused(model: nn.Module, x: Any, *globs: str) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        blocks_of(model, x, *globs)
    return str(caught.value).splitlines()


def test_ways_that_meet_again_are_one_block() -> None:
    blocks = blocks_of(TwoWays(), torch.randn(2, 4))
    check_chain(blocks)
    assert [block.sites for block in blocks] == [("a",), ("b", "c"), ("d",)]


def test_a_named_module_must_be_a_block() -> None:
    headline = "module 'c' of TwoWays cannot be a block"
    assert refused(TwoWays(), torch.randn(2, 4), "c") == [
        f"{headline}: a block has one tensor going in and one coming out",
        "  = note: its sites: c",
        "  = note: going in: tanh; coming out: c",
        "  = note: the smallest block around it has the sites b, c",
        "  = help: name a larger module under blocks:, or leave this one out",
    ]


def test_a_glob_must_match() -> None:
    assert refused(TwoWays(), torch.randn(2, 4), "e") == [
        "blocks: 'e' matches no module of TwoWays",
        "  = note: at the top of the model there is: a, b, c, d",
        "  = help: list the modules with: fxbio inspect MODEL",
    ]


class TwoOutputs(TwoWays):
    def forward(self, x: Tensor) -> Any:
        x = torch.tanh(self.a(x))
        return {"left": self.b(x), "right": self.c(x)}


def test_several_outputs_are_refused() -> None:
    assert refused(TwoOutputs(), torch.randn(2, 4)) == [
        "block 'b' of TwoOutputs does not end in one tensor",
        "  = note: its sites: b, c",
        "  = note: it returns: b, c",
        "  = help: target propagation needs a chain of blocks; give these sites rule: bp",
    ]


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.tanh(self.layer(x)))


def test_every_use_of_a_weight_is_a_block() -> None:
    blocks = blocks_of(Shared(), torch.randn(2, 4))
    check_chain(blocks)
    assert names(blocks) == ["layer", "layer#1"]


class TimeFirst(nn.Module):
    """Between its layers the batch is not in front, so no sample has an error of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(4, 4) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.a(x)).transpose(0, 1)
        return self.c(torch.tanh(self.b(x)).transpose(0, 1))


def test_blocks_are_cut_where_the_batch_is_in_front() -> None:
    blocks = blocks_of(TimeFirst(), torch.randn(2, 5, 4))
    check_chain(blocks)
    assert [block.sites for block in blocks] == [("a", "b"), ("c",)]


def test_a_model_without_weights_has_no_blocks() -> None:
    assert blocks_of(nn.Tanh(), torch.randn(2, 4)) == ()

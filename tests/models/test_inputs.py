from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_map
from torchvision.ops import MLP

from fxbio.errors import ModelError
from fxbio.models.default_inputs import default_inputs
from fxbio.models.input_spec import parse_input, parse_inputs
from fxbio.models.inputs import ExampleInputs, as_example_inputs
from fxbio.models.zoo import build_torchvision


@pytest.mark.parametrize(
    ("spec", "name", "shape", "dtype"),
    [
        ("1x3x224x224", None, (1, 3, 224, 224), torch.float32),
        ("7", None, (7,), torch.float32),
        (" 2x3 ", None, (2, 3), torch.float32),
        ("2x3:float64", None, (2, 3), torch.float64),
        ("2x3:bfloat16", None, (2, 3), torch.bfloat16),
        ("2x16:int64<1000", None, (2, 16), torch.int64),
        ("2x16:bool", None, (2, 16), torch.bool),
        ("input_ids=2x16:int64<100", "input_ids", (2, 16), torch.int64),
        ("mask = 2x16 : int32 < 2", "mask", (2, 16), torch.int32),
    ],
)
def test_a_tensor_spec(
    spec: str, name: str | None, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    found, value = parse_input(spec)
    assert found == name
    assert value.shape == shape
    assert value.dtype == dtype


def test_bounds_hold_and_are_reached() -> None:
    _, value = parse_input("1000:int64<3")
    assert value.unique().tolist() == [0, 1, 2]
    _, value = parse_input("1000:int64")
    assert value.unique().tolist() == [0, 1]


def test_lists_nest() -> None:
    _, value = parse_input("[3x64x64, [3x80x64,2:int64]]")
    assert value[0].shape == (3, 64, 64)
    assert value[1][0].shape == (3, 80, 64)
    assert value[1][1].dtype == torch.int64


def test_several_inputs_keep_order_and_names() -> None:
    inputs = parse_inputs(["1x2", "[3x4]", "mask=1x2:bool"])
    assert str(inputs) == "1x2:float32, [3x4:float32], mask=1x2:bool"


def test_values_follow_from_the_seed() -> None:
    first, again, other = (parse_inputs(["4x4", "4x4"], seed=seed).args for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0], first[1])


def test_parsing_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    parse_inputs(["2x2", "2x2:int64<9"])
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("spec", "note"),
    [
        ("", "expected sizes like 1x3x224x224, found nothing"),
        ("three", "found three"),
        ("1x3y4", "'y4' was not expected"),
        ("1x3:float23", "did you mean 'float32'"),
        ("1x3:float32<4", "a bound (<4) is for whole numbers"),
        ("1x3:int64<0", "at least 1"),
        ("[1x3", "expected ',' or ']', found the end"),
        ("[1x3;2]", "found ;"),
        ("[]", "expected sizes"),
        ("x=", "found nothing"),
        ("1x2 3", "'3' was not expected"),
    ],
)
def test_a_bad_spec_says_what_is_wrong_and_shows_the_syntax(spec: str, note: str) -> None:
    with pytest.raises(ModelError) as caught:
        parse_input(spec)
    message = str(caught.value)
    assert f"cannot read the input '{spec}'" in message
    assert note in message
    assert "--input 1x3x224x224" in message


def test_a_name_given_twice() -> None:
    with pytest.raises(ModelError, match="'x' is given twice"):
        parse_inputs(["x=1", "x=2"])


def test_as_example_inputs() -> None:
    x = torch.zeros(1)
    inputs = ExampleInputs((x,), {"y": x})
    assert as_example_inputs(inputs) is inputs
    assert as_example_inputs(x).args == (x,)
    assert as_example_inputs([x, 3]).args == (x, 3)
    assert as_example_inputs({"y": x}) == ExampleInputs((), {"y": x})
    with pytest.raises(ModelError, match="cannot be an int"):
        as_example_inputs(3)


class WithMethod(nn.Linear):
    def example_inputs(self) -> torch.Tensor:
        return torch.zeros(5, self.in_features)


class Failing(nn.Linear):
    def example_inputs(self) -> torch.Tensor:
        raise ValueError("no idea")


def test_a_model_may_say_its_own_inputs() -> None:
    inputs = default_inputs(WithMethod(3, 4))
    assert inputs is not None
    assert inputs.args[0].shape == (5, 3)

    plain = nn.Linear(3, 4)
    plain.example_inputs = {"input": torch.zeros(2, 3)}  # type: ignore[assignment]
    inputs = default_inputs(plain)
    assert inputs is not None
    assert list(inputs.kwargs) == ["input"]


def test_a_failing_hook_is_reported() -> None:
    with pytest.raises(
        ModelError, match=r"example_inputs\(\) of Failing raised ValueError: no idea"
    ):
        default_inputs(Failing(3, 4))


@pytest.mark.parametrize("model", [nn.Linear(3, 4), MLP(3, [4])])
def test_nothing_is_guessed_for_other_models(model: nn.Module) -> None:
    assert default_inputs(model) is None


# One model of each way of making inputs; tests/sweep.py goes through all.
FAMILIES = {
    "mobilenet_v3_small": ["2x3x224x224:float32"],
    "inception_v3": ["2x3x299x299:float32"],
    "vit_b_16": ["2x3x224x224:float32"],
    "lraspp_mobilenet_v3_large": ["2x3x224x224:float32"],
    "r3d_18": ["2x3x8x112x112:float32"],
    "s3d": ["2x3x16x224x224:float32"],
    "swin3d_t": ["2x3x16x112x112:float32"],
    "mvit_v1_b": ["1x3x16x224x224:float32"],
    "raft_small": ["2x3x128x128:float32", "2x3x128x128:float32"],
}


@pytest.mark.parametrize(("name", "expected"), FAMILIES.items())
def test_torchvision_models_run_on_their_default_inputs(name: str, expected: list[str]) -> None:
    with torch.device("meta"):
        model = build_torchvision(name, {})
    inputs = default_inputs(model)
    assert inputs is not None
    assert str(inputs).split(", ") == expected
    with torch.no_grad():
        model(*tree_map(lambda x: x.to("meta"), inputs.args))


def test_a_replaced_first_convolution_is_respected() -> None:
    model = build_torchvision("resnet18", {})
    model.conv1 = nn.Conv2d(1, 64, 7)
    assert str(default_inputs(model)) == "2x1x224x224:float32"


DETECTORS = {
    "retinanet_resnet50_fpn": (1, {"boxes", "labels"}),
    "fcos_resnet50_fpn": (1, {"boxes", "labels"}),
    "fasterrcnn_mobilenet_v3_large_320_fpn": (1, {"boxes", "labels"}),
    "maskrcnn_resnet50_fpn": (1, {"boxes", "labels", "masks"}),
    "keypointrcnn_resnet50_fpn": (1, {"boxes", "labels", "keypoints"}),
    "ssdlite320_mobilenet_v3_large": (2, {"boxes", "labels"}),
}


@pytest.mark.parametrize(("name", "images", "keys"), [(n, *v) for n, v in DETECTORS.items()])
def test_detectors_get_images_and_targets(name: str, images: int, keys: set[str]) -> None:
    with torch.device("meta"):
        model = build_torchvision(name, {})
    inputs = default_inputs(model)
    assert inputs is not None
    given, targets = inputs.args
    assert len(given) == len(targets) == images
    for target in targets:
        assert set(target) == keys
        x0, y0, x1, y1 = target["boxes"].unbind(1)
        assert bool(((x0 < x1) & (y0 < y1) & (x1 <= 224) & (y1 <= 224)).all())


def test_a_small_detector_trains_on_its_default_inputs() -> None:
    torch.manual_seed(0)
    model = build_torchvision("fasterrcnn_mobilenet_v3_large_320_fpn", {})
    inputs = default_inputs(model)
    assert inputs is not None
    losses = model(*inputs.args)
    assert all(torch.isfinite(loss) for loss in losses.values())


def _timm(name: str, **options: Any) -> nn.Module:
    return pytest.importorskip("timm").create_model(name, **options)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: _timm("resnet18"), "2x3x224x224:float32"),
        (lambda: _timm("efficientnet_b1"), "2x3x240x240:float32"),
        (lambda: _timm("vit_tiny_patch16_384", img_size=96), "2x3x96x96:float32"),
    ],
)
def test_timm_models(build: Callable[[], nn.Module], expected: str) -> None:
    with torch.device("meta"):
        model = build()
    assert str(default_inputs(model)) == expected


def _bert() -> nn.Module:
    hub = pytest.importorskip("transformers")
    config = hub.BertConfig(
        vocab_size=5,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
    )
    return hub.BertModel(config)  # type: ignore[no-any-return]


def _vit() -> nn.Module:
    hub = pytest.importorskip("transformers")
    config = hub.ViTConfig(
        image_size=32,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
    )
    return hub.ViTModel(config)  # type: ignore[no-any-return]


def _t5() -> nn.Module:
    hub = pytest.importorskip("transformers")
    config = hub.T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=8, num_layers=1, num_heads=2)
    return hub.T5Model(config)  # type: ignore[no-any-return]


@pytest.mark.parametrize("build", [_bert, _vit, _t5])
def test_transformers_models_run_on_their_default_inputs(build: Callable[[], nn.Module]) -> None:
    model = build()
    inputs = default_inputs(model)
    assert inputs is not None
    with torch.no_grad():
        model(*inputs.args, **inputs.kwargs)


@pytest.mark.parametrize(
    ("spec", "note"),
    [
        ("100000x100000x100x100", "MiB"),
        ("1x16385x16385:float32", "MiB"),
        ("1" + "x1" * 70, "at most 32 sizes"),
        ("9" * 5000, "MiB"),
        ("[" * 3000, "nested more than"),
        ("1x2:uint8<257", "holds no number above 255"),
        ("1x2:bool<3", "holds no number above 1"),
        ("1x2:int64<99999999999999999999999", "was not expected"),
    ],
)
def test_sizes_and_bounds_are_checked_before_anything_is_allocated(spec: str, note: str) -> None:
    with pytest.raises(ModelError, match=note):
        parse_input(spec)
    with pytest.raises(ModelError, match=note):
        parse_inputs(["x=" + spec])

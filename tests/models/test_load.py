from __future__ import annotations

import pickle
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from fxbio.errors import FxbioWarning, ModelError
from fxbio.models import load_reference, load_weights, parse_model_args

HEADER = "import torch\nfrom torch import nn\n"
NET = """
class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Linear(width, width)

class Net(nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.block = Block(width)
"""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes model.py; what loading it does to the import state is undone."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def make(text: str) -> Path:
        path = tmp_path / "model.py"
        path.write_text(HEADER + text)
        return path

    yield make
    for name in set(sys.modules) - before:
        if name.startswith("fxbio_file_") or name.endswith("_of_mine"):
            del sys.modules[name]


def message(reference: object, **model_args: object) -> str:
    with pytest.raises(ModelError) as caught:
        load_reference(str(reference), model_args)
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        NET,
        "def build_model():\n    return nn.Linear(2, 2)\n" + NET,
        "def model():\n    return nn.Linear(2, 2)\n" + NET + "class Other(Net): pass\n",
        "model = nn.Linear(2, 2)\n",
        "class model(nn.Module): pass\n" + NET,
        "from torch.nn import Identity, Flatten\n" + NET,
    ],
    ids=["only-class", "build_model", "model-function", "instance", "class-model", "imports"],
)
def test_the_model_of_a_file_is_found(write: Write, text: str) -> None:
    loaded = load_reference(str(write(text)))
    assert isinstance(loaded.model, nn.Module)
    assert type(loaded.model).__name__ in ("Linear", "Net", "model")
    assert loaded.name == "model"


def test_build_model_wins(write: Write) -> None:
    path = write(NET + "model = Net()\ndef build_model():\n    return nn.Linear(7, 7)\n")
    assert isinstance(load_reference(str(path)).model, nn.Linear)


def test_a_named_factory_with_arguments(write: Write) -> None:
    path = write(NET + "def build(width, *, twice=False):\n    return Net(width * (1 + twice))\n")
    loaded = load_reference(f"{path}:build", {"width": 4, "twice": True})
    assert loaded.model.block.conv.in_features == 8
    assert loaded.name == "model-build"
    assert loaded.model_args == {"width": 4, "twice": True}


def test_arguments_count_when_looking_for_the_only_class(write: Write) -> None:
    path = write("class A(nn.Module):\n    def __init__(self, n):\n        super().__init__()\n")
    assert "no model to build" in message(path)
    assert type(load_reference(str(path), {"n": 1}).model).__name__ == "A"


def test_several_models_are_listed_in_the_form_to_type(write: Write) -> None:
    path = write(NET + "class Tiny(nn.Module): pass\n")
    text = message(path)
    assert f"{path} has several models" in text
    assert f"{path}:Net or {path}:Tiny" in text
    assert "build_model()" in text


def test_a_file_without_a_model_says_what_it_has(write: Write) -> None:
    text = message(write("def make(width):\n    return nn.Linear(width, 2)\nnet = nn.ReLU()\n"))
    assert "no model to build" in text
    assert "model.py:make(width)" in text
    assert "model.py:net" in text
    assert "model.py defines no model" in message(write("x = 1\n"))


def test_a_function_that_could_be_called_is_proposed(write: Write) -> None:
    path = write(
        "class A(nn.Module):\n    def __init__(self, n):\n        super().__init__()\n"
        "def example_inputs(): ...\ndef small(width=3):\n    return A(width)\n"
    )
    text = message(path)
    assert f"name what to call: {path}:small; or add a function build_model()" in text
    assert "example_inputs" not in text


def test_an_unknown_name_gets_close_matches(write: Write) -> None:
    assert "did you mean 'build'?" in message(f"{write('def build(): ...')}:bild")


def test_wrong_arguments_are_told_before_the_call(write: Write) -> None:
    path = write("def build(width, depth=2):\n    return nn.Linear(width, depth)\n")
    text = message(f"{path}:build", width=1, dept=2)
    assert "takes no argument 'dept'" in text
    assert "did you mean 'depth'?" in text
    assert "called as (width, depth=2)" in text
    text = message(f"{path}:build")
    assert "needs the argument width" in text
    assert "--model-arg width=..." in text


def test_an_instance_takes_no_arguments(write: Write) -> None:
    assert "takes no arguments" in message(write("model = nn.ReLU()\n"), width=3)


@pytest.mark.parametrize(
    ("text", "gives"),
    [("def build_model(): return 3\n", "gives int"), ("def build_model(): pass\n", "NoneType")],
)
def test_a_factory_must_give_a_module(write: Write, text: str, gives: str) -> None:
    assert gives in message(write(text))


def test_an_exception_points_at_the_users_line(write: Write) -> None:
    path = write("def build_model():\n    return nn.Linear(2, -1 // 0)\n")
    with pytest.raises(ModelError) as caught:
        load_reference(str(path))
    error = caught.value
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert error.location is not None
    assert (error.location.file, error.location.line) == (str(path), 4)
    assert "building" in error.headline
    assert "ZeroDivisionError" in error.headline
    assert "    return nn.Linear(2, -1 // 0)\n" in str(error)


def test_an_exception_inside_torch_points_at_the_users_line_too(write: Write) -> None:
    path = write("def build_model():\n    net = nn.Linear(2, 2)\n    return net(torch.ones(3))\n")
    with pytest.raises(ModelError) as caught:
        load_reference(str(path))
    assert caught.value.location is not None
    assert caught.value.location.line == 5


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("def build_model(:\n", "SyntaxError"),
        ("import surely_not_installed\n", "ModuleNotFoundError"),
        ("raise SystemExit(2)\n", "SystemExit"),
        ("raise RuntimeError\n", "RuntimeError"),
    ],
)
def test_a_file_that_fails_to_run(write: Write, text: str, what: str) -> None:
    path, before = write(text), set(sys.modules)
    with pytest.raises(ModelError) as caught:
        load_reference(str(path))
    assert what in caught.value.headline
    assert caught.value.location is not None
    assert (caught.value.location.file, caught.value.location.line) == (str(path), 3)
    assert not [name for name in set(sys.modules) - before if name.startswith("fxbio_file_")]


def test_a_missing_file_lists_its_neighbours(write: Write) -> None:
    path = write(NET)
    assert "model.py" in message(path.with_name("modle.py"))


def test_a_file_can_import_its_neighbours(write: Write, tmp_path: Path) -> None:
    (tmp_path / "layers_of_mine.py").write_text("WIDTH = 6\n")
    path = write("from layers_of_mine import WIDTH\nmodel = nn.Linear(WIDTH, 1)\n")
    assert load_reference(str(path)).model.in_features == 6


def test_an_edited_file_is_read_again(write: Write) -> None:
    for width in (3, 4):
        path = write(f"model = nn.Linear({width}, 1)\n")
        assert load_reference(str(path)).model.in_features == width


def test_models_of_a_file_can_be_pickled(write: Write) -> None:
    model = load_reference(str(write(NET))).model
    assert type(pickle.loads(pickle.dumps(model))) is type(model)


def test_a_file_may_give_example_inputs(write: Write) -> None:
    path = write(NET + "def example_inputs():\n    return torch.zeros(4, 3)\n")
    assert str(load_reference(str(path)).default_inputs) == "4x3:float32"
    assert load_reference(str(write(NET))).default_inputs is None


def test_the_seed_fixes_random_example_inputs(write: Write) -> None:
    path = str(write(NET + "def example_inputs():\n    return torch.rand(2, 3)\n"))
    state = torch.get_rng_state()
    one, again, other = (str(load_reference(path, seed=k).default_inputs.args) for k in (1, 1, 2))
    assert one == again != other
    assert torch.equal(torch.get_rng_state(), state)


def test_example_inputs_that_raise(write: Write) -> None:
    loaded = load_reference(str(write(NET + "def example_inputs():\n    return 1 // 0\n")))
    with pytest.raises(ModelError, match=r"example_inputs\(\) of .* raised ZeroDivisionError"):
        _ = loaded.default_inputs


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("squeezenet1_0", "squeezenet1_0"),
        ("torchvision:squeezenet1_0", "squeezenet1_0"),
        ("torchvision:detection/ssdlite320_mobilenet_v3_large", "ssdlite320_mobilenet_v3_large"),
        ("detection/ssdlite320_mobilenet_v3_large", "ssdlite320_mobilenet_v3_large"),
        ("googlenet", "googlenet"),
    ],
)
def test_torchvision_names(reference: str, name: str) -> None:
    with torch.device("meta"):
        loaded = load_reference(reference)
    assert loaded.name == name
    assert loaded.reference == reference


def test_torchvision_arguments() -> None:
    model = load_reference("squeezenet1_0", {"num_classes": 7}).model
    assert model.classifier[1].out_channels == 7


def test_unknown_torchvision_names() -> None:
    text = message("torchvision:resnet19")
    assert "torchvision has no model 'resnet19'" in text
    assert "did you mean 'resnet18'" in text
    assert "file or folder" not in text
    assert "there is no file or folder 'resnet18-ss' either" in message("resnet18-ss")
    assert "torchvision.models.detection" in message("segmentation/retinanet_resnet50_fpn")


def test_timm_names() -> None:
    pytest.importorskip("timm")
    loaded = load_reference("timm:resnet18", {"num_classes": 3})
    assert loaded.name == "resnet18"
    assert loaded.model.fc.out_features == 3
    assert "did you mean 'resnet18'" in message("timm:resnet19")


def test_timm_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    assert "pip install 'fxbio[models]'" in message("timm:resnet18")


def test_a_factory_of_a_package() -> None:
    loaded = load_reference("torch.nn:Linear", {"in_features": 2, "out_features": 3})
    assert loaded.name == "nn-Linear"
    assert "no Python module 'surely.not_installed'" in message("surely.not_installed:build")
    assert "did you mean 'Linear'" in message("torch.nn:Liner")


def test_a_module_of_the_current_folder(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(NET).rename(tmp_path / "models_of_mine.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    assert type(load_reference("models_of_mine:Net").model).__name__ == "Net"


@pytest.mark.parametrize("reference", ["", ":x", "model.py:", "weights.pt", "ss.yaml", "."])
def test_what_is_no_reference_gets_the_forms(reference: str) -> None:
    text = message(reference)
    assert f"'{reference}' does not name a model" in text
    assert "torchvision:resnet18" in text


def test_the_seed_fixes_the_weights_and_nothing_else() -> None:
    before = torch.random.get_rng_state()
    arguments = {"in_features": 2, "out_features": 3}
    one, two = (load_reference("torch.nn:Linear", arguments, seed=5).model for _ in range(2))
    assert torch.equal(one.weight, two.weight)
    assert torch.equal(before, torch.random.get_rng_state())


def test_model_args_are_yaml() -> None:
    pairs = ["a=10", "b=0.5", "c=true", "d=null", "e=text", "f=[1, 2]", "g=a=b", "h="]
    assert parse_model_args(pairs) == {
        "a": 10, "b": 0.5, "c": True, "d": None, "e": "text", "f": [1, 2], "g": "a=b", "h": None,
    }  # fmt: skip


@pytest.mark.parametrize("pairs", [["a"], ["=3"], ["a-b=3"], ["a=1", "a=2"], ["a=[1"]])
def test_bad_model_args(pairs: list[str]) -> None:
    with pytest.raises(ModelError, match="model argument"):
        parse_model_args(pairs)


@pytest.mark.parametrize("key", [None, "state_dict", "model"])
def test_weights_are_loaded(tmp_path: Path, key: str | None) -> None:
    source = nn.Linear(2, 3)
    state = source.state_dict()
    torch.save(state if key is None else {key: state, "epoch": 3}, tmp_path / "w.pt")
    arguments = {"in_features": 2, "out_features": 3}
    loaded = load_reference("torch.nn:Linear", arguments, tmp_path / "w.pt")
    assert torch.equal(loaded.model.weight, source.weight)


def weights_message(model: nn.Module, path: Path) -> str:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ModelError) as caught:
        load_weights(model, path)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    return str(caught.value)


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"weight": torch.zeros(3, 3), "scale": torch.zeros(1)}, path)
    text = weights_message(nn.Linear(2, 3), path)
    assert "do not fit Linear" in text
    assert "missing: bias" in text
    assert "unexpected: scale" in text
    assert "weight 3x3 instead of 3x2" in text


def test_many_missing_keys_are_counted_not_listed(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({}, path)
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(10)))
    assert "and 15 more" in weights_message(model, path)


def test_ddp_keys_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({f"module.{k}": v for k, v in nn.Linear(2, 2).state_dict().items()}, path)
    assert "DDP" in weights_message(nn.Linear(2, 2), path)


def test_code_in_a_weights_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(nn.Linear(2, 2), path)
    text = weights_message(nn.Linear(2, 2), path)
    assert "not a plain file of weights" in text
    assert "model.state_dict()" in text


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04broken"])
def test_broken_weights_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(content)
    assert str(path) in weights_message(nn.Linear(2, 2), path)


def test_other_weights_errors(tmp_path: Path) -> None:
    assert "no weights file" in weights_message(nn.Linear(2, 2), tmp_path / "none.pt")
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    assert "holds list" in weights_message(nn.Linear(2, 2), tmp_path / "list.pt")


@pytest.mark.parametrize("name", ["num_clases", "score_tresh"])
def test_an_argument_that_kwargs_swallow_is_warned_of(name: str) -> None:
    right = {"num_clases": "num_classes", "score_tresh": "score_thresh"}[name]
    with pytest.warns(FxbioWarning, match=f"'{name}'.*may do nothing; did you mean '{right}'"):
        load_reference("torchvision:retinanet_resnet50_fpn", {name: 3})


def test_arguments_that_some_class_names_are_not_warned_of(write: Write) -> None:
    path = write(
        "class Net(nn.Module):\n"
        "    def __init__(self, width=2, **kwargs):\n"
        "        super().__init__()\n"
        "        self.layer = nn.Linear(width, width)\n"
        "def build(**kwargs):\n"
        "    return Net(**kwargs)\n"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_reference(f"{path}:build", {"width": 3})
        load_reference("torchvision:retinanet_resnet50_fpn", {"score_thresh": 0.1})
    with pytest.warns(FxbioWarning, match="'widht'.*did you mean 'width'"):
        load_reference(f"{path}:build", {"widht": 3})

"""``plan``, ``transform`` and ``revert``: what they leave alone, and bad input.

Every kind of bad input goes in twice: through Python, and through the command line.
"""

from __future__ import annotations

import copy
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from click.testing import CliRunner, Result
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import fxbio
from fxbio.cli.main import cli
from fxbio.errors import CaptureError, FxbioError, ModelError, PassError, PolicyError, RuleError
from fxbio.passes import DEFAULT_PIPELINE, Pass, PassResult, Pipeline, Program, register_pass
from fxbio.passes import registry as passes_registry
from fxbio.runtime.install import bound_modules
from fxbio.serialization.record import RECORD
from tests.small import BUILDERS, Layers, build, policy, snapshot, step


@pytest.mark.parametrize("kind", BUILDERS)
def test_planning_changes_nothing(kind: str) -> None:
    model, x = build(kind)
    next(iter(model.children())).eval()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    model.register_forward_hook(lambda *_: None)
    before, inputs = snapshot(model), x.clone()
    first = fxbio.plan(model, policy("frsf"), x)
    assert fxbio.plan(model, policy("frsf"), x) == first
    assert snapshot(model) == before
    assert torch.equal(x, inputs)
    assert x.grad is None


class Stateful(nn.Module):
    """Its forward writes to buffers, to a parameter and to attributes, and reads values."""

    def __init__(self, reads: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)
        self.norm = nn.BatchNorm1d(6)
        self.register_buffer("average", torch.ones(6))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.cache: list[Tensor] = []
        self.reads = reads

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.layer.weight.clamp_(-0.2, 0.2)
        self.average.mul_(0.5)
        self.count += 1
        h = self.norm(self.layer(x))
        self.cache.append(h)
        self.last = h
        if self.reads and bool(h.sum() > 1e9):
            return h * 2
        result: Tensor = h
        return result


@pytest.mark.parametrize("reads", [False, True], ids=["fake tensors", "real tensors"])
def test_planning_undoes_what_a_forward_writes(reads: bool) -> None:
    model = Stateful(reads)
    before = snapshot(model)
    fxbio.plan(model, policy(), torch.rand(4, 6, generator=torch.Generator().manual_seed(0)))
    assert snapshot(model) == before
    assert model.cache == []


@pytest.mark.parametrize("kind", BUILDERS)
def test_a_copy_leaves_the_original_alone(kind: str) -> None:
    model, x = build(kind)
    expected = step(copy.deepcopy(model), x)
    before = snapshot(model)
    made = fxbio.transform(model, policy("frozen"), x)
    assert made is not model
    assert type(made).__name__ == type(model).__name__
    assert snapshot(model) == before
    assert not {id(p) for p in made.parameters()} & {id(p) for p in model.parameters()}
    for name, value in step(model, x).items():
        assert torch.equal(value, expected[name]), name


@register_pass("fail")
class Fail(Pass):
    """Fails, after everything else has been done."""

    def run(self, program: Program) -> PassResult:
        raise KeyError("nothing")


FAILING = Pipeline.parse(f"{DEFAULT_PIPELINE},fail")


@pytest.fixture(autouse=True)
def _own_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = {k: v for k, v in passes_registry._PASSES.items() if k != "fail"}
    monkeypatch.setattr(passes_registry, "_PASSES", passes)


@pytest.mark.parametrize("inplace", [True, False])
@pytest.mark.parametrize("rule", ["fa", "frozen", "brsf"])
@pytest.mark.parametrize("kind", ["convolutions", "attention"])
def test_a_failing_pass_leaves_the_model_as_it_was(kind: str, rule: str, inplace: bool) -> None:
    model, x = build(kind)
    before = snapshot(model)
    with pytest.raises(PassError, match="KeyError"):
        fxbio.transform(model, policy(rule), x, inplace=inplace, pipeline=FAILING)
    assert snapshot(model) == before
    fxbio.transform(model, policy(rule), x, inplace=inplace)


def test_a_failing_observer_and_a_failing_record_too(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = build()
    before = snapshot(model)

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fxbio.transform(model, policy(), x, inplace=True, observers=[fail])
    assert snapshot(model) == before
    monkeypatch.setattr("fxbio.api.readable_code", fail)
    with pytest.raises(KeyboardInterrupt):
        fxbio.transform(model, policy(), x, inplace=True)
    assert snapshot(model) == before


def test_a_plan_does_what_its_policy_does() -> None:
    model, x = build("convolutions")
    plan = fxbio.plan(model, policy("frsf"), x)
    by_plan = step(fxbio.transform(model, plan, x), x)
    by_policy = step(fxbio.transform(model, policy("frsf"), x), x)
    assert all(torch.equal(by_plan[name], value) for name, value in by_policy.items())


@pytest.mark.parametrize("given", ["policy.yaml", {"version": 1, "default": "bp"}, None])
def test_what_is_no_policy_is_told_how_to_become_one(given: Any) -> None:
    model, x = build()
    for call in (fxbio.plan, fxbio.transform):
        with pytest.raises(PolicyError, match=f"not {type(given).__name__}\n.*Policy.from_yaml"):
            call(model, given, x)


def test_the_record_says_what_was_done() -> None:
    model, x = build()
    record = vars(fxbio.transform(model, policy(), x))[RECORD]
    assert record.pipeline == DEFAULT_PIPELINE
    assert record.versions["fxbio"] == fxbio.__version__
    assert record.plan == fxbio.plan(model, policy(), x)
    assert torch.equal(record.inputs.args[0], x)


def test_what_cannot_be_copied_can_be_changed_in_place() -> None:
    model, x = build()
    model.lock = (item for item in ())  # generators cannot be copied
    with pytest.raises(ModelError, match="cannot be copied") as caught:
        fxbio.transform(model, policy(), x)
    assert "inplace=True" in str(caught.value)
    assert bound_modules(fxbio.transform(model, policy(), x, inplace=True))


# Bad input: policies

MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.head = nn.Linear(8, 8)

    def forward(self, x):
        return self.head(self.head(torch.tanh(self.first(x))))

def example_inputs():
    return torch.ones(2, 6)
"""
POLICY = "version: 1\ndefault: fa\n"


def entry(text: str) -> str:
    return f"version: 1\ndefault: bp\nrules:\n  - {text}\n"


POLICIES: dict[str, tuple[str, type[FxbioError], str]] = {
    "not YAML": ("version: 1\ndefault: [fa\n", PolicyError, "p.yaml:"),
    "not a mapping": ("- fa\n", PolicyError, "the policy must be a mapping"),
    "unknown key": (POLICY + "sed: 1\n", PolicyError, "unknown key 'sed'"),
    "no default": ("version: 1\n", PolicyError, "has no 'default'"),
    "unknown rule": ("version: 1\ndefault: usff\n", PolicyError, "did you mean 'usf'"),
    "unknown option": (
        "version: 1\ndefault: {rule: fa, with: {magnitud: 1}}\n",
        PolicyError,
        "did you mean 'magnitude'",
    ),
    "option out of range": (
        "version: 1\ndefault: {rule: fa, with: {magnitude: -1}}\n",
        PolicyError,
        "magnitude must be positive",
    ),
    "nothing matches": (
        entry("{where: {module: haed}, rule: fa}"),
        PolicyError,
        "p.yaml:4",
    ),
    "wrong count": (
        entry("{where: {module: head}, rule: fa, expect: {count: 3}}"),
        PolicyError,
        "p.yaml:4",
    ),
    "two rules for one weight": (
        entry("{where: {depth: [2, 2]}, rule: fa}"),
        PolicyError,
        "two rules for the one weight 'head.weight'",
    ),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a good model and a good policy, which is the current one."""
    (tmp_path / "m.py").write_text(MODEL)
    (tmp_path / "p.yaml").write_text(POLICY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def refused(*args: str, code: int = 2) -> Result:
    """Run a command that must be refused: one error, no traceback, nothing written."""
    before = {p: p.read_bytes() for p in Path().rglob("*") if p.is_file()}
    result = CliRunner().invoke(cli, list(args))
    assert result.exit_code == code, (result.stderr, result.exception)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("error: ") == 1
    assert "Traceback" not in result.stderr
    assert not result.stderr.startswith("error: unexpected")
    assert {p: p.read_bytes() for p in Path().rglob("*") if p.is_file()} == before
    return result


def transform(*args: str) -> Result:
    return refused("transform", *args, "-o", "out")


def test_the_good_input_is_good(folder: Path) -> None:
    result = CliRunner().invoke(cli, ["transform", "m.py", "-p", "p.yaml", "-o", "out"])
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize("what", POLICIES)
def test_bad_policies(folder: Path, what: str) -> None:
    text, error, says = POLICIES[what]
    (folder / "p.yaml").write_text(text)
    for command in ("plan", "transform", "verify"):
        assert says in refused(command, "m.py", "--policy", "p.yaml").stderr

    namespace: dict[str, Any] = {}
    exec(MODEL, namespace)
    model, x = namespace["Net"](), torch.ones(2, 6)
    before = snapshot(model)
    with pytest.raises(error) as caught:
        fxbio.transform(model, fxbio.Policy.from_yaml(folder / "p.yaml"), x, inplace=True)
    assert says in str(caught.value)
    assert caught.value.location is not None
    assert caught.value.location.file.endswith("p.yaml")
    assert snapshot(model) == before


@pytest.mark.parametrize(
    ("rule", "options"), [("usff", {}), ("fa", {"magnitud": 1}), ("fa", {"magnitude": -1})]
)
def test_bad_policies_made_in_python(rule: str, options: dict[str, Any]) -> None:
    with pytest.raises((PolicyError, RuleError)):
        fxbio.Policy.uniform(rule, **options)


# Bad input: models on the command line

FILES: dict[str, tuple[str, str]] = {
    "raises": ("import torch\nx = 1 / 0\n", "ZeroDivisionError"),
    "does not parse": ("def (\n", "SyntaxError"),
    "raises when built": (
        "def build_model():\n    raise ValueError('no width')\n",
        "ValueError: no width",
    ),
    "no model": ("x = 3\n", "there is no model to build"),
    "no module": ("def build_model():\n    return 3\n", "gives int, not a torch.nn.Module"),
    "several": (
        MODEL + "\nclass Other(nn.Module):\n    pass\n",
        "m.py has several models",
    ),
    "no example input": (MODEL.replace("example_inputs", "inputs"), "no example input is known"),
    "lazy": (MODEL.replace("nn.Linear(6, 8)", "nn.LazyLinear(8)"), "'first.weight' of a lazy"),
    "on the meta device": (
        MODEL.replace("nn.Linear(6, 8)", "nn.Linear(6, 8, device='meta')"),
        "is on the meta device",
    ),
    "compiled": (
        MODEL + "\ndef build_model():\n    return torch.compile(Net())\n",
        "is compiled already",
    ),
    "transformed": (
        MODEL
        + "\nimport fxbio\ndef build_model():\n"
        + "    return fxbio.transform(Net(), fxbio.Policy.uniform('fa'), example_inputs())\n",
        "is transformed already",
    ),
    "wrong shape": (MODEL.replace("ones(2, 6)", "ones(2, 5)"), "the model's forward failed"),
    "two inputs": (
        MODEL.replace("torch.ones(2, 6)", "(torch.ones(2, 6), 1)"),
        "the model's forward failed",
    ),
    "no tensor": (MODEL.replace("torch.ones(2, 6)", "3"), "example inputs cannot be an int"),
}


@pytest.mark.parametrize("what", FILES)
def test_bad_model_files(folder: Path, what: str) -> None:
    text, says = FILES[what]
    (folder / "m.py").write_text(text)
    assert says in transform("m.py", "--policy", "p.yaml").stderr


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("missing.py",), "there is no file"),
        (("m.py:Nte",), "did you mean 'Net'"),
        (("torchvision:resnet81",), "did you mean 'resnet18'"),
        (("surely_missing:Net",), "there is no Python module"),
        (("m.py", "--input", "2x7"), "the model's forward failed"),
        (("m.py", "--input", "2y6"), "2y6"),
        (("m.py", "--model-arg", "width=3"), "there is no model to build in m.py"),
        (("m.py", "--plugin", "missing.py"), "there is no file"),
        (("m.py", "--pipeline", "assign-rules,bind-modules"), "run lower-feedback before"),
        (("m.py", "--pipeline", "assign-rules"), "none of its rules would run"),
        (("m.py", "--pipeline", "assign rules"), "is not a spec"),
    ],
)
def test_bad_arguments(folder: Path, args: tuple[str, ...], says: str) -> None:
    found = transform(*args, "--policy", "p.yaml") if "pipeline" not in str(args) else None
    if found is None:  # the plan is printed before the passes behind it run
        result = CliRunner().invoke(cli, ["transform", *args, "-p", "p.yaml", "-o", "out"])
        assert result.exit_code == 2
        assert not Path("out").exists()
        assert "Traceback" not in result.stderr
        found = result
    assert says in found.stderr


def test_a_traceback_is_shown_on_request(folder: Path) -> None:
    (folder / "m.py").write_text("x = 1 / 0\n")
    args = ["--debug", "transform", "m.py", "--policy", "p.yaml"]
    result = CliRunner().invoke(cli, args)
    assert result.exit_code == 2
    assert "Traceback" in result.stderr


def test_bad_folders(folder: Path) -> None:
    assert "is not a transformed model" in refused("verify", ".").stderr
    assert (
        CliRunner().invoke(cli, ["transform", "m.py", "-p", "p.yaml", "-o", "out"]).exit_code == 0
    )
    (folder / "m.py").write_text(MODEL.replace("(8, 8)", "(8, 8, bias=False)"))
    assert "do not fit" in refused("verify", "out").stderr
    (folder / "m.py").write_text(MODEL.replace("8", "9"))
    assert "does not fit this Net" in refused("verify", "out").stderr
    (folder / "out" / "record.json").write_text("{")
    assert "record.json' is damaged" in refused("verify", "out").stderr


# Bad input: models in Python


@pytest.fixture
def process_group() -> Iterator[None]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@dataclass(frozen=True)
class Bad:
    make: Callable[[], Any]
    says: str
    way_out: str


def _compiled_in_place() -> nn.Module:
    model = Layers()
    model.second.compile(backend="eager")
    return model


BAD: dict[str, Bad] = {
    "transformed": Bad(
        lambda: fxbio.transform(Layers(), policy(), torch.ones(2, 6)),
        "Layers is transformed already, 3 modules of it are rewritten",
        "fxbio.revert(model)",
    ),
    "transformed inside": Bad(
        lambda: nn.Sequential(fxbio.transform(Layers(), policy(), torch.ones(2, 6))),
        "Sequential is transformed already, 3 modules",
        "fxbio.revert",
    ),
    "transformed by bp": Bad(
        lambda: fxbio.transform(Layers(), policy("bp"), torch.ones(2, 6)),
        "Layers is transformed already",
        "fxbio.revert(model)",
    ),
    "data parallel": Bad(
        lambda: nn.DataParallel(Layers()), "wrapped in DataParallel", "model.module"
    ),
    "compiled": Bad(
        lambda: torch.compile(Layers(), backend="eager"), "compiled already", "then compile"
    ),
    "compiled in place": Bad(_compiled_in_place, "second is compiled already", "then compile"),
    "meta": Bad(lambda: Layers().to("meta"), "'first.weight' is on the meta device", "to_empty"),
    "lazy": Bad(lambda: nn.Sequential(nn.LazyLinear(3)), "'0.weight' of a lazy layer", "run the"),
    "a function": Bad(lambda: torch.tanh, "must be a torch.nn.Module, not", "pass the module"),
    "a state dict": Bad(lambda: Layers().state_dict(), "not OrderedDict", "pass the module"),
    "a class": Bad(lambda: Layers, "must be a torch.nn.Module, not type", "pass the module"),
    "a number": Bad(lambda: 3, "must be a torch.nn.Module, not int", "pass the module"),
}


def assert_refused(model: Any, bad: Bad) -> None:
    has_values = isinstance(model, nn.Module) and not {"meta", "lazy"} & set(bad.says.split())
    before = snapshot(model) if has_values else None
    x = torch.ones(2, 6)
    calls: list[Callable[[], object]] = [
        lambda: fxbio.plan(model, policy(), x),
        lambda: fxbio.transform(model, policy(), x),
        lambda: fxbio.transform(model, policy(), x, inplace=True),
    ]
    for call in calls:
        with pytest.raises(ModelError) as caught:
            call()
        assert bad.says in str(caught.value)
        assert bad.way_out in str(caught.value.help)
        if before is not None:
            assert snapshot(model) == before


@pytest.mark.parametrize("what", BAD)
def test_bad_models(what: str) -> None:
    assert_refused(BAD[what].make(), BAD[what])


@pytest.mark.usefixtures("process_group")
def test_a_model_wrapped_in_ddp() -> None:
    model = DistributedDataParallel(Layers())
    assert_refused(model, Bad(Layers, "wrapped in DistributedDataParallel", "model.module"))
    fxbio.transform(model.module, policy(), torch.ones(2, 6))


@pytest.mark.parametrize(
    ("inputs", "error", "says"),
    [
        (torch.ones(2, 5), CaptureError, "the model's forward failed"),
        ((torch.ones(2, 6), torch.ones(2)), CaptureError, "the model's forward failed"),
        ({"y": torch.ones(2, 6)}, CaptureError, "'y'"),
        (3, ModelError, "example inputs cannot be an int"),
        (None, ModelError, "no example input is known for Layers"),
    ],
)
def test_bad_inputs(inputs: Any, error: type[FxbioError], says: str) -> None:
    model, _ = build()
    before = snapshot(model)
    for inplace in (False, True):
        with pytest.raises(error) as caught:
            fxbio.transform(model, policy(), inputs, inplace=inplace)
        assert says in str(caught.value)
        assert caught.value.help
    assert snapshot(model) == before

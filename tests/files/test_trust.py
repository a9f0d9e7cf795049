"""A folder made by somebody else: nothing that it names is imported or called unasked."""

from __future__ import annotations

import json
import logging
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

import fxbio
from fxbio.cli.main import cli
from fxbio.errors import ConfigError, FxbioError, FxbioWarning, RecordError
from fxbio.files.trust import SIGNATURE, check_trust, sign
from fxbio.serialization.record import ModelSource
from fxbio.study.run_cell import CellRun, run_cell
from fxbio.train.engine.evaluate_run import evaluate_run
from fxbio.train.engine.run import train
from fxbio.train.output.run_folder import RunFolder
from tests.train.tiny import recipe, source

MODEL = """
from torch import nn

def build_model(width=5):
    return nn.Sequential(nn.Linear(6, width), nn.Tanh(), nn.Linear(width, 3))
"""
CODE = """
from pathlib import Path
Path({marker!r}).write_text("ran")
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model.py, which is the current one."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(MODEL)
    return tmp_path


@pytest.fixture
def marker(here: Path) -> Path:
    """Is there as soon as code has run that only the folder names."""
    path = here / "marker"
    (here / "code.py").write_text(CODE.format(marker=str(path)) + MODEL)
    return path


@pytest.fixture
def saved(here: Path, state_home: Path) -> Path:
    """Of this user, with weights that ``model.py`` fits."""
    loaded = fxbio.models.load_reference("model.py", seed=0)
    model = fxbio.transform(loaded.model, fxbio.Policy.uniform("fa"), torch.randn(4, 6))
    fxbio.save(model, here / "out", source=ModelSource(str(here / "model.py"), {}, ("4x6",)))
    return here / "out"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def edit(folder: Path, **source: Any) -> None:
    """What a stranger would write; the digests are still right."""
    path = folder / "record.json"
    record = json.loads(path.read_text())
    record["source"] |= source
    path.write_text(json.dumps(record))


NAMED: dict[str, Callable[[Path], dict[str, Any]]] = {
    "file": lambda here: {"reference": f"{here}/code.py"},
    "file in the folder": lambda here: {"reference": f"{here}/out/code.py"},
    "module": lambda here: {"reference": "code_module:build_model"},
    "function": lambda here: {
        "reference": "os:system",
        "model_args": {"command": f"touch {here}/marker"},
    },
    "plug-in": lambda here: {"plugins": [f"{here}/code.py"]},
    "plug-in module": lambda here: {"plugins": ["code_module"]},
}

ROADS: dict[str, Callable[[Path], object]] = {
    "load": lambda folder: fxbio.load(folder),
    "verify": lambda folder: run("verify", folder),
    "audit": lambda folder: run("audit", folder),
    "alignment": lambda folder: run("alignment", folder),
    "graph": lambda folder: run("graph", folder, "-o", folder.parent / "picture.svg"),
}


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("named", NAMED)
def test_nothing_that_an_edited_folder_names_is_run(
    saved: Path, here: Path, marker: Path, named: str, road: str
) -> None:
    shutil.copy(here / "code.py", saved)
    shutil.copy(here / "code.py", here / "code_module.py")
    edit(saved, **NAMED[named](here))
    try:
        result = ROADS[road](saved)
    except RecordError as error:
        text = str(error)
    else:
        assert isinstance(result, Result)
        assert result.exit_code == 2, result.output
        text = result.stderr
    assert not marker.exists()
    assert "was not written by you on this machine" in text
    said = NAMED[named](here)
    assert str(said.get("reference", said.get("plugins", [""])[0])) in text.replace("\n", "")
    assert "--trust" in text


@pytest.mark.parametrize("road", ["load", "verify", "audit", "alignment", "graph"])
def test_own_folders_need_no_word(saved: Path, road: str) -> None:
    moved = saved.rename(saved.with_name("moved"))
    result = ROADS[road](moved)
    assert not isinstance(result, Result) or result.exit_code == 0, result


@pytest.mark.parametrize("command", ["verify", "audit", "alignment", "graph"])
def test_trusted_folders_are_run_and_the_names_are_shown_first(
    saved: Path, here: Path, marker: Path, command: str, caplog: pytest.LogCaptureFixture
) -> None:
    edit(saved, plugins=[f"{here}/code.py"])
    out = ["-o", here / "picture.svg"] if command == "graph" else []
    result = run(command, saved, "--trust", *out)
    assert result.exit_code == 0, result.output
    assert marker.read_text() == "ran"
    assert f"plug-in: {here}/code.py" in caplog.text


def test_trust_in_python(
    saved: Path, here: Path, marker: Path, caplog: pytest.LogCaptureFixture
) -> None:
    edit(saved, reference=f"{here}/code.py", model_args={"width": 5})
    with caplog.at_level(logging.WARNING):
        model = fxbio.load(saved, trust=True)
    assert marker.exists()
    assert f"model: {here}/code.py, width=5" in caplog.text
    assert fxbio.verify(model).ok


def test_a_model_of_the_caller_needs_no_trust_and_runs_no_plug_in(
    saved: Path, here: Path, marker: Path
) -> None:
    edit(saved, reference=f"{here}/code.py", plugins=[f"{here}/code.py"])
    stock = fxbio.models.load_reference("model.py", seed=3).model
    model = fxbio.load(saved, stock, torch.randn(4, 6))
    assert not marker.exists()
    assert fxbio.verify(model).ok


INVERSE = """
from torch import nn

def inverse(block):
    return nn.Linear(6, 6)
"""


def test_an_inverse_is_code_also_beside_a_model_of_the_caller(here: Path, marker: Path) -> None:
    (here / "inverse.py").write_text(CODE.format(marker=str(marker)) + INVERSE)
    widths = [nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(3)]
    stock = nn.Sequential(*widths, nn.Linear(6, 3))
    policy = fxbio.Policy.uniform("dtp", inverse=f"{here}/inverse.py:inverse")
    x = torch.randn(4, 6)
    fxbio.save(fxbio.transform(stock, policy, x), here / "out")
    marker.unlink()
    (here / "out" / SIGNATURE).unlink()
    with pytest.raises(RecordError, match=r"inverse\.py:inverse"):
        fxbio.load(here / "out", stock, x)
    assert not marker.exists()
    fxbio.load(here / "out", stock, x, trust=True)
    assert marker.exists()


FORGERIES: dict[str, Callable[[Path], object]] = {
    "none": lambda folder: (folder / SIGNATURE).unlink(),
    "empty": lambda folder: (folder / SIGNATURE).write_text(""),
    "other": lambda folder: (folder / SIGNATURE).write_text("0" * 64),
    "no text": lambda folder: (folder / SIGNATURE).write_bytes(b"\xff\xfe"),
    "directory": lambda folder: [(folder / SIGNATURE).unlink(), (folder / SIGNATURE).mkdir()],
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_signatures_that_are_none(saved: Path, forgery: str) -> None:
    FORGERIES[forgery](saved)
    with pytest.raises(RecordError, match="not written by you"):
        fxbio.load(saved)


def test_another_user_does_not_trust_the_folder(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "theirs"))
    with pytest.raises(RecordError, match="not written by you"):
        fxbio.load(saved)
    (tmp_path / "document").write_text("theirs")
    sign(tmp_path / "document")  # now there is a key, and another one
    with pytest.raises(RecordError, match="not written by you"):
        fxbio.load(saved)


# The key


def refused(document: Path) -> bool:
    try:
        check_trust(document, ["a name"], False, error=FxbioError, otherwise="-")
    except FxbioError:
        return True
    return False


@pytest.fixture
def document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Signed with a key of its own, which lies in ``state/fxbio/key``."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = tmp_path / "folder" / "record.json"
    path.parent.mkdir()
    path.write_text("{}")
    sign(path)
    return path


def test_the_key_is_private_and_kept(document: Path, tmp_path: Path) -> None:
    key = tmp_path / "state" / "fxbio" / "key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert [path.name for path in key.parent.iterdir()] == ["key"]
    before = key.read_bytes()
    sign(document)
    assert key.read_bytes() == before
    assert not refused(document)


def test_the_signature_is_of_this_text_under_this_name(document: Path) -> None:
    renamed = document.with_name("config.yaml")
    shutil.copy(document, renamed)
    assert refused(renamed)
    document.write_text("{} ")
    assert refused(document)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o606])
def test_a_key_that_others_could_know_is_none(document: Path, tmp_path: Path, mode: int) -> None:
    (tmp_path / "state" / "fxbio" / "key").chmod(mode)
    assert refused(document)
    with pytest.warns(FxbioWarning, match="is not signed"):
        sign(document)
    assert not document.with_name(SIGNATURE).exists()


def test_without_a_place_for_a_key_folders_are_written_unsigned(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.warns(FxbioWarning, match="is not signed, and will need --trust"):
        sign(document)
    assert refused(document)


def test_a_user_without_a_home_writes_unsigned_folders(
    document: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 7)  # no entry in the list of users
    with pytest.warns(FxbioWarning, match="this user has no home: set XDG_STATE_HOME"):
        sign(document)
    assert refused(document)


def test_a_planted_link_is_not_signed_through(document: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    document.with_name(SIGNATURE).unlink()
    document.with_name(SIGNATURE).symlink_to(tmp_path / "mine")
    sign(document)
    assert (tmp_path / "mine").read_text() == "kept"
    assert not refused(document)


def test_names_cannot_hide_behind_control_characters(document: Path) -> None:
    document.with_name(SIGNATURE).unlink()
    names = ["model: evil\x1b[2K\rharmless", "a" * 10_000]
    with pytest.raises(FxbioError) as caught:
        check_trust(document, names, False, error=FxbioError, otherwise="-")
    assert "\x1b" not in str(caught.value)
    assert "\r" not in str(caught.value)
    assert "evil\\u001b[2K\\rharmless" in str(caught.value)
    assert len(str(caught.value)) < 2000


# Runs


@pytest.fixture
def trained(here: Path) -> RunFolder:
    train(recipe("train.epochs=1"), here / "run", data=source())
    return RunFolder(here / "run")


def foreign(folder: RunFolder, key: str, value: str) -> None:
    text = folder.config.read_text()
    line = next(line for line in text.splitlines() if line.strip().startswith(f"{key}:"))
    folder.config.write_text(text.replace(line, line.partition(":")[0] + f": {value}"))


RUN_NAMES = {"reference": "{here}/code.py", "plugins": "['{here}/code.py']"}


@pytest.mark.parametrize("key", RUN_NAMES)
def test_evaluation_runs_nothing_of_a_foreign_run(
    trained: RunFolder, here: Path, marker: Path, key: str
) -> None:
    checkpoint = trained.checkpoints / "last.pt"
    assert evaluate_run(trained.path, checkpoint, data=source()).step == 5
    foreign(trained, key, RUN_NAMES[key].format(here=here))
    with pytest.raises(ConfigError, match=r"code\.py"):
        evaluate_run(trained.path, checkpoint, data=source())
    result = run("eval", trained.path, "--checkpoint", "last")
    assert result.exit_code == 2
    assert "was not written by you" in result.stderr
    assert not marker.exists()


def test_evaluation_of_a_trusted_run(trained: RunFolder, here: Path, marker: Path) -> None:
    checkpoint = trained.checkpoints / "last.pt"
    foreign(trained, "plugins", RUN_NAMES["plugins"].format(here=here))
    assert evaluate_run(trained.path, checkpoint, data=source(), trust=True).step == 5
    assert marker.exists()


def test_going_on_in_a_foreign_run_builds_the_own_recipe(
    trained: RunFolder, here: Path, marker: Path
) -> None:
    foreign(trained, "reference", f"{here}/code.py")
    assert train(recipe("train.epochs=1"), trained.path, resume="auto", data=source()).step == 5
    assert not marker.exists()
    assert evaluate_run(trained.path, trained.checkpoints / "last.pt", data=source()).step == 5


def test_a_study_builds_no_model_of_a_foreign_run_that_is_done(
    trained: RunFolder, here: Path, marker: Path
) -> None:
    foreign(trained, "reference", f"{here}/code.py")
    row = run_cell(CellRun("cell", 0, here))  # the run says that it is done
    assert (row.state, marker.exists()) == ("done", False)  # its figures are read, nothing is run

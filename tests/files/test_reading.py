"""Files that are none, and JSON that cannot be read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

import fxbio
from fxbio.analysis.alignment_log import log_alignment
from fxbio.cli.main import cli
from fxbio.errors import ConfigError, ModelError, PolicyError, RecordError, TrainError
from fxbio.files.anchored import anchored_path
from fxbio.files.reading import parse_json, read_text
from fxbio.files.trust import SIGNATURE, check_trust
from fxbio.models import load_reference
from fxbio.models.weights import load_weights
from fxbio.policy import Policy
from fxbio.study.rows import Row, append_row
from fxbio.study.study_folder import StudyFolder
from fxbio.train.config import load_recipe
from fxbio.train.data.image_folder import FolderSet
from fxbio.train.data.images import BadImageError, read_image
from fxbio.train.output.metrics import MetricsFile
from fxbio.train.output.progress import LineView
from fxbio.train.output.run_folder import write_text
from fxbio.train.state.checkpoint_files import read_checkpoint, write_checkpoint
from fxbio.viz import draw, save
from tests.files.full_disk import files_end_after


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
@pytest.mark.parametrize(
    ("read", "error"),
    [(read_text, OSError), (Policy.from_yaml, PolicyError), (load_recipe, ConfigError)],
)
def test_what_is_no_regular_file_is_refused_without_opening_it(
    tmp_path: Path, make: object, read: object, error: type[Exception]
) -> None:
    path = tmp_path / "file.yaml"
    make(path)  # type: ignore[operator]
    with pytest.raises(error, match=r"it is a (named pipe|folder), not a file"):
        read(path)  # type: ignore[operator]


@pytest.mark.parametrize("name", ["a\0b.yaml", "\ud800.yaml"])
@pytest.mark.parametrize(
    ("read", "error"),
    [(read_text, OSError), (Policy.from_yaml, PolicyError), (load_recipe, ConfigError)],
)
def test_a_name_that_no_file_can_have_is_refused(
    name: str, read: object, error: type[Exception]
) -> None:
    with pytest.raises(error, match="cannot be the name of a file"):
        read(Path(name))  # type: ignore[operator]


def test_a_device_is_refused() -> None:
    with pytest.raises(OSError, match="it is a device, not a file"):
        read_text("/dev/zero")


def locked(path: Path) -> None:
    path.rename(path.with_name(".lock"))
    with StudyFolder(path.parent).locked():
        pass


def aligned(path: Path) -> None:
    inputs, labels = torch.rand(2, 2), torch.tensor([0, 1])
    model = fxbio.transform(nn.Sequential(nn.Linear(2, 2)), Policy.uniform("fa"), inputs)
    log_alignment(path, 1, model, inputs, labels)


def signed(path: Path) -> None:
    """A signature that cannot be read is none."""
    path.rename(path.with_name(SIGNATURE))
    document = path.with_name("record.json")
    document.write_text("{}")
    with pytest.raises(RecordError, match="was not written by you"):
        check_trust(document, ["os:system"], False, error=RecordError, otherwise="")
    raise OSError("refused")


def checkpointed(path: Path) -> None:
    path.rename(path.with_name("a.pt.sha256"))
    path.with_name("a.pt").touch()
    write_checkpoint({}, path.with_name("a.pt"))


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(path)])
@pytest.mark.parametrize(
    "add",
    [
        MetricsFile,
        lambda path: LineView(1, path),
        lambda path: append_row(path, Row("base", 0, "done")),
        aligned,
        locked,
        signed,
    ],
)
def test_nothing_is_added_to_what_is_no_file(tmp_path: Path, make: Any, add: Any) -> None:
    path = tmp_path / "log.txt"
    make(path)
    with pytest.raises(OSError, match=r"not a file|symbolic links|No such|refused"):
        add(path)


def test_a_checksum_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "sum")
    with pytest.raises(TrainError, match="it is a named pipe, not a file"):
        checkpointed(tmp_path / "sum")


@pytest.mark.parametrize("text", ["[" * 100_000 + "]" * 100_000, '{"a":' * 100_000, "9" * 5000])
def test_json_beyond_bounds_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"nested too deeply|Exceeds the limit"):
        parse_json(text)


@pytest.mark.parametrize(
    "arguments",
    [["runs", "x" * 5000], ["verify", "x" * 5000], ["data", "make", "shapes", "x" * 5000]],
)
def test_a_path_that_the_system_refuses_is_one_message(arguments: list[str]) -> None:
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code in (1, 2)
    assert result.output.lower().count("error") == 1
    assert "unexpected" not in result.output
    assert len(result.output) < 2000


@pytest.mark.parametrize("argument", ["a\0b", "\ud800"])
@pytest.mark.parametrize("command", [["runs"], ["inspect"], ["train"], ["data", "check"]])
def test_an_argument_that_no_process_is_given_is_wrong_usage(
    command: list[str], argument: str
) -> None:
    result = CliRunner().invoke(cli, [*command, argument])
    assert result.exit_code == 2
    assert "no name of a file" in result.output


@pytest.mark.parametrize(
    "content", [b"", b"root:x:0:0:\n", b"\x80\x02cos\nsystem\n.", b"PK\x03\x04"]
)
def test_what_torch_cannot_load_is_refused_as_weights_and_as_checkpoint(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(content)
    with pytest.raises(ModelError):
        load_weights(nn.Linear(1, 1), path)
    with pytest.raises(TrainError):
        read_checkpoint(path)


def test_a_loop_of_links_among_images_ends(tmp_path: Path) -> None:
    for half in ("train", "val"):
        (tmp_path / half / "a").mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / half / "a" / "x.png")
        for name in ("up", "again"):
            (tmp_path / half / "a" / name).symlink_to(tmp_path / half)
    images = FolderSet(tmp_path / "train", ("a",), 3)
    assert 1 <= len(images) <= 2


def test_a_pipe_among_images_is_a_bad_image(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(BadImageError, match="named pipe"):
        read_image(tmp_path / "a.png", 3)


@pytest.mark.parametrize("command", ["inspect", "plan"])
@pytest.mark.parametrize("seed", [2**64, 10**30, -(2**63) - 1])
def test_a_seed_beyond_64_bits_is_wrong_usage(command: str, seed: int) -> None:
    result = CliRunner().invoke(cli, [command, "torchvision:resnet18", f"--seed={seed}"])
    assert result.exit_code == 2
    assert "is not in the range" in result.output


@pytest.mark.parametrize("convert", [torch.Tensor.to_sparse, lambda value: value.to("meta")])
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_weights_without_dense_values_are_refused(
    tmp_path: Path, convert: Callable[[torch.Tensor], torch.Tensor], name: str
) -> None:
    state = nn.Linear(2, 2).state_dict()
    torch.save({**state, name: convert(state[name])}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match="dense"):
        load_weights(nn.Linear(2, 2), tmp_path / "w.pt")


COMMANDS_WITH_A_FOLDER = [["runs"], ["train", "r.yaml", "-o"], ["ablate", "s.yaml", "-o"]]


@pytest.mark.parametrize("command", COMMANDS_WITH_A_FOLDER, ids=lambda command: command[0])
@pytest.mark.parametrize("name", ["", "/dev/null", "pipe"])
def test_what_is_no_folder_is_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    result = CliRunner().invoke(cli, [*command, name])
    assert result.exit_code == 2
    assert ("it is empty" if not name else "is no folder") in result.output
    assert os.listdir() == ["pipe"]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/null", path)])
def test_nothing_is_written_into_what_is_no_file(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "a.svg"
    make(path)
    picture = draw(nn.Linear(2, 2), None, torch.ones(1, 2))
    with pytest.raises(ConfigError, match=r"written.* it is a (named pipe|folder|device)"):
        save(picture, path)
    if not path.is_symlink():  # which write_text replaces, wherever it leads
        with pytest.raises(ConfigError, match=r"written.* it is a (named pipe|folder)"):
            write_text(path, "text")
    assert os.listdir(tmp_path) == ["a.svg"]


def test_a_loop_of_links_is_no_place_for_a_picture(tmp_path: Path) -> None:
    (tmp_path / "a.svg").symlink_to(tmp_path / "a.svg")
    with pytest.raises(ConfigError, match=r"symbolic links"):
        save(draw(nn.Linear(2, 2), None, torch.ones(1, 2)), tmp_path / "a.svg")


def test_the_home_of_nobody_is_a_folder_like_any_other(tmp_path: Path) -> None:
    assert anchored_path("~nosuchuser/x.py", tmp_path) == tmp_path / "~nosuchuser/x.py"


def test_a_picture_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    path.write_text("before")
    drawn = draw(nn.Linear(2, 2), None, torch.ones(1, 2))
    with files_end_after(100), pytest.raises(ConfigError, match="File too large"):
        save(drawn, path)
    assert (path.read_text(), os.listdir(tmp_path)) == ("before", ["a.svg"])


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (PermissionError(13, "Permission denied", "/x/y"), " at '/x/y': Permission denied"),
        (OSError(28, "No space left on device"), ": [Errno 28] No space left on device"),
    ],
)
def test_an_error_of_the_system_says_which_command_could_not_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, says: str
) -> None:
    def fail(folder: Path) -> None:
        raise error

    monkeypatch.setattr("fxbio.train.output.listing.list_runs", fail)
    result = CliRunner().invoke(cli, ["runs", str(tmp_path)])
    assert result.exit_code == 1
    assert result.output == f"error: fxbio runs cannot go on{says}\n"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_python_file_that_is_none_is_not_run(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "model.py"
    make(path)
    for reference in (str(path), f"{path}:build"):
        with pytest.raises(ModelError, match=r"cannot be run: it is a (named pipe|folder)"):
            load_reference(reference)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64])
@pytest.mark.parametrize("name", ["weight", "running_var"])
def test_weights_whose_values_would_be_cut_off_are_refused(
    tmp_path: Path, dtype: torch.dtype, name: str
) -> None:
    state = nn.BatchNorm1d(2).state_dict()
    torch.save({**state, name: state[name].to(dtype)}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=rf"'{name}' in .* is {dtype}, and torch.float32"):
        load_weights(nn.BatchNorm1d(2), tmp_path / "w.pt")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_taken(tmp_path: Path, dtype: torch.dtype) -> None:
    layer, saved = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    nn.init.constant_(saved.weight, 0.5)
    state = saved.to(dtype).state_dict()
    state["num_batches_tracked"] = state["num_batches_tracked"].to(torch.int32)
    torch.save(state, tmp_path / "w.pt")
    load_weights(layer, tmp_path / "w.pt")
    assert layer.weight.tolist() == [0.5, 0.5]
    assert layer.weight.dtype is torch.float32

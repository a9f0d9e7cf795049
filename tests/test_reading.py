"""Files that are none, and JSON that cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fxbio.errors import ConfigError, PolicyError
from fxbio.policy.loader import read_policy
from fxbio.reading import parse_json, read_text
from fxbio.train.config import load_recipe


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
@pytest.mark.parametrize(
    ("read", "error"),
    [(read_text, OSError), (read_policy, PolicyError), (load_recipe, ConfigError)],
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
    [(read_text, OSError), (read_policy, PolicyError), (load_recipe, ConfigError)],
)
def test_a_name_that_no_file_can_have_is_refused(
    name: str, read: object, error: type[Exception]
) -> None:
    with pytest.raises(error, match="cannot be the name of a file"):
        read(Path(name))  # type: ignore[operator]


def test_a_device_is_refused() -> None:
    with pytest.raises(OSError, match="it is a device, not a file"):
        read_text("/dev/zero")


@pytest.mark.parametrize("text", ["[" * 100_000 + "]" * 100_000, '{"a":' * 100_000, "9" * 5000])
def test_json_beyond_bounds_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"nested too deeply|Exceeds the limit"):
        parse_json(text)

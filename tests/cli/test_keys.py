from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from fxbio.study.study_sections import StudyConfig
from fxbio.train.config import Recipe
from fxbio.train.config.sections import GroupConfig

Command = Callable[..., Result]


def test_every_section_and_key_is_listed(fxbio_command: Command) -> None:
    listed = {line.split()[0]: line for line in fxbio_command("keys").stdout.splitlines()[2:]}
    sections: dict[str, Any] = {"optim.groups": GroupConfig, "study": StudyConfig}
    for section in dataclasses.fields(Recipe):
        sections[section.name] = section.default_factory
    for name, cls in sections.items():
        for key in dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ():
            assert f"{key.name}=" in listed[name] or f" {key.name}" in listed[name], (name, key)
    assert {"model", "study.axes", "study.axes.option"} <= listed.keys()


def test_a_section_explains_its_keys(fxbio_command: Command) -> None:
    text = fxbio_command("keys", "optim").stdout
    assert "lr=0.1  (float)\n        The learning rate for the whole batch of a step" in text
    assert "groups=()  (list of mapping)" in text
    assert "constraints=()  (batch_manhattan | no_sign_change | strict_norm, or a list" in text
    assert "milestones=()  (list of float)" in fxbio_command("keys", "schedule").stdout
    assert "weights=None  (Path | null)" in fxbio_command("keys", "model").stdout


def test_every_key_is_explained(fxbio_command: Command) -> None:
    sections = json.loads(fxbio_command("keys", "--json").stdout)
    assert len(sections) >= 14
    missing = [
        f"{section['name']}.{option['name']}"
        for section in sections
        for option in section["options"]
        if not option["description"].endswith(".")
    ]
    assert missing == []


@pytest.mark.parametrize("section", ["optm", "study.axs"])
def test_an_unknown_section(fxbio_command: Command, section: str) -> None:
    result = fxbio_command("keys", section)
    assert result.exit_code == 2
    assert "did you mean" in result.stderr
    assert "optim.groups" in result.stderr

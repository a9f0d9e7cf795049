from __future__ import annotations

from pathlib import Path

import pytest

from tests.policy.toy import FakeGraph, make_graph, make_site


@pytest.fixture
def graph() -> FakeGraph:
    """Backbone of a stem and three blocks with norms, then a head whose one layer runs twice."""
    return make_graph(
        [
            make_site("backbone.conv1", shape=(64, 3, 7, 7), depth=0),
            make_site("backbone.bn1", "norm", (64,), depth=0, type="BatchNorm2d"),
            make_site("backbone.layer1.0.conv1", depth=1),
            make_site("backbone.layer1.0.conv2", depth=2),
            make_site("backbone.layer2.0.conv1", depth=3),
            make_site("backbone.layer2.0.attn", "linear", (8, 8), depth=4, type="Linear",
                      attention=True),
            make_site("head.cls", shape=(16, 8, 3, 3), depth=5),
            make_site("head.cls", shape=(16, 8, 3, 3), depth=5),
            make_site("head.fc", "linear", (10, 16), depth=6, type="Linear"),
        ]
    )  # fmt: skip


@pytest.fixture
def policy_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A path that messages show as ``p.yaml``."""
    monkeypatch.chdir(tmp_path)
    return Path("p.yaml")

"""A sample of the sweep over whole zoos of models; ``make sweep`` is the whole of it."""

from __future__ import annotations

import importlib.util

import pytest

from tests.sweeping.report import markdown, table
from tests.sweeping.study import Outcome, study

SAMPLE = {
    "torchvision": (
        *("resnet18", "shufflenet_v2_x0_5"),
        *("swin_t", "fasterrcnn_mobilenet_v3_large_320_fpn"),
    ),
    "awkward": ("LoraMerged", "Routing", "Scripted"),
    "timm": ("nf_regnet_b0",),
    "transformers": ("gpt2", "detr"),
}


def sample() -> list[tuple[str, str]]:
    """Models of the zoos that are installed; timm and transformers are an extra."""
    missing = [s for s in ("timm", "transformers") if importlib.util.find_spec(s) is None]
    return [(s, name) for s, names in SAMPLE.items() if s not in missing for name in names]


@pytest.mark.parametrize(("suite", "name"), sample())
@pytest.mark.filterwarnings("ignore")  # of the zoos, about themselves
def test_a_model_of_the_sweep(suite: str, name: str) -> None:
    outcome = study(suite, name)
    assert outcome.problem == ""
    assert outcome.missing == []
    assert outcome.sites == outcome.ruled + unreachable_sites(outcome)
    assert outcome.applied > 0
    assert outcome.witnessed
    assert outcome.forward in (True, None)
    assert outcome.gradients in (True, None)


def unreachable_sites(outcome: Outcome) -> int:
    return outcome.sites - outcome.ruled if outcome.unreachable else 0


def test_the_table_adds_up() -> None:
    good = Outcome("a", "one", applied=3, sites=4, ruled=4, whole=True, witnessed=True)
    bad = Outcome("b", "two", applied=5, missing=["w"], sites=5, ruled=3, problem="it | broke")
    text = table([good, bad])
    assert "a/one" in text
    assert text.splitlines()[-1].split()[:6] == ["all", "2", "8", "7", "9", "7"]


def test_the_page_names_what_went_wrong() -> None:
    pytest.importorskip("timm")
    pytest.importorskip("transformers")
    bad = Outcome("b", "two", missing=["w"], unreachable={"fused": 2}, problem="it | broke")
    page = markdown([bad])
    assert "* `b/two`: it | broke; NOT ACCOUNTED FOR: w; 2 out of reach: fused" in page
    assert "| two | 0.00 M | 0 | 0 | 0 | no | no | – | – | 0.0 | it / broke" in page
    assert "* 2 weights: fused" in page

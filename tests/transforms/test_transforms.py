"""The shipped transforms against closed forms, on errors whose result is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from fxbio.errors import RuleError
from fxbio.transforms import ErrorTransform, SiteValues, error_transform, parse_transform

NOTHING = torch.empty(0)
ROWS = SiteValues(NOTHING, NOTHING, -1)


def applied(spec: str, error: Tensor, site: SiteValues = ROWS) -> Tensor:
    return parse_transform(spec).apply(error, site)


def test_topk_keeps_the_largest_of_each_sample() -> None:
    error = torch.tensor([[1.0, -4.0, 2.0, 3.0], [-9.0, 1.0, 0.5, 2.0]])
    kept = torch.tensor([[0.0, -4.0, 0.0, 3.0], [-9.0, 0.0, 0.0, 2.0]])
    assert torch.equal(applied("topk{k=2}", error), kept)
    assert torch.equal(applied("topk{share=0.5}", error), kept)


def test_topk_of_a_batch_keeps_the_same_entries_of_all_samples() -> None:
    error = torch.tensor([[1.0, -4.0, 2.0], [-9.0, 1.0, 0.5]])
    kept = torch.tensor([[1.0, -4.0, 0.0], [-9.0, 1.0, 0.0]])  # sums 10, 5 and 2.5
    assert torch.equal(applied("topk{k=2,unified=true}", error), kept)


def test_a_sample_of_a_convolution_is_all_of_its_feature_maps() -> None:
    error = torch.arange(16.0).reshape(2, 2, 2, 2)
    kept = applied("topk{k=3}", error, SiteValues(NOTHING, NOTHING, 1))
    assert (kept.flatten(1) != 0).sum(1).tolist() == [3, 3]
    assert kept[1].flatten().tolist() == [0, 0, 0, 0, 0, 13, 14, 15]


@pytest.mark.parametrize(
    ("share", "cosine"), [(0.05, 0.528), (0.1, 0.663), (0.2, 0.806), (0.5, 0.964)]
)
def test_topk_of_normal_errors_has_the_angle_of_theory(share: float, cosine: float) -> None:
    """``cos = √(q + 2tφ(t))`` with ``q = 2(1 − Φ(t))``."""
    error = torch.randn(40, 5000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kept = applied(f"topk{{share={share}}}", error)
    found = torch.nn.functional.cosine_similarity(kept, error)
    assert abs(float(found.mean()) - cosine) < 4 * float(found.std()) / math.sqrt(40) + 5e-4


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_quantised_errors_lie_on_the_grid(bits: int) -> None:
    error = torch.randn(3, 500, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    levels = 2 ** (bits - 1) - 1
    step = error.abs().max() / levels
    rounded = applied(f"quantise{{bits={bits}}}", error)
    assert torch.allclose(rounded / step, (rounded / step).round())
    assert rounded.unique().numel() <= 2 * levels + 1
    assert (rounded - error).abs().max() <= step / 2 * (1 + 1e-9)
    assert torch.allclose(applied(f"quantise{{bits={bits}}}", rounded), rounded)  # idempotent


def test_a_grid_for_each_row() -> None:
    error = torch.tensor([[1.0, 0.4, -0.6], [100.0, 40.0, -60.0]])
    expected = torch.tensor([[1.0, 0.0, -1.0], [100.0, 0.0, -100.0]])
    assert torch.equal(applied("quantise{bits=2,per=row}", error), expected)
    assert torch.equal(applied("quantise{bits=2}", error)[0], torch.zeros(3))


def test_errors_of_zeros_stay_zeros() -> None:
    zeros = torch.zeros(2, 4)
    for spec in ("quantise{bits=4}", "sign", "ternary", "topk{k=1}", "clip{bound=1}"):
        assert torch.equal(applied(spec, zeros), zeros), spec


def test_signs_and_their_sizes() -> None:
    error = torch.tensor([[1.0, -2.0, 3.0, 0.0]])
    assert torch.equal(applied("sign", error), torch.tensor([[1.5, -1.5, 1.5, 0.0]]))
    assert torch.equal(applied("ternary", error), torch.tensor([[0.0, -2.5, 2.5, 0.0]]))
    assert torch.equal(applied("clip{bound=1.5}", error), torch.tensor([[1.0, -1.5, 1.5, 0.0]]))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("topk", "topk takes either k or share"),
        ("topk{k=2,share=0.1}", "topk takes either k or share"),
        ("topk{k=0}", "k must be a whole number ≥ 1, not 0"),
        ("topk{share=1.5}", "share must be above 0 and at most 1, not 1.5"),
        ("quantise{bits=1}", "bits must be a whole number from 2 to 24, not 1"),
        ("quantise{bits=2.5}", "option 'bits' of error transform 'quantise' cannot be 2.5"),
        ("clip{bound=-1}", "bound must be above 0, not -1"),
        ("clip", "error transform 'clip' needs the option 'bound'"),
        ("ternary{threshold=-1}", "threshold must be a number ≥ 0, not -1"),
        ("sign{where=above}", "option 'where' of error transform 'sign' cannot be 'above'"),
        ("sign{size=1}", "error transform 'sign' has no option 'size'"),
        ("sing", "unknown error transform 'sing'"),
    ],
)
def test_bad_options(spec: str, words: str) -> None:
    with pytest.raises(RuleError) as caught:
        parse_transform(spec)
    assert words in str(caught.value)


def test_the_name_of_a_transform_is_taken_once() -> None:
    with pytest.raises(RuleError, match="two error transforms are called 'sign'"):

        @error_transform("sign")
        @dataclass(frozen=True)
        class Other(ErrorTransform):
            def apply(self, error: Tensor, site: SiteValues) -> Tensor:
                return error

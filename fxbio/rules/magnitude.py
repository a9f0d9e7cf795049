"""Magnitudes of feedback weights: the conventions of published code, by name.

Batch normalisation hides the norm of a forward weight, but nothing hides the norm of a feedback
weight, so a comparison of rules means little unless the convention is stated.

=================== ============================== ==================================
convention          entry of sign feedback         random feedback
=================== ============================== ==================================
``xiao``            conv ``√(2/fan_out)``,         conv normal with that deviation,
                    others ``1/√fan_in``           others uniform within ``±1/√fan_in``
``biotorch-xavier`` ``√(2/(fan_in+fan_out))``      uniform with that deviation
``biotorch-kaiming`` ``1/√(3 fan_in)``             uniform with that deviation
``matched``         ``‖W‖/‖sign W‖``               normal, rescaled to the norm of W
a number            that number                    normal with that deviation
=================== ============================== ==================================

``xiao`` follows the code of Xiao et al. 2018 (arXiv 1811.03567), the BioTorch rows follow
arXiv 2108.13446. Fans count the channels of one group. The scale of a normalisation layer has
no fan: under the named conventions its entry is 1.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from fxbio.errors import RuleError, did_you_mean
from fxbio.rules.option_checks import check_size, check_word
from fxbio.rules.weight_info import WeightInfo

__all__ = [
    "Distribution",
    "Magnitude",
    "check_distribution",
    "check_magnitude",
    "entry",
    "random_like",
]

Convention = Literal["xiao", "biotorch-xavier", "biotorch-kaiming", "matched"]
Magnitude = Convention | float
Distribution = Literal["auto", "normal", "uniform"]

_ROOT3 = math.sqrt(3.0)


def check_magnitude(value: object) -> None:
    """Raise ``RuleError`` unless ``value`` is a convention or a positive number."""
    allowed = get_args(Convention)
    if isinstance(value, str) and value in allowed:
        return
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 < value < math.inf:
            raise RuleError(f"magnitude must be positive, not {value}", option="magnitude")
        return check_size("magnitude", value)
    guess = did_you_mean(str(value), allowed)
    raise RuleError(
        f"unknown magnitude '{value}'",
        option="magnitude",
        notes=[*([guess] if guess else []), f"allowed: {', '.join(allowed)}, or a number"],
    )


def check_distribution(value: object) -> None:
    """Raise ``RuleError`` unless ``value`` names a distribution."""
    check_word("distribution", value, get_args(Distribution))


def entry(magnitude: Magnitude, weight: Tensor, info: WeightInfo) -> float:
    """The absolute value of each entry of sign feedback."""
    if isinstance(magnitude, int | float):
        return float(magnitude)
    if magnitude == "matched":
        nonzero = int(torch.count_nonzero(weight))
        return float(weight.float().norm()) / math.sqrt(nonzero) if nonzero else 0.0
    if info.op == "norm":
        return 1.0
    if magnitude == "xiao":
        if info.is_convolution:
            return math.sqrt(2.0 / info.fan_out)
        return 1.0 / math.sqrt(info.fan_in)
    if magnitude == "biotorch-xavier":
        return math.sqrt(2.0 / (info.fan_in + info.fan_out))
    return 1.0 / math.sqrt(3.0 * info.fan_in)


def random_like(
    weight: Tensor,
    info: WeightInfo,
    magnitude: Magnitude,
    distribution: Distribution,
    generator: torch.Generator,
) -> Tensor:
    """A random tensor of the shape and dtype of ``weight``, zero mean, sized by the convention.

    It is drawn in float32 on the CPU, so that it is the same on every device and rank.
    """
    deviation, natural = _deviation(magnitude, weight, info)
    kind = natural if distribution == "auto" else distribution
    if kind == "normal":
        drawn = torch.randn(weight.shape, generator=generator)
    else:
        drawn = (torch.rand(weight.shape, generator=generator) * 2.0 - 1.0) * _ROOT3
    if magnitude == "matched":
        deviation = float(weight.float().norm()) / max(float(drawn.norm()), 1e-30)
    return drawn.mul_(deviation).to(weight.dtype)


def _deviation(
    magnitude: Magnitude, weight: Tensor, info: WeightInfo
) -> tuple[float, Literal["normal", "uniform"]]:
    """Standard deviation of random feedback, and the distribution of the code it comes from."""
    if magnitude == "xiao" and info.op != "norm" and not info.is_convolution:
        return 1.0 / math.sqrt(3.0 * info.fan_in), "uniform"
    if isinstance(magnitude, str) and magnitude.startswith("biotorch"):
        return entry(magnitude, weight, info), "uniform"
    return entry(magnitude, weight, info), "normal"

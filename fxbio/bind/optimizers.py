"""Whether the user's optimizer trains learned feedback as its rule needs.

Both checks run after an optimizer step: only then is it known which parameters it holds and what it
remembers of them.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim import Optimizer

from fxbio.errors import FxbioWarning, ModelError
from fxbio.ops.transport import parse_rule

if TYPE_CHECKING:
    from fxbio.bind.binding import BoundWeight

__all__ = ["check_optimizer", "forget_optimizers"]

_SEEN = "_fxbio_optimizers"
"""Attribute of a module: what is known of each learned feedback, by the name of the parameter."""

_SECOND_MOMENTS = frozenset(
    ("exp_avg_sq", "exp_inf", "square_avg", "sum", "prev", "row_var", "col_var", "variance")
)
"""What adaptive optimizers keep of a parameter, Adam, Adagrad, RMSprop and their kin."""

_TRAINED = "trained"
"""Said of a feedback that some optimizer has held."""

_warned: weakref.WeakSet[Optimizer] = weakref.WeakSet()
"""Optimizers of which one warning has been given; it holds for all layers alike."""


def check_optimizer(
    optimizer: Optimizer, held: set[int], module: nn.Module, weights: tuple[BoundWeight, ...]
) -> None:
    """Look at the learned feedback of a module after a step of an optimizer.

    Args:
        optimizer: that has taken a step.
        held: ids of its parameters.
        module: whose weights or feedback it holds.
        weights: of the module.

    Raises:
        ModelError: when weights are trained for the second time and their feedback never was.
    """
    seen: dict[str, Any] = vars(module).setdefault(_SEEN, {})
    for bound, name, feedback in _learning(module, weights):
        if seen.get(name) == _TRAINED:
            continue
        sources = [bound.parameter(module, source) for source in bound.sources]
        if id(feedback) in held:
            seen[name] = _TRAINED
            if parse_rule(bound.rule).tied and optimizer not in _warned:
                _check_tied(optimizer, bound, feedback, sources)
        elif any(id(source) in held for source in sources):
            seen[name] = seen.get(name, 0) + 1
            if seen[name] > 1:
                raise _untrained(bound)


def forget_optimizers(module: nn.Module) -> None:
    """Undo what ``check_optimizer`` keeps on a module."""
    vars(module).pop(_SEEN, None)


def _learning(
    module: nn.Module, weights: tuple[BoundWeight, ...]
) -> Iterator[tuple[BoundWeight, str, Tensor]]:
    if not hasattr(type(module), "_fxbio_base"):  # it runs backprop for the moment
        return
    for bound in weights:
        if bound.learned is None:
            continue
        feedback: Tensor = getattr(module, bound.learned)
        if feedback.requires_grad:
            yield bound, bound.learned, feedback


def _check_tied(
    optimizer: Optimizer, bound: BoundWeight, feedback: Tensor, sources: list[Tensor]
) -> None:
    """Warn where weight and feedback are updated differently although they get one gradient."""
    group = _group(optimizer, feedback)
    others = [other for s in sources if (other := _group(optimizer, s)) is not None]
    assert group is not None
    differing = sorted({key for other in others for key in _different(group, other)})
    if differing:
        _warn(
            optimizer,
            bound,
            f"is trained with other options than its weight: {', '.join(differing)}",
            "put both into groups with the same options",
        )
    elif _adapts(optimizer, feedback) and not _same_updates(bound, group):
        _warn(
            optimizer,
            bound,
            f"is trained by {type(optimizer).__name__}, which scales each entry by the gradients "
            "that this one entry had, so it does not follow its weight",
            "use SGD" if bound.feedback else "use SGD, or AdamW, whose decay is separate",
        )


def _adapts(optimizer: Optimizer, feedback: Tensor) -> bool:
    return not _SECOND_MOMENTS.isdisjoint(optimizer.state.get(feedback, {}))


def _same_updates(bound: BoundWeight, group: dict[str, Any]) -> bool:
    """Whether even an adaptive optimizer updates the feedback exactly as it does the weight.

    It does so for equal gradients and a decay that does not enter them.
    """
    decay_is_separate = group.get("decoupled_weight_decay", False) or not group.get("weight_decay")
    return bound.feedback is None and decay_is_separate


def _group(optimizer: Optimizer, parameter: Tensor) -> dict[str, Any] | None:
    groups = optimizer.param_groups
    return next((g for g in groups if any(p is parameter for p in g["params"])), None)


def _different(one: dict[str, Any], other: dict[str, Any]) -> Iterator[str]:
    """Options in which two groups differ, names and other words aside."""
    for key in (one.keys() | other.keys()) - {"params", "param_names"}:
        pair = (one.get(key), other.get(key))
        if pair[0] != pair[1] and not any(isinstance(value, str) for value in pair):
            yield key


def _warn(optimizer: Optimizer, bound: BoundWeight, what: str, advice: str) -> None:
    _warned.add(optimizer)
    name = bound.rule.partition("{")[0]
    warnings.warn(
        f"the feedback of '{bound.weight}' {what}; rule {name} relies on equal updates. {advice}",
        FxbioWarning,
        stacklevel=2,
    )


def _untrained(bound: BoundWeight) -> ModelError:
    return ModelError(
        f"an optimizer trains '{bound.weight}', and none trains its feedback",
        notes=[
            f"rule {bound.rule.partition('{')[0]} learns it: the parameter '{bound.learned}' of "
            "the same module",
            "an optimizer that was built before fxbio.transform does not know it",
        ],
        help="build it from the transformed model: SGD(model.parameters(), …), or "
        "SGD(fxbio.param_groups(model), …)",
    )

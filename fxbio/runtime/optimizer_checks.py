"""Check that the user's optimizer trains learned feedback as its rule needs.

Both checks run after an optimizer step: only then is it known which parameters it holds and what it
remembers of them.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from fxbio.errors import FxbioWarning, ModelError
from fxbio.runtime.binding import BoundWeight
from fxbio.runtime.module_state import binding_of, state_of

__all__ = ["check_optimizer"]

_SECOND_MOMENTS = frozenset(
    ("exp_avg_sq", "exp_inf", "square_avg", "sum", "prev", "row_var", "col_var", "variance")
)
"""What adaptive optimizers keep of a parameter, Adam, Adagrad, RMSprop and their kin."""

_TRAINED = "trained"
"""Said of a feedback that some optimizer has held."""


def check_optimizer(optimizer: Optimizer, held: set[int], modules: Iterable[nn.Module]) -> None:
    """Look at learned feedback after a step of an optimizer.

    Args:
        optimizer: that has taken a step.
        held: ids of its parameters.
        modules: whose weights or feedback it holds.

    Raises:
        ModelError: when weights are trained for the second time and their feedback never was.
    """
    problems: defaultdict[str, list[str]] = defaultdict(list)
    for module in modules:
        told = binding_of(module).told
        for bound, feedback, sources in _first_met(held, module):
            problem = _tied_problem(optimizer, bound, feedback, sources)
            if problem is None or (problem in told and problem not in problems):
                continue
            told.add(problem)
            problems[problem].append(bound.weight)
    for problem, weights in problems.items():
        warnings.warn(_warning(problem, sorted(weights)), FxbioWarning, stacklevel=2)


def _first_met(
    held: set[int], module: nn.Module
) -> Iterator[tuple[BoundWeight, Tensor, list[Tensor]]]:
    """The tied feedback that this optimizer is the first to train, with the weights it is of."""
    seen = state_of(module).optimizers
    for bound, name, feedback in _learning(module):
        if seen.get(name) == _TRAINED:
            continue
        sources = [bound.parameter(module, source) for source in bound.sources]
        if id(feedback) in held:
            seen[name] = _TRAINED
            if bound.rule.tied:
                yield bound, feedback, sources
            continue
        trained = {id(source) for source in sources} & held  # optimizers may hold one source each
        if not trained.isdisjoint(seen.setdefault(name, set())):
            raise _untrained(bound)
        seen[name] |= trained


def _learning(module: nn.Module) -> Iterator[tuple[BoundWeight, str, Tensor]]:
    if not hasattr(type(module), "_fxbio_base"):  # it runs backprop for the moment
        return
    for bound in binding_of(module).weights:
        if bound.learned is None:
            continue
        feedback: Tensor = getattr(module, bound.learned)
        if feedback.requires_grad:
            yield bound, bound.learned, feedback


def _tied_problem(
    optimizer: Optimizer, bound: BoundWeight, feedback: Tensor, sources: list[Tensor]
) -> str | None:
    """Reason why weight and feedback do not meet although they get one gradient."""
    group = _group(optimizer, feedback)
    others = [other for s in sources if (other := _group(optimizer, s)) is not None]
    assert group is not None
    differing = sorted({key for other in others for key in _different(group, other)})
    relies = f"rule {bound.rule.name} relies on equal updates."
    if differing:
        return (
            f"is trained with other options than its weight: {', '.join(differing)}; {relies} "
            "put both into groups with the same options"
        )
    if _adapts(optimizer, feedback) and not _same_updates(bound, group):
        advice = "use SGD" if bound.feedback else "use SGD, or AdamW, whose decay is separate"
        return (
            f"is trained by {type(optimizer).__name__}, which scales each entry by the gradients "
            f"that this one entry had, so it does not follow its weight; {relies} {advice}"
        )
    if not group.get("weight_decay"):
        name = "AdamW" if _adapts(optimizer, feedback) else "SGD"
        return (
            "is trained without weight decay, and only decay draws it to its weight under rule "
            f"{bound.rule.name}; give both the same, as {name}(model.parameters(), …, "
            "weight_decay=1e-4) does"
        )
    return None


def _adapts(optimizer: Optimizer, feedback: Tensor) -> bool:
    return not _SECOND_MOMENTS.isdisjoint(optimizer.state.get(feedback, {}))


def _same_updates(bound: BoundWeight, group: dict[str, Any]) -> bool:
    """True if even an adaptive optimizer updates the feedback exactly as it does the weight.

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


def _warning(problem: str, weights: list[str]) -> str:
    more = f" and {len(weights) - 1} more" if len(weights) > 1 else ""
    return f"the feedback of '{weights[0]}'{more} {problem}"


def _untrained(bound: BoundWeight) -> ModelError:
    return ModelError(
        f"an optimizer trains '{bound.weight}', and none trains its feedback",
        notes=[
            f"rule {bound.rule.name} learns it: the parameter '{bound.learned}' of the same module",
            "an optimizer that was built before fxbio.transform does not know it",
        ],
        help="build it from the transformed model: SGD(model.parameters(), …), or "
        "SGD(fxbio.param_groups(model), …)",
    )

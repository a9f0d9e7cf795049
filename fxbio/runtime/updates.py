"""Feedback that changes with the updates of the weights.

One update is one change of the weights. At the end of the outermost ``Optimizer.step`` the
rewritten modules whose weights it has moved count one update, and what is due is drawn, copied or
rescaled; where optimizers step inside of a backward pass, at the end of that. Where no optimizer of
torch has ever moved the weights of a module, its next differentiated forward counts what was
written into them by hand. Otherwise forward calls leave the feedback alone, so gradient
accumulation, recomputed activations and evaluation do. What is drawn is a function of
``(seed, weight, count)``, so every rank and every resumed run agree.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fxbio.errors import FxbioWarning, ModelError
from fxbio.rules.seeding import feedback_generator
from fxbio.runtime.binding import BoundWeight, resolve_attribute
from fxbio.runtime.local_losses import attach_losses, begin_update, detach_losses
from fxbio.runtime.module_state import Watch, binding_of, state_of
from fxbio.runtime.optimizer_checks import check_optimizer
from fxbio.runtime.sharding import fill, gathered
from fxbio.runtime.stepping import Step, after_backward, report_steps
from fxbio.tensors.grad_mode import is_examined
from fxbio.wrappers import unwrapped

__all__ = [
    "advance_feedback",
    "count_update",
    "count_writes",
    "follows_updates",
    "forget_updates",
    "redraw_counts",
    "renew",
    "set_redraw_counts",
    "track_updates",
]

_ASCENTS = 8
"""Fewer writes than this between two steps of an optimizer are parts of its update, as in SAM."""


_tracked: weakref.WeakKeyDictionary[nn.Module, None] = weakref.WeakKeyDictionary()
"""Modules whose feedback depends on their updates, in an order that all ranks have in common."""
_reported = [False]
"""Whether steps of optimizers are reported."""


class _Holdings(NamedTuple):
    """Parameters of an optimizer, as long as neither its groups nor the tracked modules change."""

    key: tuple[int, ...]
    held: set[int]
    modules: list[weakref.ref[nn.Module]]


_holdings: weakref.WeakKeyDictionary[Optimizer, _Holdings] = weakref.WeakKeyDictionary()
_generation = [0]
"""Number of changes of the tracked modules."""


def track_updates(module: nn.Module) -> None:
    """Have a rewritten module follow the updates of its weights, if its feedback needs to."""
    weights = binding_of(module).weights
    if not any(_follows(weight) for weight in weights):
        return
    attach_losses(module, weights)
    state_of(module).watch = Watch()
    _tracked[module] = None
    _generation[0] += 1
    if not _reported[0]:
        _reported[0] = True
        report_steps(_after_step)


def forget_updates(module: nn.Module) -> None:
    """Have a module follow no updates any more, when its rules are taken away."""
    if module not in _tracked:
        return
    del _tracked[module]
    _generation[0] += 1
    detach_losses(module, binding_of(module).weights)


def count_update(model: nn.Module) -> None:
    """Count one update of the weights of a transformed model, where fxbio cannot see it.

    Steps of ``torch.optim`` optimizers are seen, and so is what is written into parameters in
    place. Call this after an update that goes another way: through ``parameter.data``, or in code
    that ``torch.compile`` has compiled together with the forward.

    Args:
        model: a transformed model, or one wrapped in DDP.

    Raises:
        ModelError: when none of its feedback depends on updates.
    """
    modules = [module for module in model.modules() if module in _tracked]
    if not modules:
        raise ModelError(
            f"no feedback of {type(model).__name__} depends on the number of updates",
            help="rules that learn, redraw or refresh their feedback count updates: fxbio rules",
        )
    for module in modules:
        _watch_of(module).versions = _versions(module)
        advance_feedback(module)


def count_writes(module: nn.Module) -> None:
    """Count an update that no optimizer made, at the beginning of a differentiated forward."""
    if torch.compiler.is_compiling() or is_examined():  # compilers do not see versions of tensors
        return
    if module not in _tracked:
        return
    watch = _watch_of(module)
    versions = _versions(module)
    before, watch.versions = watch.versions, versions
    if before is None or all(before.get(key, now) == now for key, now in versions.items()):
        _compare_values(module, watch)
    elif watch.optimized:
        watch.written += 1
        if watch.written == _ASCENTS:
            _warn_uncounted(module)
    else:
        watch.by_hand += 1
        advance_feedback(module)


def follows_updates(module: nn.Module) -> bool:
    """True if the feedback of a module depends on the number of its updates."""
    return module in _tracked


def _watch_of(module: nn.Module) -> Watch:
    watch = state_of(module).watch
    assert watch is not None
    return watch


def _compare_values(module: nn.Module, watch: Watch) -> None:
    """Warn where weights change in a way that leaves no trace.

    They are compared at the fourth forward without an update, the eighth, the sixteenth, …
    """
    watch.forwards += 1
    if watch.forwards < 2 or watch.forwards & (watch.forwards - 1):
        return
    weight = binding_of(module).weights[0]
    sample = weight.parameter(module, weight.sources[0]).detach().flatten()[:16].clone()
    if type(sample) is not Tensor:  # a fake one, or a part of a sharded one
        return
    if watch.sample is not None and not torch.equal(sample, watch.sample):
        _warn_uncounted(module)
    watch.sample = sample


def _warn_uncounted(module: nn.Module) -> None:
    warnings.warn(
        f"'{binding_of(module).weights[0].weight}' changes, and no update of it was counted: its "
        "feedback stays as it is. Call fxbio.count_update(model) after each update, or train with "
        "torch.optim",
        FxbioWarning,
        stacklevel=2,
    )


def _versions(module: nn.Module) -> dict[int, int]:
    """Others are not comparable: ``fully_shard`` exchanges parameters between passes and steps."""
    return {id(p): p._version for p in _moving(module) if not p.is_inference()}


def advance_feedback(module: nn.Module, moved: set[int] | None = None) -> None:
    """Count one weight update of a rewritten module and renew the feedback that is due.

    Args:
        module: that follows updates.
        moved: ids of the parameters that have moved so far, if others of it may follow.
    """
    state_of(module).updates += 1
    watch = _watch_of(module)
    watch.forwards, watch.sample, watch.unfinished = 0, None, {}
    begin_update(module)
    for weight, turn in _due(module):
        if moved is not None and weight.feedback and not _has_moved(module, weight, moved):
            watch.unfinished[weight.feedback] = getattr(module, weight.feedback).clone()
        renew(module, weight, turn)


@torch.no_grad()
def _renew_again(module: nn.Module, moved: set[int]) -> None:
    """Renew what an update renewed before another optimizer made its part of it."""
    unfinished = _watch_of(module).unfinished
    for weight, turn in _due(module):
        sources = (weight.parameter(module, source) for source in weight.sources)
        if weight.feedback in unfinished and any(id(p) in moved for p in sources):
            getattr(module, weight.feedback).copy_(unfinished[weight.feedback])
            renew(module, weight, turn)


def _due(module: nn.Module) -> Iterator[tuple[BoundWeight, int]]:
    """The weights whose feedback the last update renews, with the number of that turn."""
    count = state_of(module).updates
    for weight, period in _renewed(module):
        if count % period == 0:
            yield weight, count // period


def _has_moved(module: nn.Module, weight: BoundWeight, moved: set[int]) -> bool:
    """True if all has moved that a weight is made of and that learns."""
    sources = (weight.parameter(module, source) for source in weight.sources)
    return all(id(p) in moved for p in sources if p.requires_grad)


def redraw_counts(model: nn.Module) -> dict[str, int]:
    """Updates counted so far by the path of each rewritten module that counts; for checkpoints."""
    modules = unwrapped(model).named_modules()
    return {path: state_of(m).updates for path, m in modules if m in _tracked}


def set_redraw_counts(model: nn.Module, counts: dict[str, int]) -> None:
    """Bring the feedback to the state that ``redraw_counts`` described.

    What has a history, such as learned feedback and copies of weights, is in the ``state_dict``.

    Raises:
        KeyError: if a path is not a module that counts.
    """
    modules = {path: m for path, m in unwrapped(model).named_modules() if m in _tracked}
    for path, count in counts.items():
        module = modules[path]
        state = state_of(module)
        before, state.updates = state.updates, count
        for weight, period in _renewed(module):
            if not weight.has_history and count // period != before // period:
                renew(module, weight, count // period)


@torch.no_grad()
def renew(module: nn.Module, weight: BoundWeight, turn: int) -> None:
    """Redraw, copy or rescale one feedback weight as its rule says.

    Args:
        module: that the weight is bound in.
        weight: whose feedback it is.
        turn: number of the draw.
    """
    name = weight.learned or weight.feedback
    assert name is not None
    feedback: Tensor = getattr(module, name)
    rule = weight.rule
    like = weight.weight_of(module) if rule.reads_weight() else torch.empty(weight.shape)
    generator = feedback_generator(weight.seed, weight.weight, turn)
    fill(feedback, rule.redraw(like, gathered(feedback), weight.info, generator))


def _after_step(step: Step) -> None:
    if not _tracked:
        return
    held, known = _held_by(step.optimizer)
    trained = [m for m in known if any(id(p) in held and step.moved(p) for p in _trained(m))]
    parts = [(module, _moved_by(step, held, module)) for module in trained]
    if parts:
        after_backward(partial(_count_step, step.optimizer, held, parts))
    for module in known:
        _watch_of(module).versions = _versions(module)  # an optimizer wrote what was written


def _held_by(optimizer: Optimizer) -> tuple[set[int], list[nn.Module]]:
    """Ids of the parameters of an optimizer, and the tracked modules that have some of them."""
    key = (_generation[0], *(len(group["params"]) for group in optimizer.param_groups))
    if optimizer not in _holdings or _holdings[optimizer].key != key:
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        known = [m for m in tuple(_tracked) if any(id(p) in held for p in _trained(m))]
        _holdings[optimizer] = _Holdings(key, held, [weakref.ref(m) for m in known])
    found = _holdings[optimizer]
    modules = (module() for module in found.modules)
    return found.held, [module for module in modules if module is not None]


def _count_step(
    optimizer: Optimizer, held: set[int], parts: list[tuple[nn.Module, set[int]]]
) -> None:
    """Count the step of an optimizer for modules, with ids of the weights that it moved there."""
    check_optimizer(optimizer, held, [module for module, _ in parts])
    for module, moved in parts:
        if moved and module in _tracked:
            _count_part(module, optimizer, moved)


def _count_part(module: nn.Module, optimizer: Optimizer, moved: set[int]) -> None:
    """Count the step of an optimizer, unless it is another part of an update that was counted."""
    watch = _watch_of(module)
    if not watch.optimized:  # what was written before it stepped was no update: SAM's ascent
        watch.optimized = True
        state_of(module).updates -= watch.by_hand
    if watch.stepped and optimizer not in watch.stepped and watch.moved.isdisjoint(moved):
        watch.stepped.add(optimizer)
        watch.moved |= moved
        _renew_again(module, moved)
        return
    watch.stepped, watch.moved, watch.written = weakref.WeakSet([optimizer]), moved, 0
    advance_feedback(module, moved)


def _trained(module: nn.Module) -> Iterator[Tensor]:
    """The parameters that rewritten weights are made of, and learned feedback."""
    for weight in binding_of(module).weights:
        names = [*weight.sources, *([weight.learned] if weight.learned else [])]
        yield from (resolve_attribute(module, name) for name in names)


def _moved_by(step: Step, held: set[int], module: nn.Module) -> set[int]:
    """Ids of the weights that a step has moved, or of feedback of weights that none ever moved."""
    watch, weights = _watch_of(module), binding_of(module).weights
    moved = {id(p) for p in _moving(module) if id(p) in held and step.moved(p)}
    if moved or watch.weights_moved:
        watch.weights_moved = True
        return moved
    learned = [w.parameter(module, w.learned) for w in weights if w.learned is not None]
    return {id(p) for p in learned if id(p) in held and step.moved(p)}


def _moving(module: nn.Module) -> Iterator[Tensor]:
    """The parameters whose change is an update."""
    for weight in binding_of(module).weights:
        yield from (weight.parameter(module, source) for source in weight.sources)


def _follows(weight: BoundWeight) -> bool:
    return weight.learned is not None or weight.rule.redraw_period() > 0


def _renewed(module: nn.Module) -> list[tuple[BoundWeight, int]]:
    """The weights whose feedback is renewed, with the number of updates between two times."""
    binding = binding_of(module)
    periods = [(weight, weight.rule.redraw_period()) for weight in binding.weights]
    return [(weight, period) for weight, period in periods if period]

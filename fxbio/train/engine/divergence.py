"""Numbers that stop being finite: the first layer, its rule, and remedies."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fxbio.errors import TrainError
from fxbio.serialization.record import plan_of
from fxbio.train.engine.trainer_state import TrainerState
from fxbio.train.output.run_folder import write_text

__all__ = ["Diverged", "diverged"]


OUTPUT = "in its output"


class Diverged(TrainError):
    """The loss or a gradient is not finite."""


def diverged(
    trainer: TrainerState, batches: Sequence[Any], losses: dict[str, float], folder: Path | None
) -> Diverged:
    """Look for the layer where it began, write ``diverged.json``, and say all of it. Collective.

    Args:
        trainer: after the backward pass, before the step.
        batches: what the step was taken on.
        losses: of this process.
        folder: where the first process writes; ``None`` to write nothing.
    """
    report = {
        "rank": trainer.world.rank,
        "losses": {name: _number(value) for name, value in losses.items()},
        "layer": _first_bad_layer(trainer, batches),
        "samples": _samples(trainer),
    }
    reports = trainer.world.collect(report)
    if trainer.world.first and folder is not None:
        content = {
            "step": trainer.progress.step,
            "lr": trainer.optimizer.param_groups[0]["lr"],
            "ranks": reports,
            "gradient_norms": _gradient_norms(trainer),
        }
        write_text(folder / "diverged.json", json.dumps(content, indent=2) + "\n")
    return _error(trainer, reports)


def _error(trainer: TrainerState, reports: list[dict[str, Any]]) -> Diverged:
    layers = [report["layer"] for report in reports if report["layer"]]
    # Gradients are averaged: a process whose outputs are finite has got them from another.
    found = min(layers, key=lambda layer: not layer.endswith(OUTPUT), default=None)
    lr = trainer.optimizer.param_groups[0]["lr"]
    base = trainer.recipe.optim.lr
    notes = [f"the learning rate was {lr:.3g}"]
    if found:
        notes.insert(0, f"the first layer that is not finite: {found}")
    advice = [f"optim.lr={base / 10:g}"]
    if not trainer.schedule.warmup:
        advice.append("schedule.warmup_epochs=1")
    if trainer.recipe.train.clip_norm is None:
        advice.append("train.clip_norm=1")
    return Diverged(
        f"the loss or a gradient is not finite in step {trainer.progress.step}",
        notes=[*notes, "the samples of the batch and the norms by layer are in diverged.json"],
        help=f"try {' or '.join(advice)}; an earlier checkpoint is a start that is still sound",
    )


def _first_bad_layer(trainer: TrainerState, batches: Sequence[Any]) -> str | None:
    for batch in batches:
        name = _first_bad_output(trainer, trainer.moved(batch))
        if name is not None:
            return f"{name} ({_rule_of(trainer.model, name)}), {OUTPUT}"
    bad = {n for n, p in trainer.model.named_parameters() if not _finite(p.grad)}
    if not bad:
        return None
    order = [a.site.weight for a in plan_of(trainer.model).assignments]
    # The error comes from behind: of the layers with a bad gradient the last was the first.
    last = next((weight for weight in reversed(order) if weight in bad), sorted(bad)[-1])
    name = last.rpartition(".")[0]
    return f"{name} ({_rule_of(trainer.model, name)}), in the gradient of its weight"


def _first_bad_output(trainer: TrainerState, batch: Any) -> str | None:
    """The first layer whose output is not finite, in a forward pass of its own."""
    with ExitStack() as stack:
        found = stack.enter_context(_watching(trainer.model))
        stack.enter_context(torch.no_grad())
        stack.enter_context(trainer.precision.autocast())
        stack.enter_context(suppress(Exception))  # the user's code may refuse NaN with any error
        trainer.task.loss(trainer.model, batch)
    return found[0] if found else None


@contextmanager
def _watching(model: nn.Module) -> Iterator[list[str]]:
    found: list[str] = []

    def watch(name: str) -> Callable[..., None]:
        def look(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor) and not _finite(output):
                found.append(name)

        return look

    leaves = [(name, m) for name, m in model.named_modules() if not any(m.children())]
    handles = [module.register_forward_hook(watch(name)) for name, module in leaves]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _rule_of(model: nn.Module, module: str) -> str:
    plan = plan_of(model)
    rules = [a.rule for a in plan.assignments if module in (a.site.path, a.site.owner)]
    return f"rule {rules[0]}" if rules else "no rule"


def _samples(trainer: TrainerState) -> list[int]:
    sampler = trainer.sampler
    return [pick.sample for pick in islice(iter(sampler), sampler.batch_size)]


def _gradient_norms(trainer: TrainerState) -> dict[str, float | str]:
    named = trainer.model.named_parameters()
    return {n: _number(float(p.grad.norm())) for n, p in named if p.grad is not None}


def _finite(tensor: Tensor | None) -> bool:
    return tensor is None or bool(torch.isfinite(tensor).all())


def _number(value: float) -> float | str:
    """JSON has no NaN."""
    return value if math.isfinite(value) else str(value)

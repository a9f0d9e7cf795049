"""Summary of a planned run, in a few lines."""

from __future__ import annotations

from fxbio.serialization.record import plan_of
from fxbio.train.config.sections import TrainConfig
from fxbio.train.engine.trainer_state import TrainerState

__all__ = ["summary_lines"]


def summary_lines(trainer: TrainerState) -> list[str]:
    """Model, rules, data, batch, learning rate and length of a run."""
    recipe, world, source = trainer.recipe, trainer.world, trainer.source
    train, optim = recipe.train, recipe.optim
    parameters = sum(p.numel() for p in trainer.model.parameters())
    share = trainer.sampler.batch_size // train.accumulate
    parts = f" x {train.accumulate} parts" if train.accumulate > 1 else ""
    return [
        f"model    {recipe.model.reference}, {parameters:,} parameters",
        f"rules    {_rules(trainer)}",
        f"data     {recipe.data.name}, {len(source.train):,} for training, "  # type: ignore[arg-type]
        f"{len(source.val):,} for evaluation, {trainer.task.name}",  # type: ignore[arg-type]
        *(f"         {finding}" for finding in source.findings),
        f"batch    {train.batch_size} = {world.size} process{'es' * (world.size > 1)} x {share} "
        f"samples{parts}, on {world.device.type} in {train.precision}",
        f"optim    {optim.name}, lr {optim.lr:g} for the whole batch, {_schedule(trainer)}",
        f"length   {train.epochs} epochs x {trainer.schedule.steps_per_epoch} steps = "
        f"{trainer.schedule.steps:,} steps",
        *([f"phases   {_phases(train)}"] if train.takes_turns else ()),
    ]


def _rules(trainer: TrainerState) -> str:
    totals = plan_of(trainer.model).totals()
    return "; ".join(f"{t.rule}: {t.weights} weights, {t.share:.0%}" for t in totals)


def _phases(train: TrainConfig) -> str:
    turns = ", ".join(train.phases) or "both"
    what = f"{turns} by turns, an epoch each" if len(train.phases) > 1 else turns
    first = train.inverse_epochs
    return f"{first} epoch{'s' * (first > 1)} inverse, then {what}" if first else what


def _schedule(trainer: TrainerState) -> str:
    config = trainer.recipe.schedule
    what = {
        "constant": "constant",
        "step": f"times {config.gamma:g} every {config.every:g} epochs",
        "multistep": f"times {config.gamma:g} at {', '.join(f'{m:g}' for m in config.milestones)}",
        "cosine": f"cosine to {config.final:g}",
    }[config.name]
    warmup = trainer.schedule.warmup
    return f"{what}, warm-up {warmup} steps" if warmup else what

"""The angle between forward and feedback weights at the end of a run."""

from __future__ import annotations

from statistics import fmean

from torch import nn

from fxbio.analysis.angles import angle
from fxbio.runtime.install import feedback_weights
from fxbio.serialization.record import plan_of
from fxbio.train.config import load_recipe
from fxbio.train.distributed.process_group import join
from fxbio.train.engine.run import open_task
from fxbio.train.engine.snapshot import restore_run
from fxbio.train.engine.trainer_state import open_trainer
from fxbio.train.output.owner import check_run
from fxbio.train.output.run_folder import RunFolder
from fxbio.train.state.files import read_checkpoint

__all__ = ["feedback_angle"]


def feedback_angle(run: RunFolder) -> float | None:
    """Degrees between W and B, the mean over the weights whose B is another of their shape.

    Args:
        run: a finished run; its model is built again, for feedback is not in checkpoints.

    Raises:
        ConfigError: when somebody else has made the run.
    """
    recipe = load_recipe(run.config)
    check_run(run, recipe)
    with join(recipe.train.device) as world:
        source, task = open_task(recipe, world, generate=False)
        with open_trainer(recipe, world, source, task) as trainer:
            restore_run(trainer, read_checkpoint(run.checkpoints / "last.pt"))
            return _mean_angle(trainer.model)


def _mean_angle(model: nn.Module) -> float | None:
    plan, weights = plan_of(model), dict(model.named_parameters())
    own = {a.site.weight for a in plan.rewritten() if a.make_rule().transports != "weights"}
    found = [
        angle(weights[name], feedback)
        for name, feedback in feedback_weights(model).items()
        if name in own & weights.keys() and weights[name].shape == feedback.shape
    ]
    valid = [value for value in found if value is not None]
    return fmean(valid) if valid else None

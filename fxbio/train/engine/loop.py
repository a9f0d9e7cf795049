"""The training loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from fxbio.analysis.alignment_log import log_alignment
from fxbio.errors import TrainError
from fxbio.train.distributed.signals import Abandoned, StopFlag
from fxbio.train.engine.clock import Clock
from fxbio.train.engine.divergence import diverged
from fxbio.train.engine.evaluate import Interrupted, evaluate
from fxbio.train.engine.outputs import Outputs
from fxbio.train.engine.snapshot import capture_run
from fxbio.train.engine.step import backward, update
from fxbio.train.engine.trainer_state import TrainerState
from fxbio.train.engine.watchdog import watching
from fxbio.train.output.progress import duration, metrics_text

__all__ = ["Loop"]


class Loop:
    """Steps, evaluations and checkpoints, in the order that the recipe says.

    Args:
        trainer: where it stands decides where the loop goes on.
        outputs: what is written and shown.
        stop: looked at between steps, by all processes together.
    """

    def __init__(self, trainer: TrainerState, outputs: Outputs, stop: StopFlag) -> None:
        self.trainer, self.outputs, self.stop = trainer, outputs, stop
        self._clock = Clock()
        self._skipped = 0
        self._noted: tuple[str, ...] = ()  # by the evaluation before

    def run(self) -> None:
        """Train to the end.

        Raises:
            Interrupted: when some process was asked to stop; ``save`` keeps what was done.
            Diverged: when a loss or a gradient is not finite.
        """
        with watching(self.trainer, self.outputs, self._clock):
            self._run()

    def _run(self) -> None:
        trainer = self.trainer
        trainer.model.train()
        if trainer.progress.step == 0 and trainer.recipe.train.sanity_batches:
            evaluate(
                trainer, self.outputs.view, self.stop, limit=trainer.recipe.train.sanity_batches
            )
        if trainer.progress.step == 0:
            self._measure_alignment()
        with self.outputs.profiling(trainer.recipe.train.profile_steps) as profiled:
            while trainer.sampler.epoch < trainer.recipe.train.epochs:
                with trainer.phase():
                    for _ in self.steps():
                        profiled()
                self._finish_epoch()

    def save(self, *, best: bool = False) -> None:
        """Keep the state as it is now. Collective."""
        self.outputs.save(capture_run(self.trainer), self.trainer.progress.step, best=best)
        self.outputs.tell_status("running", self.trainer)

    def steps(self) -> Iterator[None]:
        """Train what is left of the epoch, a step for each ``next``."""
        for batches in self._batches():
            self._step(batches)
            yield

    def _batches(self) -> Iterator[list[Any]]:
        """Rest of the epoch, in groups of parts; each part is a batch of the loader."""
        trainer = self.trainer
        parts = trainer.recipe.train.accumulate
        left = trainer.sampler.steps_left
        batches = iter(trainer.train_loader) if left else iter(())
        self._clock.restart()
        group: list[Any] = []
        self._clock.in_step = True
        for _ in range(left):
            if not (group and trainer.recipe.train.overfit_batch):
                with self._clock.waiting(), self._abandonable():
                    group = list(islice(batches, parts))
            yield group
        self._clock.in_step = False

    def _step(self, batches: list[Any]) -> None:
        trainer = self.trainer
        trainer.schedule.apply(trainer.optimizer, trainer.sampler.steps)
        losses, finite = backward(trainer, batches)
        stop, bad = trainer.world.agree(bool(self.stop), not finite)
        if bad:
            raise diverged(trainer, batches, losses, self.outputs.path)
        update(trainer)
        trainer.sampler.advance(trainer.sampler.batch_size)
        self._clock.tick()
        self._tell(losses)
        if stop:
            raise Interrupted
        every = trainer.recipe.checkpoint.every_steps
        if every and trainer.progress.step % every == 0:
            self.save()
            self._clock.restart()
        self.outputs.check()

    def _tell(self, losses: dict[str, float]) -> None:
        trainer, progress = self.trainer, self.trainer.progress
        progress.add(losses)
        report = self._clock.report(trainer, losses["loss"])
        self.outputs.view.step(report)
        every = trainer.recipe.log.every_steps
        if progress.step % every and progress.step != trainer.steps:
            return
        means = trainer.world.mean(progress.take_means())
        values = {"epoch": trainer.epochs, **means, "lr": report.lr, "images_per_s": report.rate}
        self.outputs.write("train", progress.step, values)
        self.outputs.tell_status("running", trainer)

    def _finish_epoch(self) -> None:
        trainer, recipe = self.trainer, self.trainer.recipe
        epoch = trainer.sampler.epoch + 1
        last = epoch >= recipe.train.epochs
        best = False
        self._tell_of_skipped()
        if last or epoch % recipe.train.eval_every == 0:
            best = self._evaluate()
        self._measure_alignment(epoch)
        trainer.sampler.set_epoch(epoch)
        if best or last or epoch % recipe.checkpoint.every_epochs == 0:
            self.save(best=best)

    @contextmanager
    def _abandonable(self) -> Iterator[None]:
        """Inside, a run that was asked to stop does not wait for ever: nothing has changed yet.

        Raises:
            Interrupted: when this process was asked to stop.
            TrainError: when all were; the others are in the middle of a step, and cannot save.
        """
        try:
            with self.stop.abandoning():
                yield
        except Abandoned:
            if self.trainer.world.size == 1:
                raise Interrupted from None
            raise TrainError(
                f"stopped while waiting for {self.trainer.train_loader.awaited()}, without saving",
                help="continue from the last checkpoint with --resume auto",
            ) from None

    def _tell_of_skipped(self) -> None:
        skipped = self.trainer.source.skipped()
        if len(skipped) > self._skipped:
            self._skipped = len(skipped)
            names = ", ".join(skipped[:5])
            self.outputs.view.say(f"  note: {len(skipped)} images cannot be read: {names}")

    def _measure_alignment(self, epoch: int = 0) -> None:
        """On the first process: what alignment measures comes of one batch, and is not averaged."""
        trainer = self.trainer
        every = trainer.recipe.log.alignment_every
        if every and epoch % every == 0 and self.outputs.folder is not None:
            batch = trainer.moved(next(iter(trainer.eval_loader)))
            file = self.outputs.folder.alignment
            log_alignment(file, trainer.progress.step, trainer.model, *batch)
            self._clock.restart()

    def _evaluate(self) -> bool:
        """Evaluate; gives whether it is the best so far."""
        trainer, progress = self.trainer, self.trainer.progress
        self._clock.restart()
        with self._abandonable():
            evaluation = evaluate(trainer, self.outputs.view, self.stop)
        seconds = self._clock.elapsed()
        metrics = progress.metrics = evaluation.metrics
        self.outputs.write("eval", progress.step, {"epoch": trainer.epochs, **metrics})
        self.outputs.view.say(
            f"epoch {trainer.epochs:g}: {metrics_text(metrics)}  in {duration(seconds)}"
        )
        for note in evaluation.notes:
            if note not in self._noted:
                self.outputs.view.say(f"  note: {note}")
        self._noted = evaluation.notes
        self.outputs.write_predictions(evaluation.predictions)
        value = metrics[trainer.task.metric]
        best = progress.best is None or value > progress.best
        if best:
            progress.best, progress.best_step = value, progress.step
        return best

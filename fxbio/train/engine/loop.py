"""The training loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from fxbio.errors import TrainError
from fxbio.study.aligning.log import log_alignment
from fxbio.train.engine.clock import Clock
from fxbio.train.engine.divergence import diverged
from fxbio.train.engine.evaluate import Interrupted, evaluate
from fxbio.train.engine.outputs import Outputs
from fxbio.train.engine.session import Session
from fxbio.train.engine.snapshot import capture_run
from fxbio.train.engine.step import backward, update
from fxbio.train.engine.watchdog import watching
from fxbio.train.output.view import duration, metrics_text
from fxbio.train.parallel.signals import Abandoned, StopFlag

__all__ = ["Loop"]


class Loop:
    """Steps, evaluations and checkpoints, in the order that the recipe says.

    Args:
        session: where it stands decides where the loop goes on.
        outputs: what is written and shown.
        stop: looked at between steps, by all processes together.
    """

    def __init__(self, session: Session, outputs: Outputs, stop: StopFlag) -> None:
        self.session, self.outputs, self.stop = session, outputs, stop
        self._clock = Clock()
        self._skipped = 0
        self._noted: tuple[str, ...] = ()  # by the evaluation before

    def run(self) -> None:
        """Train to the end.

        Raises:
            Interrupted: when some process was asked to stop; ``save`` keeps what was done.
            Diverged: when a loss or a gradient is not finite.
        """
        with watching(self.session, self.outputs, self._clock):
            self._run()

    def _run(self) -> None:
        session = self.session
        session.model.train()
        if session.progress.step == 0 and session.recipe.train.sanity_batches:
            evaluate(
                session, self.outputs.view, self.stop, limit=session.recipe.train.sanity_batches
            )
        if session.progress.step == 0:
            self._measure_alignment()
        with self.outputs.profiling(session.recipe.train.profile_steps) as profiled:
            while session.sampler.epoch < session.recipe.train.epochs:
                with session.phase():
                    for _ in self.steps():
                        profiled()
                self._finish_epoch()

    def save(self, *, best: bool = False) -> None:
        """Keep the state as it is now. Collective."""
        self.outputs.save(capture_run(self.session), self.session.progress.step, best=best)
        self.outputs.tell_status("running", self.session)

    def steps(self) -> Iterator[None]:
        """Train what is left of the epoch, a step for each ``next``."""
        for batches in self._batches():
            self._step(batches)
            yield

    def _batches(self) -> Iterator[list[Any]]:
        """What is left of the epoch, in groups of parts; each part is a batch of the loader."""
        session = self.session
        parts = session.recipe.train.accumulate
        left = session.sampler.steps_left
        batches = iter(session.train_loader) if left else iter(())
        self._clock.restart()
        group: list[Any] = []
        self._clock.in_step = True
        for _ in range(left):
            if not (group and session.recipe.train.overfit_batch):
                with self._clock.waiting(), self._abandonable():
                    group = list(islice(batches, parts))
            yield group
        self._clock.in_step = False

    def _step(self, batches: list[Any]) -> None:
        session = self.session
        session.schedule.apply(session.optimizer, session.sampler.steps)
        losses, finite = backward(session, batches)
        stop, bad = session.world.agree(bool(self.stop), not finite)
        if bad:
            raise diverged(session, batches, losses, self.outputs.path)
        update(session)
        session.sampler.advance(session.sampler.batch_size)
        self._clock.tick()
        self._tell(losses)
        if stop:
            raise Interrupted
        every = session.recipe.checkpoint.every_steps
        if every and session.progress.step % every == 0:
            self.save()
            self._clock.restart()
        self.outputs.check()

    def _tell(self, losses: dict[str, float]) -> None:
        session, progress = self.session, self.session.progress
        progress.add(losses)
        report = self._clock.report(session, losses["loss"])
        self.outputs.view.step(report)
        every = session.recipe.log.every_steps
        if progress.step % every and progress.step != session.steps:
            return
        means = session.world.mean(progress.take_means())
        values = {"epoch": session.epochs, **means, "lr": report.lr, "images_per_s": report.rate}
        self.outputs.write("train", progress.step, values)
        self.outputs.tell_status("running", session)

    def _finish_epoch(self) -> None:
        session, recipe = self.session, self.session.recipe
        epoch = session.sampler.epoch + 1
        last = epoch >= recipe.train.epochs
        best = False
        self._tell_of_skipped()
        if last or epoch % recipe.train.eval_every == 0:
            best = self._evaluate()
        self._measure_alignment(epoch)
        session.sampler.set_epoch(epoch)
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
            if self.session.world.size == 1:
                raise Interrupted from None
            raise TrainError(
                f"stopped while waiting for {self.session.train_loader.awaited()}, without saving",
                help="continue from the last checkpoint with --resume auto",
            ) from None

    def _tell_of_skipped(self) -> None:
        skipped = self.session.source.skipped()
        if len(skipped) > self._skipped:
            self._skipped = len(skipped)
            names = ", ".join(skipped[:5])
            self.outputs.view.say(f"  note: {len(skipped)} images cannot be read: {names}")

    def _measure_alignment(self, epoch: int = 0) -> None:
        """On the first process: what alignment measures comes of one batch, and is not averaged."""
        session = self.session
        every = session.recipe.log.alignment_every
        if every and epoch % every == 0 and self.outputs.folder is not None:
            batch = session.moved(next(iter(session.eval_loader)))
            file = self.outputs.folder.alignment
            log_alignment(file, session.progress.step, session.model, *batch)
            self._clock.restart()

    def _evaluate(self) -> bool:
        """Evaluate; gives whether it is the best so far."""
        session, progress = self.session, self.session.progress
        self._clock.restart()
        with self._abandonable():
            evaluation = evaluate(session, self.outputs.view, self.stop)
        seconds = self._clock.elapsed()
        metrics = progress.metrics = evaluation.metrics
        self.outputs.write("eval", progress.step, {"epoch": session.epochs, **metrics})
        self.outputs.view.say(
            f"epoch {session.epochs:g}: {metrics_text(metrics)}  in {duration(seconds)}"
        )
        for note in evaluation.notes:
            if note not in self._noted:
                self.outputs.view.say(f"  note: {note}")
        self._noted = evaluation.notes
        self.outputs.write_predictions(evaluation.predictions)
        value = metrics[session.task.metric]
        best = progress.best is None or value > progress.best
        if best:
            progress.best, progress.best_step = value, progress.step
        return best

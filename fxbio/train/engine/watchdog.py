"""Signs of life while a run gets on, and who is silent when a step takes far too long."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from torch.distributed.distributed_c10d import Store

from fxbio.train.engine.clock import Clock
from fxbio.train.engine.outputs import Outputs
from fxbio.train.engine.trainer_state import TrainerState
from fxbio.train.output.progress import say_anywhere

__all__ = ["Watchdog", "watching"]

PERIOD = 5.0
"""Seconds between two signs of life; one that misses two is silent."""


class Watchdog:
    """A thread, since a process that waits for another does nothing else.

    Args:
        trainer: of this process; each of them has a watchdog.
        outputs: whose status file is touched while the run gets on.
        clock: says when a step takes far longer than those before.
    """

    def __init__(self, trainer: TrainerState, outputs: Outputs, clock: Clock) -> None:
        self.trainer, world = trainer, trainer.world
        self.world, self.outputs, self.clock = world, outputs, clock
        self.store: Store | None = world.store.clone() if world.store is not None else None
        self._told = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._heard: dict[int, tuple[bytes, float]] = {}

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def end(self) -> None:
        """Look no more. A look that waits for a store which is gone is not waited for."""
        self._ended.set()
        self._thread.join(PERIOD)

    def silent_ranks(self) -> dict[int, float]:
        """Other processes without a sign of life for two periods, and for how many seconds."""
        now = time.monotonic()
        silences = {rank: now - heard for rank, (_, heard) in self._heard.items()}
        return {rank: seconds for rank, seconds in silences.items() if seconds > 2 * PERIOD}

    def _run(self) -> None:
        while not self._ended.wait(PERIOD):
            with suppress(RuntimeError):  # the store goes when the run ends
                self._exchange()
            note = self._note()
            if note is None and not self.clock.is_late():
                self._told = False
                self._touch()
            elif note is not None and not self._told:
                self._told = True
                say_anywhere(self.outputs.view, f"  note: {note}")

    def _touch(self) -> None:
        if self.outputs.folder is not None:
            with suppress(OSError):  # what is written next says what is wrong
                os.utime(self.outputs.folder.status)

    def _exchange(self) -> None:
        if self.store is None:
            return
        self.store.set(f"life/{self.world.rank}", str(time.monotonic()))
        for rank in range(self.world.size):
            key = f"life/{rank}"
            sign = self.store.get(key) if self.store.check([key]) else b""
            if rank != self.world.rank and self._heard.get(rank, (None, 0.0))[0] != sign:
                self._heard[rank] = sign, time.monotonic()

    def _awaited_worker(self) -> str | None:
        """The worker that has been waited for, for too long."""
        for loader in (self.trainer.train_loader, self.trainer.eval_loader):
            since = loader.waiting_since
            if since is not None and self.clock.too_long(time.monotonic() - since):
                return loader.awaited()
        return None

    def _note(self) -> str | None:
        """Note on who is waited for; the first rank that is not silent names those that are."""
        worker = self._awaited_worker()
        if worker is not None:
            return f"rank {self.world.rank} waits for {worker}, too long"
        late, silent = self.clock.is_late(), self.silent_ranks()
        if not late:  # evaluations and writing take as long as they take, but not without a sign
            between = not self.clock.in_step
            silent = {r: s for r, s in silent.items() if between and self.clock.too_long(s)}
        if not silent or set(range(self.world.rank)) - set(silent):
            return None
        since = (
            f"a step has taken {self.clock.elapsed():.0f} s, and those before "
            f"{self.clock.step_seconds:.2g} s"
            if late
            else f"no sign of life for {max(silent.values()):.0f} s, between two steps"
        )
        return f"rank {', '.join(map(str, silent))} is silent: {since}"


@contextmanager
def watching(trainer: TrainerState, outputs: Outputs, clock: Clock) -> Iterator[None]:
    """A watchdog for as long as training goes on."""
    watchdog = Watchdog(trainer, outputs, clock)
    watchdog.start()
    try:
        yield
    finally:
        watchdog.end()

"""Failure of a run: its reason, whichever process it arose in, and what is left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from fxbio.errors import FxbioError, TrainError
from fxbio.train.distributed.process_group import World
from fxbio.train.distributed.signals import StopFlag, StoppedEarly
from fxbio.train.engine.divergence import Diverged
from fxbio.train.engine.friendly_errors import LostProcess, explain
from fxbio.train.engine.outputs import Outputs
from fxbio.train.engine.trainer_state import TrainerState
from fxbio.train.output.presence import FolderLostError
from fxbio.train.output.status import exit_code

__all__ = ["set_up", "status_of_failures"]


@contextmanager
def set_up(world: World, stop: StopFlag) -> Iterator[None]:
    """Whatever is raised before training begins, in words that help.

    Raises:
        StoppedEarly: when a signal is behind it.
    """
    try:
        yield
    except StoppedEarly:
        words = world.last_words()
        if words:  # torchrun has sent the signal, because another process has failed
            raise LostProcess(words) from None
        raise
    except Exception as error:
        if stop.signal is not None:  # imports and models may make another error of it
            raise StoppedEarly(stop.signal) from error
        stop.hold()  # torchrun is going to end this process too, which is no reason of its own
        explained = _in_words(error, world)
        if explained is error:
            raise  # as its own cause it would hold the model, and so the connections, for long
        raise explained from error


@contextmanager
def status_of_failures(trainer: TrainerState, outputs: Outputs) -> Iterator[None]:
    """Write down what is raised inside, say it in words that help, and close the outputs."""
    try:
        yield
    except Diverged as error:
        with suppress(OSError, FolderLostError):
            outputs.tell_status("diverged", trainer, str(error), exit_code("diverged"))
        raise
    except Exception as error:  # whatever the user's code raises, the file must say it
        explained = _in_words(_loss_of_folder(outputs) or error, trainer.world)
        asked_wrongly = isinstance(explained, FxbioError) and not isinstance(explained, TrainError)
        with suppress(OSError, FolderLostError):  # the disk may be full
            outputs.tell_status("failed", trainer, _text(explained), 2 if asked_wrongly else 1)
        if explained is error:
            raise
        raise explained from error
    finally:
        outputs.close()


def _loss_of_folder(outputs: Outputs) -> Exception | None:
    """Error of the folder behind whatever error follows from it."""
    try:
        outputs.check_folder()
    except FolderLostError as error:
        return error
    return None


def _in_words(error: Exception, world: World) -> Exception:
    """The error explained; the process that writes the status is told of it too."""
    explained = explain(error)
    if isinstance(explained, LostProcess):
        return LostProcess(world.last_words())
    world.leave_word(_text(explained))
    return explained


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, FxbioError) else f"{type(error).__name__}: {error}"

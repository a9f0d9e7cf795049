"""What a run that fails leaves behind: its reason, whichever process it arose in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fxbio.errors import FxbioError, TrainError
from fxbio.train.engine.divergence import Diverged
from fxbio.train.engine.explain import LostProcess, explain
from fxbio.train.engine.outputs import Outputs
from fxbio.train.engine.session import Session
from fxbio.train.output.folder import RunFolder
from fxbio.train.output.status import exit_code

__all__ = ["status_of_failures"]


@contextmanager
def status_of_failures(session: Session, outputs: Outputs, run: RunFolder) -> Iterator[None]:
    """Write down what is raised inside, say it in words that help, and close the outputs."""
    try:
        yield
    except Diverged as error:
        outputs.tell_status("diverged", session, str(error), exit_code("diverged"))
        raise
    except Exception as error:  # whatever the user's code raises, the file must say it
        explained = explain(error)
        if isinstance(explained, LostProcess):
            explained = LostProcess(_last_words(run))
        elif not session.world.first:
            _leave_word(run, session.world.rank, explained)
        asked_wrongly = isinstance(explained, FxbioError) and not isinstance(explained, TrainError)
        outputs.tell_status("failed", session, str(explained), 2 if asked_wrongly else 1)
        raise explained from error
    finally:
        outputs.close()


def _leave_word(run: RunFolder, rank: int, error: Exception) -> None:
    """For the process that writes the status: it will only see that this one is gone."""
    (run.path / f"error-rank{rank}.txt").write_text(f"{type(error).__name__}: {error}\n")


def _last_words(run: RunFolder) -> list[str]:
    files = sorted(run.path.glob("error-rank*.txt"))
    return [f"{file.stem.removeprefix('error-')}: {file.read_text().strip()}" for file in files]

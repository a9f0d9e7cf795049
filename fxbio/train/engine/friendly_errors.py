"""Explanations of errors from below for the run that they end, where they are known."""

from __future__ import annotations

import errno
from collections.abc import Iterable

from fxbio.errors import FxbioError, ProcessError, TrainError, is_out_of_memory

__all__ = ["LostProcess", "explain"]

_GONE = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")
"""What gloo says when it talks to a process that has ended."""

_GOES_ON = "continue from the last checkpoint with --resume auto"


class LostProcess(TrainError):
    """Another process of the run does not answer any more."""

    def __init__(self, last_words: Iterable[str] = ()) -> None:
        notes = list(last_words) or ["it could not say why: often it was killed, or memory ran out"]
        helped = any("= help:" in note for note in notes)
        super().__init__(
            "another process of this run is gone", notes=notes, help=None if helped else _GOES_ON
        )


def explain(error: Exception) -> Exception:
    """The same error in words that help; or itself, where there are none."""
    text = str(error)
    if isinstance(error, FxbioError):
        return _without_traceback(error, text)
    if "DataLoader worker (pid" in text:
        return ProcessError(
            "a process that loads images died",
            notes=[text.splitlines()[0], "the last checkpoint is intact"],
            help="often memory ran out: try fewer workers, data.workers=2, or none to see the "
            f"error, data.workers=0; then {_GOES_ON}",
        )
    if isinstance(error, RuntimeError) and any(sign in text for sign in _GONE):
        return LostProcess()
    if isinstance(error, RuntimeError) and "Timed out waiting" in text:
        return TrainError(
            "another process of this run does not answer",
            notes=["it hangs, or its machine cannot be reached any more", text],
            help=_GOES_ON,
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return TrainError(
            f"the disk is full: {text}",
            notes=["the last checkpoint is intact"],
            help=f"make room, then {_GOES_ON}",
        )
    if is_out_of_memory(error):
        return TrainError(
            f"there is not enough memory: {(text or type(error).__name__).splitlines()[0]:.300}",
            notes=["the last checkpoint is intact"],
            help="work through a batch in parts, train.accumulate=2, or take a smaller one or "
            f"smaller images; then {_GOES_ON}",
        )
    return error


def _without_traceback(error: FxbioError, text: str) -> FxbioError:
    """From a worker an error comes as one text with the traceback in front of it."""
    if "Original Traceback" not in text:
        return error
    return type(error)(text.rpartition(f"{type(error).__name__}: ")[2].strip())

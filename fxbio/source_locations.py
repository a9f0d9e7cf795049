"""Locations in the user's code that operations were called from."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import FrameType, TracebackType

import torch

from fxbio.site import Origin

__all__ = ["checkpointed_within", "origin_of_exception", "user_origin"]

_TORCH = str(Path(torch.__file__).parent) + os.sep
_FXBIO = str(Path(__file__).parent) + os.sep
_CHECKPOINT = str(Path("torch", "utils", "checkpoint.py"))


def _is_internal(file: str) -> bool:
    return file.startswith((_TORCH, _FXBIO, "<"))


def user_origin() -> Origin | None:
    """The innermost line outside of torch and fxbio on the current stack."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not _is_internal(frame.f_code.co_filename):
            return Origin(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return None


def origin_of_exception(error: BaseException) -> Origin | None:
    """The innermost line outside of torch and fxbio in the traceback of an exception."""
    found: Origin | None = None
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not _is_internal(file):
            found = Origin(file, trace.tb_lineno)
        trace = trace.tb_next
    return found


def checkpointed_within(boundaries: int, marker: str) -> bool:
    """True if activation checkpointing lies between here and an enclosing module call.

    Args:
        boundaries: how many frames of ``marker`` to pass before the search ends.
        marker: name of the function through which module calls go.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and boundaries > 0:
        if frame.f_code.co_filename.endswith(_CHECKPOINT):
            return True
        boundaries -= frame.f_code.co_name == marker
        frame = frame.f_back
    return False

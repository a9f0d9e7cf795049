"""``metrics.jsonl``, and TensorBoard beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fxbio.errors import ConfigError
from fxbio.files.reading import open_to_append

__all__ = ["MetricsFile"]


class MetricsFile:
    """One JSON object per line, each with its ``step`` and ``kind``.

    Args:
        path: the file.
        step: that it goes on after; TensorBoard leaves out what it has of later ones.
        tensorboard: folder for TensorBoard, if it is wanted.

    Raises:
        ConfigError: when TensorBoard is wanted and not installed.
    """

    def __init__(self, path: Path, step: int = 0, tensorboard: Path | None = None) -> None:
        self._board = _summary_writer(tensorboard, step) if tensorboard else None
        self._file = open_to_append(path)

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Append a line: ``train`` or ``eval``."""
        rounded = {key: float(f"{value:.7g}") for key, value in values.items()}
        self._file.write(json.dumps({"kind": kind, "step": step, **rounded}) + "\n")
        if self._board is not None:
            for key, value in values.items():
                self._board.add_scalar(f"{kind}/{key}", value, step)

    def close(self) -> None:
        """Write what is still in memory."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def _summary_writer(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "log.tensorboard needs a package that is not installed",
            help="pip install 'fxbio[tensorboard]', or leave it out: metrics.jsonl has the same "
            "numbers",
        ) from error
    return SummaryWriter(folder, purge_step=step + 1)

"""Autocast and loss scaling."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch.amp import GradScaler

__all__ = ["Precision"]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """Precision of the forward pass, and of the loss, which may be scaled."""

    name: Literal["fp32", "bf16", "fp16"]
    device: torch.device

    def autocast(self) -> AbstractContextManager[object]:
        """For the forward pass."""
        if self.name == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=_DTYPES[self.name])

    def scaler(self) -> GradScaler:
        """Scales the loss in fp16, and does nothing otherwise."""
        return GradScaler(self.device.type, enabled=self.name == "fp16")

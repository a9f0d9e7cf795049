"""A moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["Average"]


class Average:
    """``A ← d·A + (1 − d)·W`` after each step, with ``d = min(decay, (1 + n) / (10 + n))``.

    Parameters are averaged; buffers are taken from the model as they are, for batch statistics
    are averages already and fixed feedback must not be mixed.

    Args:
        model: whose parameters are averaged.
        decay: the largest ``d``; it is smaller in the first steps ``n``.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._names = [name for name, _ in model.named_parameters()]
        self._weights = list(model.parameters())
        self._average = [weight.detach().clone() for weight in self._weights]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self._average, list(self._weights), 1.0 - decay)
        self.updates += 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averaged weights inside."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for number, weight in enumerate(self._weights):
            weight.data, self._average[number] = self._average[number], weight.data

    def state_dict(self) -> dict[str, object]:
        """The averages by the names of their parameters."""
        weights = dict(zip(self._names, self._average, strict=True))
        return {"updates": self.updates, "weights": weights}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, object]) -> None:
        """Go on from saved averages."""
        self.updates = int(state["updates"])  # type: ignore[call-overload]
        saved: dict[str, Tensor] = state["weights"]  # type: ignore[assignment]
        for name, average in zip(self._names, self._average, strict=True):
            average.copy_(saved[name])

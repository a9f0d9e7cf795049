"""Target of one block: its inverse, and the way errors meet it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fxbio.ops.add_loss import add_loss
from fxbio.rules.target_propagation import DifferenceReconstruction, TargetRule
from fxbio.target_propagation.auxiliary import AuxiliaryUnits
from fxbio.target_propagation.difference import difference, relay, samples_of, scale_error
from fxbio.target_propagation.losses import LOSSES
from fxbio.target_propagation.phase import Phase

__all__ = ["BlockTarget"]

Map = Callable[[Tensor], Tensor]


class BlockTarget(nn.Module):
    """The inverse of a block, its loss, and the error that it sends below.

    It holds parameters and plain values only, so it can be copied, pickled, moved and saved as any
    module. Whoever runs the block does::

        h = block(x.detach() if target.cuts else x)
        h = target.connect(h, x, block)
    """

    phase: Phase = "both"
    """Which weights learn, see ``fxbio.target_propagation.phase``."""
    sites: tuple[str, ...] = ()
    """Names of the sites of the block."""
    decided_by: str = ""
    """The line of the policy, for messages."""

    def __init__(
        self,
        name: str,
        rule: TargetRule,
        inverse: nn.Module | None,
        *,
        softmax: bool = False,
        auxiliary: AuxiliaryUnits | None = None,
        factor: float = 1.0,
    ) -> None:
        """Put the parts together.

        Args:
            name: of the block, for messages.
            rule: its rule.
            inverse: from what stands for the output to the shape of the input; ``None`` where the
                error passes by backprop, in the first block of a model and in an output layer that
                learns by backprop.
            softmax: whether ``softmax(h)`` stands for the output h.
            auxiliary: features of the input that are joined to the output.
            factor: of the error that enters at the output.
        """
        super().__init__()
        self.name, self.rule = name, rule
        self.inverse, self.auxiliary = inverse, auxiliary
        self.softmax, self.factor = softmax, factor
        self._optimizer: torch.optim.Optimizer | None = None

    @property
    def cuts(self) -> bool:
        """True if the block is to be run on ``x.detach()``."""
        return self.inverse is not None

    @property
    def learns_in_backward(self) -> bool:
        """True if the inverse learns in the backward pass of the model, and in this phase."""
        own = self.inverse is not None and self.rule.iterations == 0
        return own and self.training and self.phase != "forward"

    def connect(self, h: Tensor, x: Tensor, block: Map) -> Tensor:
        """``h``, bitwise, with the errors and losses of the rule behind it.

        Args:
            h: (N, …), what the block returned.
            x: (N, …), its input as it came in, not detached.
            block: runs the block again, on a noisy input. It must leave no trace: statistics of
                batch normalisation are not to be counted twice.

        Raises:
            UnreachableWeightError: under ``torch.export`` and ``torch.fx``.
        """
        if not torch.is_grad_enabled():
            return h
        out = self._send(h, x)
        if self.learns_in_backward:
            out = add_loss(out, self.loss(block, x, h))
        return out if self.factor == 1.0 else scale_error(out, self.factor)

    def _send(self, h: Tensor, x: Tensor) -> Tensor:
        if self.phase == "inverse":
            return relay(h, x)
        if self.inverse is None:
            return h
        return difference(
            h,
            x,
            self.inverse,
            samples=samples_of(h, self.rule.reduction),
            softmax=self.softmax,
            auxiliary=None if self.auxiliary is None else self.auxiliary(x.detach()),
            corrected=self.rule.corrected,
        )

    def loss(self, block: Map, x: Tensor, h: Tensor) -> Tensor:
        """Loss of the inverse: the sum over units, the mean over the batch.

        Args:
            block: f, as for ``connect``.
            x: (N, …), its input.
            h: (N, …), its output for that input.

        Returns:
            A scalar that depends on the parameters of the inverse alone.
        """
        x, seen = x.detach(), self.seen(h.detach(), x.detach())

        def forward(noisy: Tensor) -> Tensor:
            return self.seen(block(noisy), noisy)

        return LOSSES[self.rule.loss](forward, self.back, x, seen, self.rule.sigma)

    def seen(self, h: Tensor, x: Tensor) -> Tensor:
        """Input of the inverse for an output: ``h``, ``softmax(h)``, or ``[softmax(h), z]``."""
        seen = h.softmax(-1) if self.softmax else h
        return seen if self.auxiliary is None else torch.cat([seen, self.auxiliary(x)], -1)

    def back(self, seen: Tensor) -> Tensor:
        """The inverse of what ``seen`` gives."""
        assert self.inverse is not None
        result: Tensor = self.inverse(seen)
        return result

    def feedback_optimizer(self) -> torch.optim.Optimizer | None:
        """Of the inverse, where it is trained in steps of its own; kept from batch to batch."""
        rule = self.rule
        if self.inverse is None or not isinstance(rule, DifferenceReconstruction):
            return None
        if rule.iterations and self._optimizer is None:
            parameters = self.inverse.parameters()
            lr, momentum = rule.feedback_lr, rule.feedback_momentum
            self._optimizer = torch.optim.SGD(parameters, lr=lr, momentum=momentum)
        return self._optimizer

    def get_extra_state(self) -> dict[str, Any]:
        """Momentum of the inverse's own steps, for checkpoints."""
        return {} if self._optimizer is None else self._optimizer.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Put back what ``get_extra_state`` gave."""
        optimizer = self.feedback_optimizer() if state else None
        if optimizer is not None:
            optimizer.load_state_dict(copy.deepcopy(state))  # torch would share the momentum

    def extra_repr(self) -> str:
        """Its rule."""
        return f"{self.name}, {self.rule}"

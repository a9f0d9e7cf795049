"""Training inverses by themselves, and switching what learns, on a transformed model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from fxbio.errors import ModelError
from fxbio.runtime.binding import ModuleBinding
from fxbio.runtime.module_state import binding_of
from fxbio.runtime.target_forward import TargetForward
from fxbio.runtime.target_scope import RunningBlock, TargetScope, run_again
from fxbio.target_propagation.block_target import BlockTarget
from fxbio.target_propagation.phase import Phase
from fxbio.target_propagation.phase import set_phase as set_phase_of
from fxbio.target_propagation.stateless_norms import StatelessNorms
from fxbio.target_propagation.train_feedback import FeedbackBlock
from fxbio.target_propagation.train_feedback import train_feedback as train_blocks
from fxbio.wrappers import unwrapped

__all__ = ["set_phase", "train_feedback"]


def train_feedback(model: nn.Module, *args: Any, **kwargs: Any) -> dict[str, float]:
    """Train the inverses of rules with ``iterations`` on one batch; call it before each step.

    ``fxbio.train_feedback(model, images)`` runs the model forward once, and then as many steps on
    each inverse as its rule says (Ernoult et al. 2022, algorithm 1). Statistics of batch norms and
    gradients of the model are left alone. Under DDP every rank calls it with its own batch; the
    gradients of the inverses are averaged, so they stay the same everywhere.

    Args:
        model: a transformed model, or one wrapped in DDP.
        *args: inputs of its forward.
        **kwargs: likewise.

    Returns:
        The last loss of each inverse that was trained, by the name of its block.

    Raises:
        ModelError: when no rule of the model trains inverses in steps of their own.
    """
    model = unwrapped(model)
    stepwise = [target for target in _targets(model) if target.rule.iterations]
    if not stepwise:
        raise ModelError(
            "no inverse of this model is trained in steps of its own",
            help="rules drl and l-drl are, with {iterations: 20}; others learn in each backward",
        )
    blocks, activations = _observed(model, args, kwargs)
    names = [block.target.name for block in blocks if block.optimizer is not None]
    return dict(zip(names, train_blocks(blocks, activations), strict=True))


def set_phase(model: nn.Module, phase: Phase) -> None:
    """Have the blocks of a model learn from targets, or their inverses, or both.

    Alternating training (Bartunov et al. 2018) switches between ``inverse`` and ``forward`` from
    epoch to epoch; parallel training stays with ``both``. What does not learn gets no gradient, so
    optimizers pass it by; DDP then needs ``find_unused_parameters=True``.

    Args:
        model: a transformed model.
        phase: ``forward``, ``inverse`` or ``both``.

    Raises:
        ModelError: when nothing in the model learns from targets.
        RuleError: for another word.
    """
    targets = _targets(model)
    if not targets:
        raise ModelError(
            "no block of this model learns from targets, so there are no phases",
            help="they belong to rules of target propagation: fxbio rules",
        )
    set_phase_of(targets, phase)


def _targets(model: nn.Module) -> list[BlockTarget]:
    return [module for module in model.modules() if isinstance(module, BlockTarget)]


class _Observer(TargetScope):
    """Keeps every block that runs, and cuts between them."""

    def __init__(self, model: nn.Module, binding: ModuleBinding) -> None:
        assert binding.targets is not None
        super().__init__(model, binding.targets)
        self.blocks: list[FeedbackBlock] = []
        self.activations: list[Tensor] = []

    def _close(self, h: Tensor) -> Tensor:
        running = self._running
        assert running is not None
        self._running = None
        if not self.activations:
            self.activations.append(running.x.detach())
        self.activations.append(h.detach())
        self.blocks.append(self._feedback_block(running, h))
        return h.detach()

    def _feedback_block(self, running: RunningBlock, h: Tensor) -> FeedbackBlock:
        target = running.target

        def run(x: Tensor) -> Tensor:
            return run_again(self._model, running, h, x)

        return FeedbackBlock(run, target, target.feedback_optimizer())


def _observed(model: nn.Module, args: Any, kwargs: Any) -> tuple[list[FeedbackBlock], list[Tensor]]:
    scope = _Observer(model, binding_of(model))
    # Marks are made only where gradients are, and the scope that sends targets is not entered.
    forward = super(TargetForward, model).forward  # type: ignore[misc]
    with torch.enable_grad(), StatelessNorms(), scope:
        out = forward(*args, **kwargs)
    for tensor in tree_leaves(out):
        if isinstance(tensor, Tensor):
            scope.finish(tensor)
    return scope.blocks, scope.activations

"""What a transformed model must survive. A new survival is one function in ``SURVIVALS``.

Each takes a combination, does to its transformed model what a user might, and returns one forward
and backward pass of what comes out.
"""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import fxbio
from tests.battery.harness import Outcome, Subject, loss_of, measure, policy_of

__all__ = ["SURVIVALS"]


def _measured(model: nn.Module, subject: Subject) -> Outcome:
    return measure(model, model, subject.case.example())


def nothing(subject: Subject) -> Outcome:
    """The model as ``transform`` returns it, in place."""
    case = subject.case
    policy = policy_of(subject.rule)
    return _measured(
        fxbio.transform(case.build(), policy, (case.example(2),), inplace=True), subject
    )


def deep_copy(subject: Subject) -> Outcome:
    """``copy.deepcopy``, with the original gone astray meanwhile."""
    model = subject.transformed()
    copied = copy.deepcopy(model)
    _spoil(model)
    with torch.no_grad():
        for buffer in model.buffers():
            buffer.zero_()
    return _measured(copied, subject)


def pickled(subject: Subject) -> Outcome:
    """``pickle`` there and back."""
    return _measured(pickle.loads(pickle.dumps(subject.transformed())), subject)


def saved_whole(subject: Subject) -> Outcome:
    """``torch.save`` of the module and ``torch.load(weights_only=False)``."""
    file = io.BytesIO()
    torch.save(subject.transformed(), file)
    file.seek(0)
    return _measured(torch.load(file, weights_only=False), subject)


def stock_checkpoint(subject: Subject) -> Outcome:
    """A strict load of a stock checkpoint, after the weights were lost."""
    model = subject.transformed()
    stock = subject.case.build().state_dict()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(0.5 if name in stock else 1.0)  # learned feedback is not in it
    model.load_state_dict(stock, strict=True)
    return _measured(model, subject)


def checkpoint_for_stock(subject: Subject) -> Outcome:
    """A checkpoint of the transformed model loads strictly into a stock one and back."""
    model, stock = subject.transformed(), subject.case.build()
    _spoil(stock)
    stock.load_state_dict(model.state_dict(), strict=True)
    _spoil(model)
    model.load_state_dict(stock.state_dict(), strict=True)
    return _measured(model, subject)


def retraced(subject: Subject) -> Outcome:
    """``torch.fx.symbolic_trace`` of the model, and a clean-up of the graph."""
    traced = torch.fx.symbolic_trace(subject.transformed())
    traced.graph.eliminate_dead_code()
    traced.recompile()
    return _measured(traced, subject)


def checkpointed(subject: Subject, *, reentrant: bool) -> Outcome:
    """The body under activation checkpointing."""
    model = subject.transformed()

    def run(x: Tensor) -> Tensor:
        result: Tensor = checkpoint(model.body, x * model.gain, use_reentrant=reentrant)
        return result

    return measure(run, model, subject.case.example())


def checkpointed_reentrant(subject: Subject) -> Outcome:
    """Activation checkpointing with ``use_reentrant=True``."""
    return checkpointed(subject, reentrant=True)


def checkpointed_saved_hooks(subject: Subject) -> Outcome:
    """Activation checkpointing with ``use_reentrant=False``."""
    return checkpointed(subject, reentrant=False)


def modes_switched(subject: Subject) -> Outcome:
    """Evaluation, also without gradients, and back."""
    model, x = subject.transformed(), subject.case.example()
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(model(x), subject.stock.output)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), subject.stock.output)
    evaluated = measure(model, model, x)
    evaluated.check_gradients(subject.expected)
    return _measured(model.train(), subject)


def other_batch_size(subject: Subject) -> Outcome:
    """Batches of one and of seven first; the plan was made with two."""
    model = subject.transformed()
    for size in (1, 7):
        model(subject.case.example(size))
    return _measured(model, subject)


def accumulated(subject: Subject) -> Outcome:
    """Two half batches, one backward pass each."""
    model, whole = subject.transformed(), subject.case.example()
    halves = [half.clone().requires_grad_() for half in whole.chunk(2)]
    outputs = []
    for half in halves:
        outputs.append(model(half))
        (loss_of(outputs[-1]) / 2).backward()
    parts = [half.grad for half in halves]
    below = None if parts[0] is None else torch.cat([p for p in parts if p is not None])
    gradients = {name: p.grad for name, p in model.named_parameters()} | {"input": below}
    # A matrix product may round differently in another batch, so the whole is compared by itself.
    torch.testing.assert_close(torch.cat(outputs), subject.stock.output)
    return Outcome(subject.stock.output, gradients)


def transformed_copy(subject: Subject) -> Outcome:
    """``inplace=False``, which is the default, leaves the original under backprop."""
    stock = subject.case.build()
    model = fxbio.transform(stock, policy_of(subject.rule), (subject.case.example(2),))
    measure(stock, stock, subject.case.example()).check_gradients(subject.stock)
    return _measured(model, subject)


def functional_call(subject: Subject) -> Outcome:
    """``torch.func.functional_call`` with the parameters handed in."""
    model, x = subject.transformed(), subject.case.example().requires_grad_()
    given = {
        name: p.detach().clone().requires_grad_(p.requires_grad)
        for name, p in model.named_parameters()
    }
    _spoil(model)
    output = torch.func.functional_call(model, given, (x,))
    loss_of(output).backward()
    assert all(p.grad is None for p in model.parameters())
    return Outcome(output.detach(), {n: p.grad for n, p in given.items()} | {"input": x.grad})


def _spoil(model: nn.Module) -> None:
    """Make every parameter useless."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.25)


SURVIVALS: dict[str, Callable[[Subject], Outcome]] = {
    "nothing": nothing,
    "inplace=False": transformed_copy,
    "deepcopy": deep_copy,
    "pickle": pickled,
    "torch.save": saved_whole,
    "stock-checkpoint": stock_checkpoint,
    "checkpoint-for-stock": checkpoint_for_stock,
    "symbolic_trace": retraced,
    "checkpoint-reentrant": checkpointed_reentrant,
    "checkpoint-non-reentrant": checkpointed_saved_hooks,
    "train-eval": modes_switched,
    "batch-size": other_batch_size,
    "accumulation": accumulated,
    "functional_call": functional_call,
}
"""Everything that needs no compiler; the others are in ``compiled.py``."""

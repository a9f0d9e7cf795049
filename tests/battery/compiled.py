"""The survivals that need a compiler of torch. They may reorder sums, so outputs are compared by
value and not by bit.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import torch

from tests.battery.harness import Outcome, Subject, combinations, measure
from tests.battery.rules import RULES

__all__ = ["COMPILED", "FEW", "exported_and_saved", "inductor", "worth_compiling"]


def exported(subject: Subject, *, strict: bool) -> Outcome:
    """``torch.export`` and the module that comes out of it."""
    model, x = subject.transformed(), subject.case.example()
    program = torch.export.export(model, (x,), strict=strict).module()
    return measure(program, program, x)


def exported_strict(subject: Subject) -> Outcome:
    """``torch.export(strict=True)``."""
    return exported(subject, strict=True)


def exported_non_strict(subject: Subject) -> Outcome:
    """``torch.export(strict=False)``."""
    return exported(subject, strict=False)


def exported_and_saved(subject: Subject) -> Outcome:
    """``torch.export.save`` and ``torch.export.load``."""
    file = io.BytesIO()
    x = subject.case.example()
    torch.export.save(torch.export.export(subject.transformed(), (x,)), file)
    file.seek(0)
    program = torch.export.load(file).module()
    return measure(program, program, x)


def compiled(subject: Subject, *, backend: str) -> Outcome:
    """``torch.compile(fullgraph=True)``."""
    model = subject.transformed()
    run = torch.compile(model, fullgraph=True, backend=backend)
    return measure(run, model, subject.case.example())


def aot_eager(subject: Subject) -> Outcome:
    """The joint graph of forward and backward, run op by op."""
    return compiled(subject, backend="aot_eager")


def inductor(subject: Subject) -> Outcome:
    """The default compiler."""
    return compiled(subject, backend="inductor")


COMPILED: dict[str, Callable[[Subject], Outcome]] = {
    "export-strict": exported_strict,
    "export": exported_non_strict,
    "compile-aot_eager": aot_eager,
}

FEW = (("usf", "conv2d"), ("fa", "attention"), ("stop", "linear-3d"), ("pfa", "conv2d"))
"""Combinations for what takes seconds each."""


def worth_compiling() -> list[tuple[str, str]]:
    """All combinations but those that compile like others."""
    return [
        (rule, case)
        for rule, case in combinations()
        if case not in ("conv1d", "conv3d", "depthwise")
        and (not RULES[rule].learns or case in ("conv2d", "linear-3d", "matmul", "attention"))
    ]

"""Running passes in order, with a word about each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fxbio.errors import FxbioError, PassError
from fxbio.passes.graph_pass import Pass, PassResult, Program
from fxbio.passes.registry import make_pass
from fxbio.rules.spec import split_specs

__all__ = ["DEFAULT_PIPELINE", "Observer", "PassRun", "Pipeline"]

DEFAULT_PIPELINE = (
    "assign-rules,check-support,make-feedback,lower-feedback,route-errors,lower-broadcast,"
    "lower-local,lower-targets,bind-modules,check-witness"
)


@dataclass(frozen=True)
class PassRun:
    """One pass that has run."""

    index: int
    step: Pass
    result: PassResult
    seconds: float


Observer = Callable[[PassRun, Program], None]
"""Called after each pass, for printing and timing."""


@dataclass(frozen=True)
class Pipeline:
    """Passes in the order in which they run."""

    passes: tuple[Pass, ...]

    @classmethod
    def parse(cls, text: str) -> Pipeline:
        """A pipeline from specs separated by commas.

        Raises:
            PassError: for an unknown pass or option.
        """
        return cls(tuple(make_pass(spec) for spec in split_specs(text)))

    def __str__(self) -> str:
        return ",".join(str(step) for step in self.passes)

    def insert_after(self, name: str, *passes: Pass) -> Pipeline:
        """The pipeline with passes behind the one of that name.

        Raises:
            PassError: when it has no such pass.
        """
        for index, step in enumerate(self.passes):
            if step.name == name:
                return Pipeline((*self.passes[: index + 1], *passes, *self.passes[index + 1 :]))
        raise PassError(f"the pipeline has no pass '{name}'", notes=[f"it runs: {self}"])

    def run(self, program: Program, observers: Iterable[Observer] = ()) -> Program:
        """Run all passes on a program.

        Raises:
            FxbioError: as the pass raised it, with a note that names the pass.
            PassError: around any other exception of a pass.
        """
        for index, step in enumerate(self.passes):
            start = time.perf_counter()
            result = self._run_one(index, step, program)
            run = PassRun(index, step, result, time.perf_counter() - start)
            for observe in observers:
                observe(run, program)
        return program

    def _run_one(self, index: int, step: Pass, program: Program) -> PassResult:
        where = f"pass {index + 1} of {len(self.passes)}: {step}"
        try:
            step.requires(program)
            result = step.run(program)
            step.ensures(program)
        except FxbioError as error:
            error.add_note(where)
            raise
        except Exception as error:
            raise PassError(
                f"pass '{step.name}' failed: {type(error).__name__}: {error}",
                notes=[where],
                help="this is a defect of the pass; --debug shows where",
            ) from error
        return result

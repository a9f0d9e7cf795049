"""Messages on stderr while passes run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fxbio.cli.console import log, print_result

if TYPE_CHECKING:
    from fxbio.passes.graph_pass import Program
    from fxbio.passes.pipeline import Observer, PassRun

__all__ = ["pass_observers", "show_plan"]


def pass_observers(printing: bool, timing: bool) -> list[Observer]:
    """Functions to call after each pass."""
    return [*([print_time] if timing else []), *([graph_printer()] if printing else [])]


def show_plan(run: PassRun, program: Program) -> None:
    """The plan, as soon as there is one and before anything is changed."""
    from fxbio.policy import render_plan

    if run.step.name == "assign-rules":
        print_result(render_plan(program.planned()))


def print_time(run: PassRun, program: Program) -> None:
    """Print the time of a pass, and its report."""
    log(f"{run.seconds * 1000:10.1f} ms  {run.step}: {run.result.summary}")


def graph_printer() -> Observer:
    """Prints the graphs after each pass that changes them."""
    printed = ""

    def observe(run: PassRun, program: Program) -> None:
        nonlocal printed
        graphs = graphs_text(program)
        log(f"== after {run.step}" + (", unchanged" if graphs == printed else ""))
        if graphs != printed:
            log(graphs)
        printed = graphs

    return observe


def graphs_text(program: Program) -> str:
    """The program as it stands, island by island."""
    graphs = program.lowered.islands() or {"": program.lowered.graph}
    return "\n\n".join(f"-- {path or 'the model'}\n{graph}" for path, graph in graphs.items())

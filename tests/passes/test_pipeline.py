from __future__ import annotations

from dataclasses import dataclass

import pytest

from fxbio.errors import PassError, PolicyError
from fxbio.passes import (
    DEFAULT_PIPELINE,
    Pass,
    PassResult,
    Pipeline,
    Program,
    make_pass,
    register_pass,
)
from fxbio.passes.pipeline import PassRun
from tests.passes.program import program, run

LOG: list[str] = []


@register_pass("note")
@dataclass(frozen=True)
class Note(Pass):
    """Writes down what is called."""

    word: str = "a"
    fails: str = ""

    def _do(self, what: str) -> None:
        LOG.append(f"{what} {self.word}")
        if what == self.fails:
            raise ZeroDivisionError("division by zero")

    def requires(self, program: Program) -> None:
        self._do("requires")

    def run(self, program: Program) -> PassResult:
        self._do("run")
        return PassResult(self.word == "b", f"noted {self.word}")

    def ensures(self, program: Program) -> None:
        self._do("ensures")


@register_pass("refuse")
@dataclass(frozen=True)
class Refuse(Pass):
    """Raises an error of our own."""

    def run(self, program: Program) -> PassResult:
        raise PolicyError("no such layer")


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    LOG.clear()


TWO = Pipeline((Note("a"), Note("b")))


@pytest.mark.parametrize(
    "text", [DEFAULT_PIPELINE, "", "lower-feedback", "emit-graphs,emit-graphs"]
)
def test_pipelines_print_as_they_were_written(text: str) -> None:
    assert str(Pipeline.parse(text)) == text


def test_pipelines_of_passes_with_options_print_and_parse() -> None:
    register_pass("note")(Note)
    pipeline = Pipeline((make_pass("assign-rules"), Note("x,y"), Note("{", fails="run")))
    assert Pipeline.parse(str(pipeline)) == pipeline
    assert Pipeline.parse(" assign-rules , note{word=b}").passes[1] == Note("b")


def test_passes_are_inserted_behind_one_of_a_name() -> None:
    pipeline = Pipeline.parse("assign-rules,check-support")
    longer = pipeline.insert_after("assign-rules", Note("a"), Note("b"))
    assert [step.name for step in longer.passes] == [
        "assign-rules",
        "note",
        "note",
        "check-support",
    ]
    assert longer.insert_after("check-support", Note()).passes[-1] == Note()
    assert len(pipeline.passes) == 2
    with pytest.raises(PassError, match=r"has no pass 'bind-modules'[\s\S]*it runs: assign-rules"):
        pipeline.insert_after("bind-modules", Note())


def test_each_pass_checks_runs_and_checks_again() -> None:
    TWO.run(program())
    assert LOG == ["requires a", "run a", "ensures a", "requires b", "run b", "ensures b"]


def test_observers_are_called_after_each_pass_with_its_result() -> None:
    runs: list[PassRun] = []
    on = program()

    def first(run: PassRun, observed: Program) -> None:
        assert observed is on
        LOG.append(f"observed {run.index}")
        runs.append(run)

    assert TWO.run(on, [first, lambda run, _: LOG.append(f"again {run.index}")]) is on
    assert LOG[3:5] == ["observed 0", "again 0"]
    assert LOG[-2:] == ["observed 1", "again 1"]
    assert [run.step for run in runs] == list(TWO.passes)
    assert [run.result for run in runs] == [
        PassResult(False, "noted a"),
        PassResult(True, "noted b"),
    ]
    assert all(run.seconds >= 0 for run in runs)


@pytest.mark.parametrize("moment", ["requires", "run", "ensures"])
def test_a_foreign_exception_becomes_a_pass_error(moment: str) -> None:
    seen: list[str] = []
    pipeline = Pipeline((Note("a"), Note("b", moment), Note("c")))
    with pytest.raises(PassError, match="pass 'note' failed: ZeroDivisionError: division by zero"):
        pipeline.run(program(), [lambda run, _: seen.append(str(run.step))])
    assert len(seen) == 1
    assert LOG[-1] == f"{moment} b"


def test_the_cause_is_chained_and_the_pass_named() -> None:
    with pytest.raises(PassError) as caught:
        Pipeline((Note(), Note("b", "run"))).run(program())
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert f"pass 2 of 2: {Note('b', 'run')}" in str(caught.value)


def test_our_own_errors_pass_with_a_note() -> None:
    with pytest.raises(PolicyError) as caught:
        Pipeline((Note(), Refuse())).run(program())
    assert str(caught.value) == "no such layer"
    assert caught.value.__notes__ == ["pass 2 of 2: refuse"]


def test_a_pass_that_does_nothing_says_so() -> None:
    with pytest.raises(PassError, match=r"does not define run\(\)"):
        Pipeline((Pass(),)).run(program())


@pytest.mark.parametrize(
    ("passes", "says"),
    [
        ("check-support", "there is no plan yet"),
        ("make-feedback", "run assign-rules before"),
        ("lower-feedback", "there is no plan yet"),
        ("bind-modules", "there is no plan yet"),
        ("check-witness", "there is no plan yet"),
        ("emit-graphs", "run bind-modules before emit-graphs"),
        ("assign-rules,lower-feedback", "run make-feedback before lower-feedback"),
        ("assign-rules,bind-modules", "run lower-feedback before bind-modules"),
        ("assign-rules,make-feedback,bind-modules", "run lower-feedback before bind-modules"),
        ("assign-rules,make-feedback,lower-feedback,emit-graphs", "run bind-modules before"),
        ("assign-rules,check-witness", "run bind-modules before check-witness"),
        (f"{DEFAULT_PIPELINE},bind-modules", "bound already"),
    ],
)
def test_a_wrong_order_is_told(passes: str, says: str) -> None:
    with pytest.raises(PassError) as caught:
        run(passes, program())
    assert says in str(caught.value)
    name = passes.rpartition(",")[2]
    assert caught.value.__notes__[0].endswith(name)

"""Capture, transform and verify every model of the zoos, and print what came of it.

    python tests/sweep.py --cache sweep.jsonl --write

Models run one after the other in a process of their own, so that neither a crash nor a model that
takes too long ends the sweep. With ``--cache`` a sweep that was broken off goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Iterator
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT))  # behind the installed fxbio, which has its passes

from tests.sweeping.models import SUITES  # noqa: E402
from tests.sweeping.report import markdown, table  # noqa: E402
from tests.sweeping.study import Outcome, study  # noqa: E402

DOCUMENT = ROOT / "docs" / "coverage.md"


class Worker:
    """A process that studies models on demand and is replaced when it dies or hangs."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._context = multiprocessing.get_context("spawn")
        self._start()

    def study(self, suite: str, name: str) -> Outcome:
        """The outcome, or a row that says that there is none."""
        self._pipe.send((suite, name))
        try:
            if self._pipe.poll(self._limit):
                return Outcome(**self._pipe.recv())
            problem = f"took more than {self._limit:.0f} s"
        except EOFError:
            problem = "the process died"
        self.stop()
        self._start()
        return Outcome(suite, name, problem=problem)

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()

    def _start(self) -> None:
        self._pipe, far = self._context.Pipe()
        self._process = self._context.Process(target=serve, args=(far,), daemon=True)
        self._process.start()
        far.close()


def serve(pipe: Connection) -> None:
    """Study what is asked for until the other side hangs up."""
    import warnings

    warnings.simplefilter("ignore")  # of the zoos, about themselves
    while True:
        suite, name = pipe.recv()
        try:
            outcome = study(suite, name)
        except Exception as error:  # a row of the table, whatever it is
            outcome = Outcome(suite, name, problem=f"{type(error).__name__}: {error}"[:300])
        pipe.send(asdict(outcome))


def main() -> int:
    options = parse()
    cached = read(options.cache)
    wanted = list(chosen(options))
    worker = Worker(options.time_limit)
    outcomes = []
    for index, (suite, name) in enumerate(wanted, start=1):
        outcome = cached.get((suite, name)) or worker.study(suite, name)
        if (suite, name) not in cached and options.cache:
            with options.cache.open("a") as cache:
                cache.write(json.dumps(asdict(outcome)) + "\n")
        outcomes.append(outcome)
        verdict = outcome.problem or "ok"
        print(
            f"{index}/{len(wanted)} {suite}/{name} {outcome.seconds} s: {verdict}", file=sys.stderr
        )
    worker.stop()
    print(table(outcomes))
    if options.write:
        DOCUMENT.parent.mkdir(exist_ok=True)
        DOCUMENT.write_text(markdown(outcomes))
    return int(any(outcome.problem or outcome.missing for outcome in outcomes))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--suite", action="append", choices=SUITES, help="may be repeated")
    parser.add_argument("--only", action="append", metavar="NAME", help="may be repeated")
    parser.add_argument("--limit", type=int, help="models of each suite")
    parser.add_argument("--cache", type=Path, help="JSON lines of what is done already")
    parser.add_argument("--time-limit", type=float, default=300.0, help="seconds for one model")
    parser.add_argument("--write", action="store_true", help=f"write {DOCUMENT.relative_to(ROOT)}")
    return parser.parse_args()


def chosen(options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    for suite in options.suite or SUITES:
        names = SUITES[suite].names()
        names = [n for n in names if n in options.only] if options.only else names
        yield from ((suite, name) for name in names[: options.limit])


def read(cache: Path | None) -> dict[tuple[str, str], Outcome]:
    if cache is None or not cache.exists():
        return {}
    outcomes = [Outcome(**json.loads(line)) for line in cache.read_text().splitlines()]
    return {(outcome.suite, outcome.name): outcome for outcome in outcomes}


if __name__ == "__main__":
    sys.exit(main())

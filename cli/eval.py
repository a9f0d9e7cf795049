"""``fxbio eval``: evaluate a run."""

from __future__ import annotations

from pathlib import Path

import click

from fxbio.cli.console import log, print_json
from fxbio.cli.main import EXIT_CODES
from fxbio.cli.options import json_option

__all__ = ["command"]

_KEPT = ("best", "last")


@click.command("eval", short_help="Evaluate a run.", epilog=EXIT_CODES)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("overrides", metavar="[KEY=VALUE]...", nargs=-1)
@click.option(
    "--checkpoint",
    default="best",
    show_default=True,
    metavar="best|last|FILE",
    help="Which of its checkpoints.",
)
@json_option
def command(run: Path, overrides: tuple[str, ...], checkpoint: str, as_json: bool) -> None:
    """Evaluate a run on its validation set, every sample once. RUN is what `fxbio train` wrote.

    Under torchrun the samples are divided among the processes.

    \b
    Examples:
      fxbio eval runs/digits
      fxbio eval runs/xiao-resnet18 --checkpoint last data.path=/elsewhere/imagenet --json
    """
    from fxbio.train.engine.evaluate_run import evaluate_run
    from fxbio.train.output.view import metrics_text

    result = evaluate_run(run, _file(run, checkpoint), overrides)
    if not result.first:
        return
    for note in result.evaluation.notes:
        log(f"note: {note}")
    if as_json:
        print_json({"step": result.step, **result.evaluation.metrics})
    else:
        click.echo(f"step {result.step}: {metrics_text(result.evaluation.metrics)}")


def _file(run: Path, checkpoint: str) -> Path:
    """The checkpoint of a word, or the file itself."""
    from fxbio.errors import ConfigError

    if checkpoint in _KEPT:
        return run / "checkpoints" / f"{checkpoint}.pt"
    if not Path(checkpoint).is_file():
        raise ConfigError(
            f"there is no checkpoint '{checkpoint}'",
            notes=[
                f"allowed: {', '.join(_KEPT)}, or a file, for instance of {run / 'checkpoints'}"
            ],
        )
    return Path(checkpoint)

"""``fxbio eval``: evaluate a run."""

from __future__ import annotations

from pathlib import Path

import click

from fxbio.cli.console import log, print_json
from fxbio.cli.main import EXIT_CODES
from fxbio.cli.options import NamedPath, json_option, trust_option

__all__ = ["command"]

_KEPT = ("best", "last")


@click.command("eval", short_help="Evaluate a run.", epilog=EXIT_CODES)
@click.argument("run", type=NamedPath(path_type=Path))
@click.argument("overrides", metavar="[KEY=VALUE]...", nargs=-1)
@click.option(
    "--checkpoint",
    default="best",
    show_default=True,
    metavar="best|last|FILE",
    help="Which of its checkpoints.",
)
@click.option(
    "--predictions",
    type=NamedPath(dir_okay=False, path_type=Path),
    help="Write the boxes of a detector to this file, as COCO's servers take them.",
)
@trust_option
@json_option
def command(
    run: Path,
    overrides: tuple[str, ...],
    checkpoint: str,
    predictions: Path | None,
    trust: bool,
    as_json: bool,
) -> None:
    """Evaluate a run on its validation set, every sample once. RUN is what `fxbio train` wrote.

    Under torchrun the samples are divided among the processes.

    \b
    Examples:
      fxbio eval runs/digits
      fxbio eval runs/xiao-resnet18 --checkpoint last data.path=/elsewhere/imagenet --json
      fxbio eval runs/xiao-retinanet --predictions boxes.json
    """
    from fxbio.train.engine.evaluate_run import evaluate_run
    from fxbio.train.output.progress import metrics_text

    file = _file(run, checkpoint)
    result = evaluate_run(run, file, overrides, predictions=predictions, trust=trust)
    if not result.first:
        return
    for note in result.evaluation.notes:
        log(f"note: {note}")
    if as_json:
        print_json({"checkpoint": str(file), "step": result.step, **result.evaluation.metrics})
    else:
        click.echo(f"{file}, step {result.step}: {metrics_text(result.evaluation.metrics)}")


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

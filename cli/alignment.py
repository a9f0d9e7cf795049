"""``fxbio alignment``: how close the rules of a model come to backprop, site by site."""

from __future__ import annotations

from pathlib import Path

import click

from fxbio.cli.console import print_json, print_result
from fxbio.cli.main import EXIT_CODES
from fxbio.cli.options import MODEL_HELP, ModelRequest, json_option, model_options
from fxbio.cli.subject_options import load_subject, own_policy_option

__all__ = ["command"]


@click.command(
    "alignment",
    short_help="Compare each site's errors and gradients with backprop's.",
    epilog=f"{MODEL_HELP}\n\n{EXIT_CODES}",
)
@model_options(folders=True)
@own_policy_option
@json_option
def command(request: ModelRequest, policy_file: Path | None, as_json: bool) -> None:
    """Compare each site with backprop on one batch: weights, errors sent below, and gradients.

    FOLDER is what `fxbio transform` wrote; a MODEL needs --policy. The loss is one that reaches
    every output; for your own data and loss use fxbio.alignment in Python, or a training run.

    \b
    Examples:
      fxbio alignment resnet18-ss/
      fxbio alignment torchvision:resnet18 --policy fa.yaml --input 8x3x64x64
    """
    import fxbio

    if policy_file is None and not Path(request.reference).is_dir():
        raise click.UsageError(
            "a model needs --policy; without it, give the folder that 'fxbio transform' wrote"
        )
    model, inputs = load_subject(request, policy_file)
    alignment = fxbio.alignment(model, inputs)
    if as_json:
        print_json(alignment.to_dict())
    else:
        print_result(alignment.render())

"""``fxbio audit``: what the backward pass of a training step reads of the forward weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fxbio.cli.console import print_json, print_result
from fxbio.cli.main import EXIT_CODES
from fxbio.cli.options import MODEL_HELP, ModelRequest, json_option, model_options
from fxbio.cli.subject import load_subject, own_policy_option

if TYPE_CHECKING:
    from fxbio.study.auditing.report import FailLevel

__all__ = ["command"]


@click.command(
    "audit",
    short_help="List the forward weights that the backward pass reads.",
    epilog=f"{MODEL_HELP}\n\n{EXIT_CODES}",
)
@model_options("FOLDER|MODEL")
@own_policy_option
@click.option(
    "--fail-on",
    type=click.Choice(["full", "sign", "magnitude"]),
    help="Exit 1 if weights are transported; with sign also if signs are; with magnitude also if "
    "magnitudes or the scales of norms are.",
)
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    request: ModelRequest,
    policy_file: Path | None,
    fail_on: FailLevel | None,
    as_json: bool,
) -> None:
    """List what the backward pass of one training step reads of the forward weights.

    The step is recorded at the level of aten operations, so hooks and backward formulas of your
    own are seen too. FOLDER is what `fxbio transform` wrote; a MODEL without --policy is audited
    as it is.

    \b
    Examples:
      fxbio audit resnet18-ss/
      fxbio audit torchvision:resnet18 --policy fa.yaml --fail-on full
    """
    import fxbio

    model, inputs = load_subject(request, policy_file)
    audit = fxbio.audit(model, inputs)
    if as_json:
        print_json(audit.to_dict())
    else:
        print_result(audit.render())
    failing = audit.failing(fail_on) if fail_on is not None else ()
    if failing:
        ctx.exit(1)

"""``fxbio verify``: every site of a transformed model against the oracle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fxbio.cli.console import print_json, print_result
from fxbio.cli.main import EXIT_CODES
from fxbio.cli.options import MODEL_HELP, ModelRequest, json_option, model_options
from fxbio.cli.subject_options import load_subject, own_policy_option

if TYPE_CHECKING:
    from torch import nn

    from fxbio.models.inputs import ExampleInputs

__all__ = ["command"]


@click.command(
    "verify",
    short_help="Compare every site with plain autograd.",
    epilog=f"{MODEL_HELP}\n\n{EXIT_CODES}",
)
@model_options(folders=True)
@own_policy_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, request: ModelRequest, policy_file: Path | None, as_json: bool
) -> None:
    """Compare every site with plain autograd: outputs, gradients, and that the rule is there.

    FOLDER is what `fxbio transform` wrote. A rule that silently is backprop fails. Exits 1 when
    a site fails.

    \b
    Examples:
      fxbio verify resnet18-ss/
      fxbio verify torchvision:resnet18 --policy ss.yaml
    """
    import fxbio

    model, inputs = _transformed(request, policy_file)
    verification = fxbio.verify(model, inputs)
    if as_json:
        print_json(verification.to_dict())
    else:
        print_result(verification.render())
    if not verification.ok:
        ctx.exit(1)


def _transformed(
    request: ModelRequest, policy_file: Path | None
) -> tuple[nn.Module, ExampleInputs | None]:
    if policy_file is None and not Path(request.reference).is_dir():
        raise click.UsageError(
            "a model needs --policy; without it, give the folder that 'fxbio transform' wrote"
        )
    return load_subject(request, policy_file)

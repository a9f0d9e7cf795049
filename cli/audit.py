"""``fxbio audit``: what the backward pass of a training step reads of the forward weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fxbio.cli.console import print_json, print_result
from fxbio.cli.main import EXIT_CODES
from fxbio.cli.options import MODEL_HELP, ModelRequest, json_option, model_options
from fxbio.cli.subject_options import load_subject, own_policy_option

if TYPE_CHECKING:
    from fxbio.analysis.audit_report import AuditRow, FailLevel

__all__ = ["command"]

_NAMED = 5
"""An error names so many weights, and counts the others."""


@click.command(
    "audit",
    short_help="List the forward weights that the backward pass reads.",
    epilog=f"{MODEL_HELP}\n\n{EXIT_CODES}",
)
@model_options(folders=True)
@own_policy_option
@click.option(
    "--fail-on",
    type=click.Choice(["full", "sign", "magnitude"]),
    help="Exit 1 if weights are transported, or copies of them that training refreshes; with sign "
    "also if signs are; with magnitude also if magnitudes or the scales of norms are.",
)
@json_option
def command(
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
    from fxbio.errors import VerificationError

    model, inputs = load_subject(request, policy_file)
    audit = fxbio.audit(model, inputs)
    if as_json:
        print_json(audit.to_dict())
    else:
        print_result(audit.render())
    if fail_on is not None and (failing := audit.failing(fail_on)):
        many = "weight is" if len(failing) == 1 else "weights are"
        raise VerificationError(
            f"{len(failing)} {many} transported, and --fail-on {fail_on} lets none pass",
            notes=_reasons(failing),
        )


def _reasons(rows: tuple[AuditRow, ...]) -> list[str]:
    """One line for each weight, and for many a count of the rest."""
    lines = [", ".join(filter(None, (r.site, r.transport, r.rule, r.decided_by))) for r in rows]
    more = [f"and {len(lines) - _NAMED} more"] if len(lines) > _NAMED else []
    return [*lines[:_NAMED], *more]

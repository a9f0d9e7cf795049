"""``fxbio transform``: rewrite the backward path of a model, verify it, and write it down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fxbio.cli.console import log, print_json, print_result
from fxbio.cli.main import EXIT_CODES
from fxbio.cli.observer import pass_observers, show_plan
from fxbio.cli.options import (
    MODEL_HELP,
    ModelRequest,
    NamedPath,
    json_option,
    model_options,
    policy_option,
)

if TYPE_CHECKING:
    from fxbio import Plan, Verification

__all__ = ["command"]


@click.command(
    "transform",
    short_help="Rewrite a model's backward path and write it down.",
    epilog=f"{MODEL_HELP}\n\n{EXIT_CODES}",
)
@model_options()
@policy_option
@click.option(
    "--out",
    "-o",
    "out",
    type=NamedPath(file_okay=False, path_type=Path),
    help="Folder to write.  [default: MODEL-POLICY]",
)
@click.option("--overwrite", is_flag=True, help="Replace the folder if it exists.")
@click.option("--no-verify", is_flag=True, help="Do not compare the result with the oracle.")
@click.option("--pipeline", metavar="SPEC", help="Passes to run instead of the usual ones.")
@click.option("--print-between-passes", is_flag=True, help="Print the graphs after each pass.")
@click.option("--time-passes", is_flag=True, help="Print how long each pass took.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    request: ModelRequest,
    policy_file: Path,
    out: Path | None,
    overwrite: bool,
    no_verify: bool,
    pipeline: str | None,
    print_between_passes: bool,
    time_passes: bool,
    as_json: bool,
) -> None:
    """Give each site of a model the rule that a policy says, and write the result to a folder.

    The folder has the plan, the policy, the record, the weights, and the rewritten forwards as
    readable code; `fxbio.load(folder)` builds the model from it. Either the whole folder is
    written or nothing.

    \b
    Examples:
      fxbio transform model.py --policy ss.yaml
      fxbio transform torchvision:resnet18 --policy ss.yaml -o runs/ss --overwrite
      fxbio transform model.py --policy mine.yaml --plugin my_rules.py
      fxbio transform model.py --policy ss.yaml --time-passes --print-between-passes
    """
    import fxbio
    from fxbio.passes import DEFAULT_PIPELINE
    from fxbio.saving import check_replaceable
    from fxbio.serialization.record import plan_of

    policy = fxbio.Policy.from_yaml(policy_file)
    loaded, inputs = request.load()
    folder = out or Path(f"{loaded.name}-{policy_file.stem}")
    check_replaceable(folder, overwrite)  # said before the work is done, not after it
    observers = pass_observers(print_between_passes, time_passes)
    if not as_json:
        observers = [show_plan, *observers]
    model = fxbio.transform(
        loaded.model,
        policy,
        inputs,
        inplace=True,
        pipeline=DEFAULT_PIPELINE if pipeline is None else pipeline,
        observers=observers,
    )
    verification = None if no_verify else fxbio.verify(model, inputs)
    failed = verification is not None and not verification.ok
    if not failed:
        fxbio.save(model, folder, overwrite=overwrite, source=request.source())
    if as_json:
        print_json(_as_dict(plan_of(model), verification, None if failed else folder))
    elif verification is not None:
        print_result(verification.render())
    if failed:
        log("nothing was written, for the verification failed")
        ctx.exit(1)
    _tell(folder)


def _as_dict(
    plan: Plan, verification: Verification | None, folder: Path | None
) -> dict[str, object]:
    return {
        "plan": json.loads(plan.to_json()),
        "verification": verification.to_dict() if verification else None,
        "folder": str(folder) if folder else None,
    }


def _tell(folder: Path) -> None:
    """Print the written files, and their use."""
    files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    log(f"wrote {folder}/: {', '.join(files)}")
    log(f"next: fxbio verify {folder}")
    log(f"      or in Python: model = fxbio.load({str(folder)!r})")

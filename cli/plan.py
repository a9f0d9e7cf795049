"""``fxbio plan``: what a policy would do to a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fxbio.cli.console import print_json, print_result
from fxbio.cli.main import EXIT_CODES
from fxbio.cli.options import (
    MODEL_HELP,
    ModelRequest,
    PresetPath,
    json_option,
    model_options,
    policy_option,
)

if TYPE_CHECKING:
    from fxbio.policy import PlanDiff

__all__ = ["command"]


@click.command(
    "plan",
    short_help="Show which rule each site would get, and why.",
    epilog=f"{MODEL_HELP}\n\n{EXIT_CODES}",
)
@model_options()
@policy_option
@click.option(
    "--diff",
    "other_file",
    type=PresetPath("policies", exists=True),
    help="Another policy: print only what it would do differently.",
)
@json_option
def command(
    request: ModelRequest, policy_file: Path, other_file: Path | None, as_json: bool
) -> None:
    """Show which rule each site would get, and which line of the policy says so.

    Nothing is changed or written.

    \b
    Examples:
      fxbio plan torchvision:resnet18 --policy ss.yaml
      fxbio plan model.py --policy ss.yaml --diff fa.yaml
      fxbio plan model.py --policy ss.yaml --json > plan.json
    """
    import fxbio
    from fxbio.policy import render_plan

    policy = fxbio.Policy.from_yaml(policy_file)
    loaded, inputs = request.load()
    plan = fxbio.plan(loaded.model, policy, inputs)
    if other_file is not None:
        other = fxbio.plan(loaded.model, fxbio.Policy.from_yaml(other_file), inputs)
        difference = plan.diff(other)
        if as_json:
            print_json(diff_dict(difference))
        else:
            print_result(str(difference))
    elif as_json:
        click.echo(plan.to_json())
    else:
        print_result(render_plan(plan))


def diff_dict(difference: PlanDiff) -> dict[str, object]:
    """A difference of plans as data for ``--json``."""
    return {
        "settings": list(difference.settings),
        "added": {a.site.name: a.rule for a in difference.added},
        "removed": {a.site.name: a.rule for a in difference.removed},
        "changed": {
            new.site.name: {
                "from": {"rule": old.rule, "options": old.options},
                "to": {"rule": new.rule, "options": new.options},
            }
            for old, new in difference.changed
        },
    }

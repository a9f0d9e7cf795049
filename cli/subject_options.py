"""The model that a study looks at: a folder, a model under a policy, or a model as it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fxbio.cli.options import PresetPath

if TYPE_CHECKING:
    from torch import nn

    from fxbio.cli.options import ModelRequest
    from fxbio.models.inputs import ExampleInputs

__all__ = ["load_subject", "own_policy_option"]

own_policy_option = click.option(
    "--policy",
    "-p",
    "policy_file",
    type=PresetPath("policies", exists=True),
    help="The policy of a MODEL: a YAML file, or a name that `fxbio policies` lists.",
)


def load_subject(
    request: ModelRequest, policy_file: Path | None
) -> tuple[nn.Module, ExampleInputs | None]:
    """The model and what to call it with; ``None`` for what it was transformed with."""
    import fxbio

    folder = Path(request.reference)
    if folder.is_dir():
        if policy_file is not None:
            raise click.UsageError(f"'{folder}' has its own policy: drop --policy")
        return fxbio.load(folder, trust=request.trust), request.example_inputs()
    policy = None if policy_file is None else fxbio.Policy.from_yaml(policy_file)
    loaded, inputs = request.load()
    if policy is None:
        return loaded.model, inputs
    return fxbio.transform(loaded.model, policy, inputs, inplace=True), inputs

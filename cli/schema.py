"""``fxbio schema``: what editors need to complete and check policies, recipes and studies."""

from __future__ import annotations

import click

from fxbio.cli.main import EXIT_CODES
from fxbio.cli.options import load_plugins, plugin_option

__all__ = ["command"]


@click.command("schema", short_help="Print the JSON Schema of a file.", epilog=EXIT_CODES)
@click.argument("file", type=click.Choice(["policy", "recipe", "study"]))
@plugin_option
def command(file: str, plugins: tuple[str, ...]) -> None:
    """Print the JSON Schema of policies, recipes or studies, for editors.

    Redirect it to a file, and name that in the first line of a policy:
    # yaml-language-server: $schema=policy.schema.json

    \b
    Examples:
      fxbio schema policy > policy.schema.json
      fxbio schema policy --plugin my_rules.py > policy.schema.json
    """
    from fxbio.cli.console import print_json
    from fxbio.files.json_schema import file_schema
    from fxbio.policy import Policy
    from fxbio.study.study_sections import StudyConfig
    from fxbio.train.config import Recipe

    load_plugins(plugins)
    classes: dict[str, type] = {"policy": Policy, "recipe": Recipe, "study": StudyConfig}
    print_json(file_schema(classes[file], f"fxbio {file}"))

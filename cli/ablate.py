"""``fxbio ablate``: train a model under many policies, and compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fxbio.cli.console import log, print_result
from fxbio.cli.options import NamedPath

if TYPE_CHECKING:
    from fxbio.study.cluster import ClusterName

__all__ = ["command"]

ABLATE_EXIT_CODES = """Exit codes: 0 done; 1 failed; 2 wrong usage, study, recipe, model or policy;
130 and 143 stopped by Ctrl-C or SIGTERM, after saving. Runs that fail are rows of the tables;
--retry takes them up again."""


@click.command("ablate", short_help="Train a model under many policies.", epilog=ABLATE_EXIT_CODES)
@click.argument("study_file", metavar="STUDY", type=NamedPath(path_type=Path))
@click.option(
    "--out",
    "-o",
    type=NamedPath(file_okay=False, path_type=Path),
    help="Folder of the study.  [default: studies/STUDY]",
)
@click.option(
    "--jobs",
    "-j",
    type=click.IntRange(1),
    help="Train so many at a time.  [default: 1; all with --cluster]",
)
@click.option(
    "--cluster",
    type=click.Choice(["slurm", "local"]),
    help="Submit each run as a job, which asks for what 'cluster' in the study says; local tries "
    "it out here. Needs fxbio[cluster].",
)
@click.option("--dry-run", is_flag=True, help="Tell the plan and its cost, write nothing.")
@click.option("--retry", is_flag=True, help="Train again what failed or diverged before.")
def command(
    study_file: Path,
    out: Path | None,
    jobs: int | None,
    cluster: ClusterName | None,
    dry_run: bool,
    retry: bool,
) -> None:
    """Train a model under many policies: each layer under each rule, and more.

    The folder gets a policy, a recipe and a run for each cell and seed, results.jsonl, tables,
    plots and report.html. A study that was stopped or killed goes on with the same command.

    \b
    Examples:
      fxbio ablate examples/studies/mnist5k-layers.yaml --dry-run
      fxbio ablate examples/studies/mnist5k-layers.yaml --jobs 2
      fxbio ablate study.yaml --cluster slurm --jobs 20
    """
    from fxbio.study import ablate

    folder = out or Path("studies", study_file.stem)
    results = ablate(
        study_file, folder, jobs=jobs, cluster=cluster, dry_run=dry_run, retry=retry, tell=log
    )
    if dry_run:
        return
    print_result(results.render())
    bad = sum(row.state != "done" for row in results.rows)
    if bad:
        log(f"{bad} runs failed or diverged; train them again with --retry")
    log(f"tables and report: {folder}")

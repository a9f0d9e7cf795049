"""Clusters that take jobs, as submitit knows them."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fxbio.errors import ConfigError, Location

__all__ = ["Cluster", "ClusterName", "open_cluster", "submitit"]

ClusterName = Literal["slurm", "local"]
"""``local`` is this machine, where jobs are processes."""

_DAY = 24 * 60


@dataclass(frozen=True)
class Cluster:
    """Destination of jobs, and the resources that they ask for."""

    name: ClusterName
    parameters: Mapping[str, Any]
    """Of ``submitit.AutoExecutor.update_parameters``."""
    location: Location | None = None
    """Of the parameters in the study."""

    def told(self, jobs: int | None) -> str:
        """In one line."""
        asked = ", ".join(f"{key}: {value}" for key, value in self.parameters.items())
        most = "" if jobs is None else f", at most {jobs} at a time"
        return f"jobs     each run is a job of {self.name}{most}; {asked}"

    def executor(self, folder: Path) -> Any:
        """Submitter of jobs whose files are to be in a folder.

        Raises:
            ConfigError: when submitit is not installed, the cluster is not here, or a parameter is
                wrong.
        """
        try:
            executor = submitit().AutoExecutor(folder=folder, cluster=self.name)
        except RuntimeError as error:
            raise ConfigError(f"{self.name} is not to be found here: {error}") from error
        try:
            executor.update_parameters(**self.parameters)
        except (AssertionError, NameError, TypeError, ValueError) as error:
            first, *notes = str(error).splitlines()
            raise ConfigError(
                f"submitit refuses what the study asks of the cluster: {first}",
                location=self.location,
                notes=notes,
            ) from error
        return executor


def open_cluster(
    name: ClusterName, study: str, parameters: Mapping[str, Any], location: Location | None
) -> Cluster:
    """A cluster that takes jobs.

    Args:
        name: ``local`` is this machine, where jobs are processes.
        study: what the jobs are called, unless the parameters say it.
        parameters: of the study.
        location: where it has them.

    Raises:
        ConfigError: as ``Cluster.executor``, and when a run should be several processes.
    """
    for key, value in parameters.items():
        if key.endswith(("nodes", "tasks_per_node")) and value != 1:
            raise ConfigError(
                f"'{key}' is {value}, but a run of a study is one process", location=location
            )
    cluster = Cluster(name, {"name": study, "timeout_min": _DAY, **parameters}, location)
    with tempfile.TemporaryDirectory() as folder:
        cluster.executor(Path(folder))
    return cluster


def submitit() -> Any:
    """The module.

    Raises:
        ConfigError: when it is not installed.
    """
    try:
        return importlib.import_module("submitit")
    except ImportError as error:
        raise ConfigError(
            "--cluster needs submitit, which is not installed",
            help="install it: pip install 'fxbio[cluster]'",
        ) from error

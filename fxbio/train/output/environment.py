"""``env.json``: on what a run was made."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from typing import Any

import torch
import torchvision

from fxbio._version import __version__

__all__ = ["environment"]


def environment(world_size: int) -> dict[str, Any]:
    """Versions, devices, and the commit of the working directory."""
    return {
        "fxbio": __version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processes": world_size,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "command": sys.argv,
        "git": _git(),
    }


def _git() -> dict[str, Any] | None:
    commit = _run("git", "rev-parse", "HEAD")
    if not commit:
        return None
    return {"commit": commit, "dirty": bool(_run("git", "status", "--porcelain"))}


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""

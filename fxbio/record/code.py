"""Rewritten graphs as source that people can read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torch import fx

if TYPE_CHECKING:
    from fxbio.passes.base import Program

__all__ = ["readable_code", "readable_source"]

_CLEARED = re.compile(r";  (\w+ = )+None$")
"""fx frees values as early as it can, which nobody wants to read."""


def readable_code(program: Program) -> dict[str, str]:
    """Source of every graph that holds a rewritten site, by the path of its island."""
    return {
        path: readable_source(graph, path or program.graph.name)
        for path, graph in program.rewritten.items()
        if any("rule" in node.meta for node in graph.nodes)
    }


def readable_source(graph: fx.Graph, title: str) -> str:
    """The forward that a graph stands for, each rewritten line with its rule as a comment."""
    comments = {node.name: node.meta["rule"] for node in graph.nodes if "rule" in node.meta}
    lines = [f"# {title}: {len(comments)} rewritten lines", ""]
    for line in graph.python_code("self").src.strip().splitlines():
        lines.append(_commented(_CLEARED.sub("", line.rstrip()), comments))
    return "\n".join(line for line in lines if line.strip() != "pass") + "\n"


def _commented(line: str, comments: dict[str, str]) -> str:
    name = line.strip().split(" ")[0]
    return f"{line}  # {comments[name]}" if name in comments else line

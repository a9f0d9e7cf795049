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
_ROUTED = "# Beside them {} layers get errors that leave this path; no line shows where it is cut."
_INDEXED = re.compile(r'getattr\((self[\w.\[\]]*), "(\d+)"\)')


def readable_code(program: Program) -> dict[str, str]:
    """Source of every graph that holds a rewritten site, by the path of its island."""
    return {
        path: readable_source(graph, path or program.graph.name)
        for path, graph in program.rewritten.items()
        if any("rule" in node.meta or "routed" in node.meta for node in graph.nodes)
    }


def readable_source(graph: fx.Graph, title: str) -> str:
    """The forward that a graph stands for, each rewritten line with its rule as a comment.

    It is for reading. The whole names lead from the model's root; what runs is the user's own
    forward, with the layers on the commented lines rewritten in place.
    """
    rules = {node.name: node.meta["rule"] for node in graph.nodes if "rule" in node.meta}
    routed = {node.name: node.meta["routed"] for node in graph.nodes if "routed" in node.meta}
    header = [
        f"# The forward of {title} as captured: {len(rules)} lines are rewritten.",
        "# This file is for reading; the transformed model runs its own code.",
        *([_ROUTED.format(len(routed))] if routed else []),
        "import torch",
        "",
        "from fxbio.ops import functional as ops",
        "",
        "",
    ]
    comments = rules | routed
    body = [
        _readable(line, comments) for line in graph.python_code("self").src.strip().splitlines()
    ]
    return "\n".join([*header, *(line for line in body if line.strip()), ""])


def _readable(line: str, rules: dict[str, str]) -> str:
    line = _CLEARED.sub("", line.rstrip()).replace("fxbio_ops_functional_", "ops.")
    while _INDEXED.search(line):
        line = _INDEXED.sub(r"\1[\2]", line)
    name = line.strip().split(" ")[0]
    return f"{line}  # {rules[name]}" if name in rules else line

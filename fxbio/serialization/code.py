"""Rewritten graphs as source that people can read."""

from __future__ import annotations

import re

from torch import fx

from fxbio.lowering.lowered_graph import LoweredGraph
from fxbio.ops.functional import stop

__all__ = ["readable_code", "readable_source"]

_CLEARED = re.compile(r";  (\w+ = )+None$")
"""fx frees values as early as it can, which nobody wants to read."""
_OURS = re.compile(
    r"\bfxbio_(ops_functional|rules_decoupled_greedy|target_propagation_connect_block)_"
)
"""What fx makes of the modules that our functions are in."""
_COMMENTS = {
    "unit": "an error enters: {}",
    "source": "an error is sent: that of {}",
    "block": "targets: block {}",
    "rule": "{}",
}
"""What is said of a line, by the annotation of its node."""
_INDEXED = re.compile(r'getattr\((self[\w.\[\]]*), "(\d+)"\)')


def readable_code(lowered: LoweredGraph) -> dict[str, str]:
    """Source of every island that holds a rewritten line, by its path; of the whole without one."""
    graphs = lowered.islands()
    graphs.setdefault("", lowered.graph)
    return {
        path: readable_source(graph, path or lowered.captured.name)
        for path, graph in graphs.items()
        if any(is_rewritten(node) for node in graph.nodes)
    }


def is_rewritten(node: fx.Node) -> bool:
    """True if a node is not of the captured forward pass."""
    return any(key in node.meta for key in _COMMENTS) or node.target is stop


def readable_source(graph: fx.Graph, title: str) -> str:
    """The forward that a graph stands for, each rewritten line with its rule as a comment.

    It is for reading. The whole names lead from the model's root; what runs is the user's own
    forward, with the layers on the commented lines rewritten in place.
    """
    comments = {node.name: _comment(node) for node in graph.nodes if is_rewritten(node)}
    header = [
        f"# The forward of {title} as captured: {len(comments)} lines are rewritten.",
        "# This file is for reading; the transformed model runs its own code.",
        "import torch",
        "",
        "from fxbio.ops import functional as ops",
        "",
        "",
    ]
    body = [
        _readable(line, comments) for line in graph.python_code("self").src.strip().splitlines()
    ]
    return "\n".join([*header, *(line for line in body if line.strip()), ""])


def _comment(node: fx.Node) -> str:
    for key, words in _COMMENTS.items():
        if key in node.meta:
            return words.format(node.meta[key] or "the output")
    return "cut: no error goes on from here"


def _readable(line: str, rules: dict[str, str]) -> str:
    line = _OURS.sub("ops.", _CLEARED.sub("", line.rstrip()))
    while _INDEXED.search(line):
        line = _INDEXED.sub(r"\1[\2]", line)
    name = line.strip().split(" ")[0]
    return f"{line}  # {rules[name]}" if name in rules else line

"""Islands: the parts of a recorded pass that any input of the same shapes would run alike."""

from __future__ import annotations

from torch import fx

from fxbio.graph.extract import extracted
from fxbio.graph.model_graph import Island
from fxbio.graph.trace import ModuleCall, Recording

__all__ = ["find_islands"]


def find_islands(recording: Recording) -> tuple[Island, ...]:
    """The largest modules without eager code in them, each with the graph of its first call."""
    eager = {part.path for part in recording.opaque if not part.weights}
    broken = {path for part in eager for path in _with_ancestors(part)}
    islands: dict[str, Island] = {}
    inside: set[int] = set()
    for index, call in enumerate(recording.calls):
        if call.parent in inside:
            inside.add(index)
        elif call.path not in broken:
            inside.add(index)
            islands.setdefault(call.path, Island(call.path, _cut(recording, call), index))
    return tuple(islands.values())


def _with_ancestors(path: str) -> list[str]:
    parts = path.split(".") if path else []
    return [".".join(parts[:k]) for k in range(len(parts) + 1)]


def _cut(recording: Recording, call: ModuleCall) -> fx.Graph:
    """The interval of one call as a graph; of the root all inputs are kept, used or not."""
    before = recording.nodes[: call.start] if call.parent is None else []
    inputs = [node for node in before if node.op == "placeholder"]
    return extracted(recording.nodes[call.start : call.end], call.output, inputs)

"""Modules that are the blocks of a model, and the module of each node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from torch import fx, nn

from fxbio.graph.partition import within
from fxbio.site import Site

__all__ = ["block_modules", "path_of", "with_parents"]

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def block_modules(model: nn.Module, sites: Iterable[Site]) -> tuple[str, ...]:
    """Paths of the modules that a reader would call blocks; none lies in another.

    A block holds at least two weights, another module of its class stands elsewhere in the model,
    and it is itself no stack of such modules. So a residual block, an encoder layer and an
    inverted bottleneck are blocks; a stage of them, a pyramid and a single convolution are none.
    """
    modules = dict(model.named_modules())
    paths = sorted({(site.weight, site.path) for site in sites if site.multiplies})
    weights = Counter(parent for _, path in paths for parent in with_parents(path))
    large = {
        path: type(module).__name__
        for path, module in modules.items()
        if path and weights[path] > 1 and type(module) not in _CONTAINERS
    }
    classes = Counter(large.values())
    repeated = {path: name for path, name in large.items() if classes[name] > 1}
    stacks = _stacks(modules, repeated)
    blocks = [p for p in repeated if not any(within(stack, p) for stack in stacks)]
    return tuple(p for p in blocks if not any(within(p, other) and p != other for other in blocks))


def with_parents(path: str) -> list[str]:
    """A path and those of all modules around it, the root left out."""
    parts = path.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def path_of(node: fx.Node) -> str:
    """Path of the module that a node calls or that executes it; parts of tuples have none."""
    return str(node.target) if node.op == "call_module" else str(node.meta.get("path", ""))


def _stacks(modules: dict[str, nn.Module], repeated: dict[str, str]) -> list[str]:
    """Containers with several modules of one of the repeated classes."""
    found = []
    for path, module in modules.items():
        if type(module) not in _CONTAINERS:
            continue
        children = (f"{path}.{name}" for name, _ in module.named_children())
        classes = Counter(repeated[child] for child in children if child in repeated)
        if any(count > 1 for count in classes.values()):
            found.append(path)
    return found

"""Rewritten modules under ``torch.fx.symbolic_trace``: each stays one node that calls the module.

So are the stock layers of ``torch.nn``, and a proxy would bypass both a rule and the shapes that
its operation reads.
"""

from __future__ import annotations

from typing import Any

from torch import fx
from torch.utils._pytree import tree_leaves

from fxbio.errors import UnreachableWeightError

__all__ = ["proxy_in", "record_as_leaf"]


def proxy_in(values: Any) -> fx.Proxy | None:
    """A proxy among arguments, if they are those of a trace."""
    return next((leaf for leaf in tree_leaves(values) if isinstance(leaf, fx.Proxy)), None)


def record_as_leaf(module: Any, proxy: fx.Proxy, args: Any, kwargs: Any) -> Any:
    """Record the call of a module in the trace that a proxy belongs to.

    Raises:
        UnreachableWeightError: when the module is itself the root of the trace.
    """
    tracer: Any = proxy.tracer
    path = tracer.path_of_module(module)
    if not path:
        raise UnreachableWeightError(
            f"torch.fx cannot re-trace {type(module).__name__} itself without losing its rule",
            notes=["it applies weights in its own forward, where its rule must see every call"],
            help="trace a module that contains it, or revert() it first",
        )
    return tracer.create_proxy("call_module", path, args, kwargs)

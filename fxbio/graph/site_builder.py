"""From the recorded uses of weights to sites: names, depth, attention, and what was not called."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from torch import fx, nn

from fxbio.graph.attention import attention_calls
from fxbio.graph.trace import RawUse, Recording
from fxbio.semantics.leaves import leaf_kind
from fxbio.site import MATRIX_OPS, OpKind, Site

__all__ = ["SiteBuilder"]


@dataclass
class SiteBuilder:
    """Turns the uses of one recording into sites."""

    model: nn.Module
    recording: Recording

    def __post_init__(self) -> None:
        self._modules = dict(self.model.named_modules())
        self._sizes = {name: p.numel() for name, p in self.model.named_parameters()}
        self._canonical = {id(p): name for name, p in self.model.named_parameters()}
        self._depths = node_depths(self.recording)
        self._attention = attention_calls(self.recording)

    def build(self) -> tuple[list[Site], dict[str, fx.Node], dict[str, tuple[str, ...]]]:
        """The sites in order, the node of each, and the buffers behind each."""
        totals = Counter(map(self._identity, self.recording.uses))
        seen: Counter[tuple[str, bool]] = Counter()
        names: set[str] = set()
        sites: list[Site] = []
        nodes: dict[str, fx.Node] = {}
        buffers: dict[str, tuple[str, ...]] = {}
        for use in self.recording.uses:
            identity = self._identity(use)
            site = self._site(use, identity[0], seen[identity], totals[identity], len(sites))
            site = replace(site, name=_free(site.name, names))
            seen[identity] += 1
            names.add(site.name)
            sites.append(site)
            nodes[site.name] = use.node
            use.node.meta["site"] = site.name
            use.node.meta["operand"] = None if use.operand is None else use.operand.name
            buffers[site.name] = tuple(sorted(use.constants))
        return sites + self._uncalled(sites), nodes, buffers

    def _site(self, use: RawUse, weight: str, index: int, calls: int, order: int) -> Site:
        path = self._path(use, weight)
        return Site(
            name=f"{path_and_attribute(path, weight, use.leaf)}" + (f"#{index}" if index else ""),
            path=path,
            weight=weight,
            sources=tuple(sorted(use.sources)) or (weight,),
            op=use.op,
            shape=use.shape,
            input_shape=use.input_shape,
            output_shape=use.output_shape,
            groups=use.groups,
            parameters=sum(self._sizes.get(name, 0) for name in use.sources),
            call_index=index,
            calls=calls,
            order=order,
            depth=self._depths[use.node],
            type=type(self._modules[path]).__name__,
            owner=use.owner or "",
            attention=use.call in self._attention,
            origin=use.origin,
            unreachable=use.unreachable,
            leaf=use.leaf is not None,
            summed=(-2,) if use.axes is None else use.axes[0],
            produced=(-1,) if use.axes is None else use.axes[1],
            derived=use.weight is None,
            feedback_shape=use.feedback_shape,
            of_parameters=use.of_parameters,
        )

    def _identity(self, use: RawUse) -> tuple[str, bool]:
        """Of what calls are counted: a table that is a matrix elsewhere begins anew there."""
        return self._weight_name(use), use.op == "embedding"

    def _weight_name(self, use: RawUse) -> str:
        """The parameter where it is applied as it is, else what it is mainly computed from."""
        if use.weight is not None:
            return use.weight
        if use.leaf is not None:
            return f"{use.leaf}.weight" if use.leaf else "weight"
        return max(sorted(use.sources), key=lambda name: self._sizes[name])

    def _path(self, use: RawUse, weight: str) -> str:
        if use.leaf is not None:
            return use.leaf
        path = weight.partition(".parametrizations.")[0]
        path = weight.rpartition(".")[0] if path == weight else path
        while path and isinstance(self._modules.get(path), _HOLDERS):
            path = path.rpartition(".")[0]
        return path

    def _uncalled(self, called: list[Site]) -> list[Site]:
        """Layers that this pass did not reach: experts, dropped layers, heads of another mode.

        They come with ``calls = 0``, so that a policy covers them when a later pass does.
        """
        known = {site.path for site in called} | {site.weight for site in called}
        sites: list[Site] = []
        depth = 0
        by_path = {site.path: site.depth for site in called}
        for path, module in self._modules.items():
            depth = by_path.get(path, depth)
            kind = leaf_kind(module)
            if kind is None or path in known:
                continue
            weight = module._parameters.get("weight")
            if weight is None:
                continue
            name = self._canonical[id(weight)]
            if name in known or self._is_applied_elsewhere(path, name):
                continue
            sites.append(self._idle_site(path, module, kind, name, len(called) + len(sites), depth))
        return sites

    def _is_applied_elsewhere(self, path: str, weight: str) -> bool:
        """True if opaque code applies the weight, or a parent runs the layer in its own way."""
        return any(
            weight in part.weights
            or (part.weights and part.path and path.startswith(f"{part.path}."))
            for part in self.recording.opaque
        )

    def _idle_site(
        self, path: str, module: nn.Module, kind: OpKind, weight: str, order: int, depth: int
    ) -> Site:
        parameter = module._parameters["weight"]
        assert parameter is not None
        return Site(
            name=path or weight,
            path=path,
            weight=weight,
            sources=(weight,),
            op=kind,
            shape=tuple(parameter.shape),
            input_shape=(),
            output_shape=(),
            groups=getattr(module, "groups", 1),
            parameters=parameter.numel(),
            call_index=0,
            calls=0,
            order=order,
            depth=depth,
            type=type(module).__name__,
            owner=path,
            attention=False,
            origin=None,
            feedback_shape=tuple(parameter.shape),
        )


def _free(name: str, taken: set[str]) -> str:
    """A name that no site has: a table that is a matrix in the same module takes the next."""
    base, _, number = name.partition("#")
    found, further = name, int(number or 0)
    while found in taken:
        further += 1
        found = f"{base}#{further}"
    return found


_HOLDERS = (nn.ParameterList, nn.ParameterDict)


def path_and_attribute(path: str, weight: str, leaf: str | None) -> str:
    """The path of a layer with one weight, or the weight's own name where a module has several."""
    if leaf is not None or weight == f"{path}.weight":
        return path or weight
    return weight


def node_depths(recording: Recording) -> dict[fx.Node, int]:
    """Number of layers on the longest chain to each node; norms and tables do not count."""
    counts = {use.node: int(use.op in MATRIX_OPS) for use in recording.uses}
    reached: dict[fx.Node, int] = {}
    depths: dict[fx.Node, int] = {}
    for node in recording.graph.nodes:
        depths[node] = max((reached[n] for n in node.all_input_nodes), default=0)
        reached[node] = depths[node] + counts.get(node, 0)
    for use in recording.uses:
        if use.op == "norm":
            depths[use.node] = max(0, depths[use.node] - 1)
    return depths

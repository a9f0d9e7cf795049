"""Forwards whose course depends on data, chance, or counters."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.graph.awkward import WIDTH, awkward
from tests.graph.awkward_functional import OfRows, weight


def linear() -> nn.Linear:
    return nn.Linear(WIDTH, WIDTH)


class Block(nn.Module):
    """Two layers; somewhere to put a weight into a child."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = linear(), linear()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(self.a(x).tanh())


@awkward("a linear", "b.a linear", "b.b linear", "c linear", opaque=(("", "bool"),), whole=False)
class BranchOnData(OfRows):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = linear(), Block(), linear()

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        if (h * 0).sum() == 0:
            h = self.b(h)
        return self.c(h)


@awkward(
    "router linear",
    "experts.0 linear",
    "experts.1 linear",
    "experts.2 linear",
    opaque=(("", "nonzero"),),
    whole=False,
)
class Routing(OfRows):
    """A mixture of experts; the router never chooses the last one."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(WIDTH, 3)
        self.experts = nn.ModuleList(linear() for _ in range(3))
        with torch.no_grad():
            self.router.bias.copy_(torch.tensor([0.0, 0.0, -1e6]))

    def forward(self, x: Tensor) -> Tensor:
        gates = torch.softmax(self.router(x), dim=-1)
        score, choice = gates.max(dim=-1)
        out = torch.zeros_like(x)
        for index, expert in enumerate(self.experts):
            chosen = (choice == index).nonzero().flatten()
            if len(chosen):
                out = out.index_add(0, chosen, expert(x[chosen]) * score[chosen, None])
        return out


@awkward(
    "layers.0 linear", "layers.1 linear", "layers.2 linear", opaque=(("", "item"),), whole=False
)
class LayerDrop(OfRows):
    """Skips a layer by chance; the last is always skipped."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(linear() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for layer, keep in zip(self.layers, (1.0, 1.0, 0.0), strict=True):
            if torch.rand(()).item() < keep:
                x = x + layer(x).tanh()
        return x


@awkward("a linear", "b linear", "c linear")
class PythonChance(OfRows):
    """Chance that torch does not know of; every draw leads the same way."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = linear(), linear(), linear()

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x) * (0.0 if random.random() > 2 else 1.0)
        return self.c(self.b(x.tanh()))


@awkward("a linear", "b linear", opaque=(("", "numpy"),), whole=False)
class NumpyInTheMiddle(OfRows):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = linear(), linear()

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        shift = float(h.detach().numpy().mean())
        return self.b((h + shift).tanh())


@awkward("a linear", "w matmul", opaque=(("", "numpy"),), whole=False)
class ThroughNumpy(OfRows):
    """Values that come back from numpy are data, not a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.w = linear(), weight()

    def forward(self, x: Tensor) -> Tensor:
        h = torch.from_numpy(self.a(x).detach().numpy().clip(-1, 1))
        return torch.tanh(h @ self.w)


@awkward("a linear", "block.a linear", "block.b linear", "c linear")
class CheckpointModule(OfRows):
    reentrant = False

    def __init__(self) -> None:
        super().__init__()
        self.a, self.block, self.c = linear(), Block(), linear()

    def forward(self, x: Tensor) -> Tensor:
        return self.c(checkpoint(self.block, self.a(x), use_reentrant=self.reentrant))


@awkward("a linear", "block.a linear", "block.b linear", "c linear")
class CheckpointModuleReentrant(CheckpointModule):
    reentrant = True


@awkward("a linear", "b linear", "c linear")
class CheckpointFunctionOfModules(OfRows):
    """The function calls layers, which carry their rules along."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = linear(), linear(), linear()

    def forward(self, x: Tensor) -> Tensor:
        def part(h: Tensor) -> Tensor:
            return self.b(h).tanh()

        return self.c(checkpoint(part, self.a(x), use_reentrant=False))


@awkward("a linear", "w linear !", "c linear")
class CheckpointFunction(OfRows):
    """The function is recomputed when the module that holds the weight has long returned."""

    reentrant = False

    def __init__(self) -> None:
        super().__init__()
        self.a, self.w, self.c = linear(), weight(), linear()

    def forward(self, x: Tensor) -> Tensor:
        def part(h: Tensor) -> Tensor:
            return F.linear(h, self.w).tanh()

        return self.c(checkpoint(part, self.a(x), use_reentrant=self.reentrant))


@awkward("a linear", "w linear !", "c linear")
class CheckpointFunctionReentrant(CheckpointFunction):
    reentrant = True


class FunctionalBlock(nn.Module):
    """Applies a weight of its own by a function."""

    def __init__(self) -> None:
        super().__init__()
        self.w = weight()

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.w).tanh()


@awkward("a linear", "block.w linear", "c linear")
class CheckpointFunctionalModule(OfRows):
    """What holds the weight is recomputed as a whole, and its rule with it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.block, self.c = linear(), FunctionalBlock(), linear()

    def forward(self, x: Tensor) -> Tensor:
        return self.c(checkpoint(self.block, self.a(x), use_reentrant=False))


@awkward("a linear", "teacher linear", "c linear")
class WithoutGradients(OfRows):
    """A part runs under ``no_grad``, another in lower precision."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.teacher, self.c = linear(), linear(), linear()

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        with torch.no_grad():
            target = self.teacher(h).tanh()
        return self.c(h.tanh()) - target


@awkward("a linear", "b linear", "c linear")
class LowerPrecision(OfRows):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = linear(), linear(), linear()

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            h = self.a(x).tanh()
            with torch.autocast("cpu", enabled=False):
                h = self.b(h.float())
        return self.c(h)

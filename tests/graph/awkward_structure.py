"""Unusual arguments, results, containers, attributes and hooks."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tests.graph.awkward import WIDTH, awkward, rows
from tests.graph.awkward_control import Block, linear
from tests.graph.awkward_functional import OfRows


class Scaled(nn.Module):
    """Takes all it needs by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = linear()

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        return self.layer(input=x) * options["scale"] + options.get("shift", 0.0)


@awkward("a linear", "inner.layer linear")
class Keywords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.inner = linear(), Scaled()

    def forward(self, *args: Tensor, **kwargs: Any) -> Tensor:
        return self.inner(x=self.a(args[0] if args else kwargs["x"]), scale=2.0, shift=args[0])

    def example_inputs(self) -> Any:
        return (rows(),)


@awkward("a linear", "b linear")
class NamedInputs(nn.Module):
    """A batch in a dictionary, some of it not tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = linear(), linear()

    def forward(self, batch: dict[str, Any], mask: Tensor | None = None) -> Tensor:
        h = self.a(batch["left"]) + self.b(batch["more"][1])
        return h if mask is None else h * mask

    def example_inputs(self) -> Any:
        return {"batch": {"left": rows(), "more": [3, rows()], "name": "batch"}}


@awkward("a linear", "b linear")
class DictOutput(OfRows):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = linear(), linear()

    def forward(self, x: Tensor) -> dict[str, Any]:
        h = self.a(x).tanh()
        return OrderedDict(out=self.b(h), parts=(h, [h.mean()]), width=WIDTH)


@dataclass
class Result:
    """What the next one returns."""

    out: Tensor
    hidden: tuple[Tensor, ...] = ()
    loss: Tensor | None = None


@awkward("a linear", "b linear")
class DataclassOutput(OfRows):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = linear(), linear()

    def forward(self, x: Tensor) -> Result:
        h = self.a(x).tanh()
        return Result(self.b(h), hidden=(x, h))


@awkward("stages.0.0.a linear", "stages.0.0.b linear", "stages.1.named.last linear", "fc linear")
class Nested(OfRows):
    def __init__(self) -> None:
        super().__init__()
        named = nn.ModuleDict({"last": linear()})
        first = nn.Sequential(Block())
        self.stages = nn.ModuleList([first, nn.ModuleDict({"named": named})])
        self.fc = linear()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages[0](x)
        return self.fc(self.stages[1]["named"]["last"](x.tanh()))


@awkward("a linear", "spare linear")
class NeverCalled(OfRows):
    """A layer that only another mode would call."""

    def __init__(self) -> None:
        super().__init__()
        self.spare, self.a = linear(), linear()

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) if self.training else self.spare(x)


@awkward("a linear", "b linear")
class Caches(OfRows):
    """Keeps tensors, counters and lists between calls."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = linear(), linear()
        self.last: Tensor | None = None
        self.seen: list[Tensor] = []
        self.by_name: dict[str, list[int]] = {"sizes": []}
        self.running = torch.zeros(WIDTH)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        self.last, self.calls = h, self.calls + 1
        self.seen.append(h)
        self.by_name["sizes"].append(len(x))
        self.running.mul_(0.9).add_(h.detach().mean(0), alpha=0.1)
        return self.b(h.tanh())


@awkward("a linear", "norm norm", "b linear")
class Buffers(OfRows):
    """Changes buffers, in place and by assignment."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = linear(), nn.BatchNorm1d(WIDTH), linear()
        self.register_buffer("mean", torch.zeros(WIDTH))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.a(x))
        self.mean.lerp_(h.detach().mean(0), 0.1)
        self.steps = self.steps + 1
        return self.b(h - self.mean.clone())


@awkward("a linear", "norm norm", "b linear", opaque=(("", "item"),), whole=False)
class BuffersReadingValues(Buffers):
    """The same where only real tensors will do."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * max(1, self.steps.item())


@awkward("a linear", "b linear")
class Hooks(OfRows):
    """Hooks that change inputs and outputs, forwards and backwards."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = linear(), linear()
        self.a.register_forward_pre_hook(lambda module, args: (args[0] * 2,))
        self.a.register_forward_hook(lambda module, args, out: out.tanh())
        self.b.register_full_backward_hook(lambda module, grads, _: (grads[0] * 0.5,))

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x))

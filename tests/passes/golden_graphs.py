"""Six tiny nets before and after each lowering pass, as text.

    .venv/bin/python tests/passes/golden_graphs.py

writes the files in ``tests/passes/golden`` anew; read what changed before you commit it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

ROOT = Path(__file__).parent.parent.parent
sys.path.append(str(ROOT))  # behind the installed fxbio, which has its passes

import fxbio  # noqa: E402
from fxbio.models.inputs import as_example_inputs  # noqa: E402
from fxbio.passes import Pipeline, Program  # noqa: E402
from fxbio.serialization.code import readable_source  # noqa: E402

__all__ = ["CASES", "FOLDER", "Case", "text"]

FOLDER = Path(__file__).parent / "golden"


class Chain(nn.Module):
    """Three layers in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.last = nn.Linear(6, 5), nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.last(torch.relu(self.two(torch.relu(self.one(x)))))
        return result


class Residual(nn.Module):
    """A skip connection around a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.last = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.stem(x))
        result: Tensor = self.last(torch.relu(h + self.one(h)))
        return result


class Shared(nn.Module):
    """One layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.last = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.twice(torch.tanh(self.twice(x))))
        result: Tensor = self.last(h)
        return result


class Attention(nn.Module):
    """Queries, keys and values from chunks of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.mix, self.last = nn.Linear(6, 18), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (F.linear(x, part) for part in self.qkv.weight.chunk(3))
        mixed = torch.tanh(self.mix(torch.softmax(q @ k.mT, -1) @ v))
        result: Tensor = self.last(mixed.mean(1))
        return result


class TwoHeads(nn.Module):
    """A trunk with two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.one, self.two = nn.Linear(6, 5), nn.Linear(5, 3), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.relu(self.trunk(x))
        return self.one(h), self.two(h)


class Detector(nn.Module):
    """A convolution with two heads, whose outputs are in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.scores, self.boxes = nn.Conv2d(4, 3, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.body(x)
        return {"scores": self.scores(h), "boxes": self.boxes(h)}


@dataclass(frozen=True)
class Case:
    """A net under one rule, shown around the passes of its family."""

    net: Callable[[], nn.Module]
    shape: tuple[int, ...]
    rule: Any
    entries: tuple[Any, ...] = ()

    @property
    def policy(self) -> fxbio.Policy:
        content = {"version": 1, "default": self.rule, "rules": list(self.entries)}
        return fxbio.Policy.from_yaml(yaml.safe_dump(content))


def _routed(rule: str, **options: Any) -> dict[str, Any]:
    return {"rule": rule, "with": options} if options else {"rule": rule}


def _cases() -> Iterator[tuple[str, Case]]:
    heads, maps = {"source": ["one", "two"]}, {"source": ["scores", "boxes"]}
    in_attention = {"where": {"module": "qkv"}, "rule": "usf"}
    nets: dict[str, tuple[Any, tuple[int, ...], dict[str, Any], tuple[Any, ...]]] = {
        "chain": (Chain, (2, 6), {}, ()),
        "residual": (Residual, (2, 6), {}, ()),
        "shared": (Shared, (2, 6), {}, ()),
        "attention": (Attention, (2, 4, 6), {}, (in_attention,)),
        "two-heads": (TwoHeads, (2, 6), heads, ()),
        "detector": (Detector, (1, 2, 5, 5), maps, ()),
    }
    for name, (net, shape, options, entries) in nets.items():
        yield f"{name}.lower-feedback", Case(net, shape, {"rule": "fa"})
        yield f"{name}.lower-broadcast", Case(net, shape, _routed("dfa", **options), entries)
    for name, (net, shape, options, _) in nets.items():
        one = {"source": ["one"]} if options else {}
        if len(shape) == 2:  # labels are recovered from logits (N, K)
            kept = ({"where": {"module": "two"}, "rule": "bp"},) if options else ()
            yield f"{name}.lower-local", Case(net, shape, _routed("dgl", **one), kept)
    transformed = {"rule": "bp", "error": ["topk{share=0.5}", "quantise{bits=4,where=weight}"]}
    last = ({"where": {"last": True}, "rule": "fa", "error": "sign"},)
    yield "chain-transformed.lower-feedback", Case(Chain, (2, 6), transformed, last)
    yield "chain.lower-targets", Case(Chain, (2, 6), {"rule": "dtp"})


CASES = dict(_cases())

_PASSES = {
    "lower-feedback": "lower-feedback",
    "lower-broadcast": "route-errors,lower-broadcast,lower-local",
    "lower-local": "route-errors,lower-broadcast,lower-local",
    "lower-targets": "lower-targets",
}


def text(name: str) -> str:
    """The graph of a case before and after the passes of its family."""
    case = CASES[name]
    torch.manual_seed(0)
    model, x = case.net(), torch.zeros(case.shape)
    on = Program(model, fxbio.capture(model, x), as_example_inputs(x), case.policy)
    Pipeline.parse("assign-rules,check-support,make-feedback,lower-feedback").run(on)
    passes = _PASSES[name.split(".")[1]]
    before = readable_source(on.graph.graph, on.graph.name)
    if passes != "lower-feedback":
        Pipeline.parse(passes).run(on)
    after = readable_source(on.lowered.graph, on.graph.name)
    return f"# as captured\n\n{before}\n\n# behind {passes}\n\n{after}"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.txt"):
        old.unlink()
    for name in CASES:
        (FOLDER / f"{name}.txt").write_text(text(name))
        print(name)

"""Step time and memory of rewritten models, as ratios to plain backprop in the same process.

    python tests/benchmarks/step_time.py --models resnet18 vit_b_16 --batch 8 --rounds 15
    python tests/benchmarks/step_time.py --models resnet18 --compiled
    python tests/benchmarks/step_time.py --models resnet18 --rules --policies my.yaml other.yaml
    pip install --no-deps biotorch
    python tests/benchmarks/step_time.py --models resnet18 --biotorch

A round runs one training step (forward, loss, backward, SGD) of every variant in turn, so that a
drift of the machine's speed touches all of them. The ratio is taken within each round, to the mean
of two copies of the stock model; its median and quartiles over the rounds are printed. What the
ratios of those two copies differ from 1 is the noise of the measurement.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import fxbio
from fxbio.runtime.binding import FEEDBACK_PREFIX

RULES = ("bp", "fa", "usf", "frsf")


@dataclass
class Variant:
    """One model that is stepped in turn with the others."""

    name: str
    model: nn.Module
    run: Callable[[Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    seconds: list[float] = field(default_factory=list)

    def step(self, images: Tensor, labels: Tensor) -> None:
        """One training step, timed."""
        start = time.perf_counter()
        loss = F.cross_entropy(self.run(images), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.seconds.append(time.perf_counter() - start)


def main() -> None:
    """Measure and print one table for each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    models = ["resnet18", "resnet50", "vit_b_16", "mobilenet_v2"]
    parser.add_argument("--models", nargs="+", default=models, help="names of torchvision models")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224, help="height and width of the images")
    parser.add_argument("--rounds", type=int, default=11, help="after one round of warm-up")
    parser.add_argument("--compiled", action="store_true", help="torch.compile every variant")
    parser.add_argument("--biotorch", action="store_true", help="compare with that package, too")
    parser.add_argument("--rules", nargs="*", default=RULES, help="for every layer")
    parser.add_argument("--policies", nargs="*", default=[], help="files, and 'dfa' for three")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    console = Console(width=100)
    for name in options.models:
        console.print(measure(name, options))


def measure(name: str, options: argparse.Namespace) -> Table:
    """Ratios of every variant of one model."""
    torch.manual_seed(0)
    stock = torchvision.models.get_model(name, weights=None)
    images = torch.randn(options.batch, 3, options.size, options.size)
    labels = torch.randint(0, 1000, (options.batch,))
    variants = [variant("stock", stock, options), variant("stock again", stock, options)]
    for label, policy in policies(options).items():
        model = fxbio.transform(stock, policy, images[:2])
        variants.append(variant(label, model, options))
    if options.biotorch:
        variants += [
            variant(f"biotorch {rule}", biotorch(stock, rule), options) for rule in RULES[1:]
        ]
    for _ in range(options.rounds + 1):
        for each in variants:
            each.step(images, labels)
    return table(name, variants, images, options)


ROUTED = {
    "dfa activation": ("op: [conv, linear]", "projection: channel"),
    "dfa block": (
        'module: "layer*.**", op: conv',
        'projection: channel, at: block, block: "layer*.*"',
    ),
    "dfa input": ("op: [conv, linear]", "projection: conv, at: input, skip: sum"),
}
"""Where and how the error is broadcast in a ResNet."""


def policies(options: argparse.Namespace) -> dict[str, fxbio.Policy]:
    """Policies by what their row is called."""
    found = {rule: fxbio.Policy.uniform(rule) for rule in options.rules}
    for path in options.policies:
        if path != "dfa":
            found[Path(path).stem] = fxbio.Policy.from_yaml(path)
            continue
        for label, (where, how) in ROUTED.items():
            entry = f"{{where: {{{where}}}, rule: dfa, with: {{{how}}}}}"
            text = f"version: 1\ndefault: bp\nrules: [{entry}]\n"
            found[label] = fxbio.Policy.from_yaml(text)
    return found


def biotorch(stock: nn.Module, rule: str) -> nn.Module:
    """The same model converted by biotorch, which prints a report that is of no use here."""
    from biotorch.module.biomodule import BioModule

    with contextlib.redirect_stdout(io.StringIO()):
        return BioModule(copy.deepcopy(stock), mode=rule)


def variant(name: str, model: nn.Module, options: argparse.Namespace) -> Variant:
    """A copy of a model, ready to be trained."""
    model = copy.deepcopy(model).train()
    run = torch.compile(model, fullgraph=True) if options.compiled else model
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    return Variant(name, model, run, optimizer)


def table(name: str, variants: list[Variant], images: Tensor, options: argparse.Namespace) -> Table:
    """Step times as ratios to the stock model, round by round, and memory beside it."""
    how = "compiled" if options.compiled else "eager"
    title = f"{name}, batch {options.batch}, {options.size}², {how}, {options.rounds} rounds"
    result = Table(title=title, box=None, title_justify="left")
    for column in ("variant", "ms", "ratio", "quartiles", "saved MiB", "feedback MiB"):
        result.add_column(column, justify="left" if column == "variant" else "right")
    pairs = zip(variants[0].seconds[1:], variants[1].seconds[1:], strict=True)
    base = [(first + second) / 2 for first, second in pairs]
    for each in variants:
        times = each.seconds[1:]
        ratios = [t / b for t, b in zip(times, base, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        result.add_row(
            each.name,
            f"{1000 * statistics.median(times):.0f}",
            f"{middle:.3f}",
            f"{low:.3f} … {high:.3f}",
            f"{saved_mebibytes(each.model, images):.1f}",
            f"{feedback_mebibytes(each.model):.1f}",
        )
    return result


def saved_mebibytes(model: nn.Module, images: Tensor) -> float:
    """Distinct storage that one forward pass keeps for the backward pass, parameters left out."""
    known = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(images)
    total = sum(saved.values())
    del output
    return total / 2**20


def feedback_mebibytes(model: nn.Module) -> float:
    """Size of the feedback that a model holds."""
    prefixes = (FEEDBACK_PREFIX, "fxbio_route_")
    sizes = [b.nbytes for name, b in model.named_buffers() if any(p in name for p in prefixes)]
    return sum(sizes) / 2**20


if __name__ == "__main__":
    main()

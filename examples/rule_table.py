"""Train one net under many learning rules, on 4,000 real digits, and print a table.

    python examples/rule_table.py
    python examples/rule_table.py --rules bp fa usf --model mlp --seeds 5

To add a rule, add a ``Row``. Rows of one seed start from the same weights and see the same batches
in the same order; the feedback is drawn from the seed too. Accuracy is that of the last epoch on
1,000 images that no row was trained on. It needs ``pip install fxbio[mnist]``.
"""

from __future__ import annotations

import argparse
import functools
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import mnist5k
import torch
import torch.nn.functional as F
import yaml
from models.mlp import Perceptron
from models.mnist_conv import ConvNet
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

import fxbio
from fxbio.target_propagation.phase import Phase

MODELS = {"mlp": Perceptron, "conv": ConvNet}
EPOCHS = 20
BATCH = 50
MOMENTUM = 0.9
DECAY = 5e-3
FEEDBACK_LR = 1.0
WORKERS = 2

MakeOptimizer = Callable[[nn.Module, float], Optimizer]


def sgd(model: nn.Module, lr: float) -> Optimizer:
    """Plain SGD with momentum."""
    return SGD(model.parameters(), lr=lr, momentum=MOMENTUM)


def decaying(model: nn.Module, lr: float) -> Optimizer:
    """SGD whose weight decay draws forward and feedback weights together."""
    return SGD(model.parameters(), lr=lr, momentum=MOMENTUM, weight_decay=DECAY)


def fast_feedback(model: nn.Module, lr: float) -> Optimizer:
    """SGD with a rate of its own for feedback weights that learn by a loss of their own."""
    groups = fxbio.param_groups(model, [{"params": "feedback", "lr": FEEDBACK_LR}], lr=lr)
    return SGD(groups, momentum=MOMENTUM)


def adam(model: nn.Module, lr: float) -> Optimizer:
    """Adam, for inverses whose losses are of other sizes than that of the model."""
    return Adam(model.parameters(), lr=lr)


def manhattan(model: nn.Module, lr: float) -> Optimizer:
    """The sign of the gradient in place of the gradient."""
    optimizer = sgd(model, lr)
    fxbio.optim.batch_manhattan(optimizer)
    return optimizer


def no_sign_change(model: nn.Module, lr: float) -> Optimizer:
    """No weight crosses zero."""
    optimizer = sgd(model, lr)
    fxbio.optim.no_sign_change(optimizer)
    return optimizer


def strict_norm(model: nn.Module, lr: float) -> Optimizer:
    """Every weight keeps its initial norm."""
    optimizer = sgd(model, lr)
    fxbio.optim.strict_norm(optimizer)
    return optimizer


@dataclass(frozen=True)
class Row:
    """A row of the table: a policy as it would stand in a file, and how it is trained."""

    name: str
    policy: Mapping[str, Any]
    lr: float = 0.01
    activation: str = "relu"
    optimizer: MakeOptimizer = sgd
    """Made for the transformed model; parameter groups and constraints belong here."""
    train_feedback: bool = False
    """Whether inverses are trained in steps of their own, before every step of the model."""
    phases: tuple[Phase, ...] = ()
    """What learns in each epoch, by turns; empty for everything at once."""


ROWS = [
    Row("bp", {"default": "bp"}),
    # The control for every row below: only the last layer learns, on random features.
    Row("shallow", {"default": "bp", "rules": [{"where": {"last": True}, "rule": "stop"}]}),
    Row("fa", {"default": "fa"}),
    Row("fa-tanh", {"default": "fa"}, activation="tanh"),
    Row("signed-init", {"default": "signed-init"}),
    Row("usf", {"default": "usf"}),
    Row("usf+manhattan", {"default": "usf"}, lr=3e-5, optimizer=manhattan),
    Row("usf+no-sign-change", {"default": "usf"}, optimizer=no_sign_change),
    Row("usf+strict-norm", {"default": "usf"}, optimizer=strict_norm),
    Row("frsf", {"default": "frsf"}),
    Row("brsf", {"default": "brsf"}),
    Row("brsf+strict-norm", {"default": "brsf"}, optimizer=strict_norm),
    Row("bp+decay", {"default": "bp"}, optimizer=decaying),
    Row("kp", {"default": "kp"}, optimizer=decaying),
    Row("wm", {"default": "wm"}, optimizer=fast_feedback),
    Row("sa", {"default": "sa"}, optimizer=fast_feedback),
    Row("aa", {"default": "aa"}, optimizer=fast_feedback),
    Row("ia", {"default": "ia"}, optimizer=fast_feedback),
    Row("fbp", {"default": {"rule": "fbp", "with": {"refresh_every": 20}}}),
    Row("pfa", {"default": "pfa"}, optimizer=decaying),
    Row("pfa-o", {"default": "pfa-o"}, optimizer=decaying),
    Row("dfa", {"default": "dfa"}),
    Row("dfa-tanh", {"default": "dfa"}, activation="tanh"),
    Row("dfa-channel", {"default": {"rule": "dfa", "with": {"projection": "channel"}}}),
    Row("drtp-tanh", {"default": "drtp"}, activation="tanh"),
    Row("dgl", {"default": "dgl"}),
    Row("bp-tanh", {"default": "bp"}, lr=1e-3, activation="tanh", optimizer=adam),
    Row("tp-tanh", {"default": "tp"}, lr=1e-3, activation="tanh", optimizer=adam),
    Row("dtp-tanh", {"default": "dtp"}, lr=1e-3, activation="tanh", optimizer=adam),
    Row(
        "dtp-tanh, alternating",
        {"default": "dtp"},
        lr=1e-3,
        activation="tanh",
        optimizer=adam,
        phases=("inverse", "forward"),
    ),
    Row("sdtp-tanh", {"default": "sdtp"}, lr=1e-3, activation="tanh", optimizer=adam),
    Row("ao-sdtp-tanh", {"default": "ao-sdtp"}, lr=1e-3, activation="tanh", optimizer=adam),
    Row("drl-tanh", {"default": "drl"}, lr=1e-3, activation="tanh", optimizer=adam),
    Row(
        "l-drl-tanh",
        {"default": {"rule": "l-drl", "with": {"iterations": 5, "feedback_lr": 0.01}}},
        lr=1e-3,
        activation="tanh",
        optimizer=adam,
        train_feedback=True,
    ),
]


@dataclass(frozen=True)
class Outcome:
    """What one run of one row came to."""

    accuracy: float
    milliseconds: float
    """Median time of a step: forward, loss, backward, update."""
    angles: tuple[float, ...]
    """Between ``W`` and ``B`` in degrees, layer by layer; NaN where there is no ``B``. That of the
    first layer says nothing of learning: an image needs no error."""


def run(row_name: str, model_name: str, seed: int, epochs: int) -> Outcome:
    """Train and test one row."""
    row = next(row for row in ROWS if row.name == row_name)
    train, test = mnist5k.load()
    model = fxbio.transform(stock_model(row, model_name, seed), policy_of(row, seed), train.x[:2])
    times = fit(row, model, train, epochs, seed)
    return Outcome(accuracy(model, test), 1000.0 * statistics.median(times), angles(model))


def stock_model(row: Row, model_name: str, seed: int) -> nn.Module:
    """The net of a row, with the same weights for every row of a seed."""
    torch.manual_seed(seed)
    return MODELS[model_name](row.activation)


def policy_of(row: Row, seed: int) -> fxbio.Policy:
    """The policy of a row, with feedback drawn from the seed."""
    return fxbio.Policy.from_yaml(yaml.safe_dump({"version": 1, "seed": seed, **row.policy}))


def fit(row: Row, model: nn.Module, train: mnist5k.Images, epochs: int, seed: int) -> list[float]:
    """An ordinary training loop; the learning rate falls to zero along a cosine.

    Returns:
        Seconds of each step.
    """
    order = torch.Generator().manual_seed(seed)
    optimizer = row.optimizer(model, row.lr)
    schedule = CosineAnnealingLR(optimizer, epochs)
    times = []
    for epoch in range(epochs):
        if row.phases:
            fxbio.set_phase(model, row.phases[epoch % len(row.phases)])
        for batch in torch.randperm(len(train.y), generator=order).split(BATCH):
            x, y = train.x[batch], train.y[batch]
            start = time.perf_counter()
            if row.train_feedback:
                fxbio.train_feedback(model, x)
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            times.append(time.perf_counter() - start)
        schedule.step()
    return times


@torch.no_grad()
def accuracy(model: nn.Module, images: mnist5k.Images) -> float:
    """Percentage of images that are classified right."""
    right = model.eval()(images.x).argmax(dim=1) == images.y
    return 100.0 * float(right.float().mean())


@torch.no_grad()
def angles(model: nn.Module) -> tuple[float, ...]:
    """``arccos(⟨W, B⟩ / ‖W‖‖B‖)`` of every weight, in the order of the layers."""
    feedback = fxbio.feedback_weights(model)
    named = {name: p for name, p in model.named_parameters() if "fxbio" not in name}
    weights = {name: p for name, p in named.items() if name.endswith(".weight")}
    return tuple(_angle(w, feedback.get(name)) for name, w in weights.items())


def _angle(weight: Tensor, feedback: Tensor | None) -> float:
    if feedback is None:
        return math.nan
    cosine = F.cosine_similarity(weight.flatten(), feedback.flatten(), dim=0)
    return math.degrees(math.acos(float(cosine.clamp(-1.0, 1.0))))


def markdown(outcomes: Mapping[str, list[Outcome]]) -> str:
    """The table: one line per row."""
    titles = ("rule", "accuracy, %", "ms per step, fastest seed", "angle of W and B by layer, °")
    lines = [f"| {' | '.join(titles)} |", "|---|---|---|---|"]
    for name, runs in outcomes.items():
        hits = [r.accuracy for r in runs]
        spread = f" ± {statistics.stdev(hits):.1f}" if len(hits) > 1 else ""
        layers = [statistics.mean(a) for a in zip(*(r.angles for r in runs), strict=True)]
        shown = " · ".join("–" if math.isnan(a) else f"{a:.0f}" for a in layers)
        speed = min(r.milliseconds for r in runs)
        lines.append(f"| {name} | {statistics.mean(hits):.1f}{spread} | {speed:.1f} | {shown} |")
    return "\n".join(lines)


def main() -> None:
    """Run what the options ask for, two runs at a time."""
    options = parsed_options()
    start = functools.partial(torch.set_num_threads, 1)
    with ProcessPoolExecutor(WORKERS, get_context("spawn"), start) as pool:
        for model in options.model:
            jobs = [(name, seed) for name in options.rules for seed in range(options.seeds)]
            futures = [pool.submit(run, name, model, seed, options.epochs) for name, seed in jobs]
            outcomes: dict[str, list[Outcome]] = {}
            for (name, seed), future in zip(jobs, futures, strict=True):
                outcomes.setdefault(name, []).append(future.result())
                print(f"{model}, {name}, seed {seed}", file=sys.stderr)
            print(f"\n### {model}, {options.epochs} epochs, {options.seeds} seeds\n")
            print(markdown(outcomes), flush=True)


def parsed_options() -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = [row.name for row in ROWS]
    parser.add_argument("--rules", nargs="+", choices=names, default=names)
    parser.add_argument("--model", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    return parser.parse_args()


if __name__ == "__main__":
    main()

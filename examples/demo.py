"""The tour of ``make demo``: transform a detector and a model of one's own, then train three rules.

Everything runs on the CPU, with random weights and with scikit-learn's bundled digits.
"""

from __future__ import annotations

import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from models.model import build_model
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from torch import Tensor, nn

import fxbio

HERE = Path(__file__).parent
EPOCHS = 12
BATCH = 64
RULES = {
    "bp": "backprop",
    "usf": "sign-symmetry (Xiao et al.)",
    "fa": "feedback alignment",
}


def main() -> None:
    """Run the demo and leave nothing behind."""
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="fxbio-") as folder:
        for model, policy in (
            ("torchvision:retinanet_resnet50_fpn", "policies/xiao-retinanet.yaml"),
            ("models/model.py", "policies/xiao-digits.yaml"),
        ):
            out = str(Path(folder, Path(policy).stem))
            run(console, ["transform", model, "--policy", policy, "--out", out])
    compare_rules(console)


def run(console: Console, arguments: list[str]) -> None:
    """Run an fxbio command in the folder of the examples, and show it."""
    console.print(f"\n[bold]$ fxbio {shlex.join(arguments)}[/bold]\n", soft_wrap=True)
    command = [str(Path(sys.executable).with_name("fxbio")), *arguments]
    subprocess.run(command, check=True, cwd=HERE)


def compare_rules(console: Console) -> None:
    """Train the same network from the same start with three rules, and print what came of it."""
    torch.set_num_threads(1)  # steps this small are slower on two
    console.print(f"\n[bold]Real digits, {EPOCHS} epochs, one network, three rules[/bold]\n")
    train_set, test_set = digits()
    learners = [Learner(rule, train_set[0][:2]) for rule in RULES]
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(train_set[1])).split(BATCH):
            for learner in learners:  # in turn, so that their step times can be compared
                learner.step(train_set[0][batch], train_set[1][batch])
    console.print(results(learners, test_set))
    console.print(
        "\nThe last layer is trained by backprop in all three. One seed, and steps of a few\n"
        "milliseconds: for timings that can be trusted see make bench."
    )


def results(learners: list[Learner], test_set: tuple[Tensor, Tensor]) -> Table:
    """Accuracy and step time of each rule."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("rule", "test accuracy", "step, median", "of backprop"):
        table.add_column(name, justify="left" if name == "rule" else "right")
    for learner in learners:
        ratio = learner.milliseconds() / learners[0].milliseconds()
        table.add_row(
            RULES[learner.rule],
            f"{accuracy(learner.model, *test_set):.1%}",
            f"{learner.milliseconds():.1f} ms",
            f"{ratio:.2f}",
        )
    return table


def digits() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """1,797 images of 8 × 8 pixels; every fifth is kept for the test."""
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16.0
    labels = torch.tensor(data.target)
    test = torch.arange(len(labels)) % 5 == 0
    return (images[~test], labels[~test]), (images[test], labels[test])


class Learner:
    """A network under one rule, with its optimizer and its step times."""

    def __init__(self, rule: str, example: Tensor) -> None:
        torch.manual_seed(0)
        policy = fxbio.Policy.uniform(rule).append(where={"last": True}, rule="bp")
        self.rule = rule
        self.model = fxbio.transform(build_model(), policy, example)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4
        )
        self.seconds: list[float] = []

    def step(self, images: Tensor, labels: Tensor) -> None:
        """One step of an ordinary training loop."""
        start = time.perf_counter()
        loss = F.cross_entropy(self.model(images), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.seconds.append(time.perf_counter() - start)

    def milliseconds(self) -> float:
        """Median of the step times."""
        return 1000.0 * statistics.median(self.seconds)


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of images that the model classifies right."""
    predicted = model.eval()(images).argmax(dim=1)
    return float((predicted == labels).float().mean())


if __name__ == "__main__":
    main()

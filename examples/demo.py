"""The tour of ``make demo``: transform a detector and a model of one's own, then train six rules.

Everything runs on the CPU, with random weights and with scikit-learn's bundled digits.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

HERE = Path(__file__).parent
EPOCHS = 5
RULES = ("bp", "usf", "kp", "fa", "dfa", "dgl")
POLICIES = {
    "torchvision:retinanet_resnet50_fpn": "policies/xiao-retinanet.yaml",
    "models/model.py": "policies/xiao-digits.yaml",
}


def main() -> None:
    """Run the demo and leave nothing behind."""
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="fxbio-") as folder:
        for model, policy in POLICIES.items():
            out = str(Path(folder, Path(policy).stem))
            run(console, ["transform", model, "--policy", policy, "--out", out])
        for rule in RULES:
            recipe = ["recipes/digits.yaml", "policy.file=null", f"policy.rule={rule}"]
            settings = [f"train.epochs={EPOCHS}", "--out", str(Path(folder, "runs", rule))]
            run(console, ["train", *recipe, *settings])
        run(console, ["runs", str(Path(folder, "runs"))])
    console.print(
        "\nReal digits, one network, one seed, every layer under the rule, few epochs: this\n"
        "shows that the rules train, not which is best. For that see examples/rule_table.py\n"
        "and examples/studies; examples/tour goes through all commands.",
        soft_wrap=True,
    )


def run(console: Console, arguments: list[str]) -> None:
    """Run an fxbio command in the folder of the examples, and show it."""
    console.print(f"\n[bold]$ fxbio {shlex.join(arguments)}[/bold]\n", soft_wrap=True)
    command = [str(Path(sys.executable).with_name("fxbio")), *arguments]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # steps this small are slower on two
    subprocess.run(command, check=True, cwd=HERE, env=one_thread)


if __name__ == "__main__":
    main()

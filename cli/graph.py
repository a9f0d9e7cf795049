"""``fxbio graph``: a picture of both ways through a model."""

from __future__ import annotations

from pathlib import Path

import click

from fxbio.cli.console import log
from fxbio.cli.main import EXIT_CODES
from fxbio.cli.options import MODEL_HELP, ModelRequest, model_options

__all__ = ["command"]


@click.command(
    "graph",
    short_help="Draw the forward path and the way of the errors.",
    epilog=f"{MODEL_HELP}\n\n{EXIT_CODES}",
)
@model_options()
@click.option(
    "--policy",
    "-p",
    "policy_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The policy, a YAML file. Without one everything learns by backprop.",
)
@click.option(
    "--out",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="File to write; its ending says the format: .svg, .html, .dot, .mmd or .png.",
)
@click.option(
    "--level",
    type=click.Choice(["block", "site"]),
    default="block",
    show_default=True,
    help="One box for each repeated module, or for each weight.",
)
def command(request: ModelRequest, policy_file: Path | None, out: Path, level: str) -> None:
    """Draw the forward path of a model and, beside it, the way of the errors.

    Boxes are coloured by rule. Beside each stands what carries its error back: the weight W, its
    signs, a matrix B, a learned inverse, and arrows show where the forward weight is read.

    \b
    Examples:
      fxbio graph torchvision:resnet18 --policy ss.yaml -o resnet18.svg
      fxbio graph model.py --policy mixed.yaml -o model.html --level site
      fxbio graph model.py --policy dfa.yaml -o model.mmd
    """
    import fxbio
    from fxbio.pictures import check_format, draw, save

    check_format(out)
    policy = None if policy_file is None else fxbio.Policy.from_yaml(policy_file)
    loaded, inputs = request.load()
    picture = draw(loaded.model, policy, inputs, level="site" if level == "site" else "block")
    save(picture, out)
    boxes = sum(node.kind == "box" for node in picture.nodes)
    log(f"{out}: {boxes} boxes, {out.stat().st_size / 1000:.0f} kB")

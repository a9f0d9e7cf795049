"""``fxbio graph``: a picture of both ways through a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fxbio.cli.console import log
from fxbio.cli.main import EXIT_CODES
from fxbio.cli.options import MODEL_HELP, ModelRequest, NamedPath, model_options
from fxbio.cli.subject_options import load_subject, own_policy_option

if TYPE_CHECKING:
    from torch import nn

    from fxbio.models.inputs import ExampleInputs
    from fxbio.policy import Policy

__all__ = ["command"]


@click.command(
    "graph",
    short_help="Draw the forward path and the way of the errors.",
    epilog=f"{MODEL_HELP}\n\n{EXIT_CODES}",
)
@model_options(folders=True)
@own_policy_option
@click.option(
    "--out",
    "-o",
    type=NamedPath(dir_okay=False, path_type=Path),
    required=True,
    help="File to write; its ending says the format: .svg, .html or .dot.",
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
    signs, a matrix B, a learned inverse, and arrows show where the forward weight is read. FOLDER
    is what `fxbio transform` wrote; a MODEL without --policy learns by backprop.

    \b
    Examples:
      fxbio graph torchvision:resnet18 --policy ss.yaml -o resnet18.svg
      fxbio graph resnet18-ss/ -o resnet18.html --level site
      fxbio graph model.py --policy dfa.yaml -o model.dot
    """
    from fxbio.viz import check_format, draw, save

    check_format(out)
    model, policy, inputs = _load(request, policy_file)
    picture = draw(model, policy, inputs, level="site" if level == "site" else "block")
    save(picture, out)
    boxes = sum(node.kind == "box" for node in picture.nodes)
    log(f"{out}: {boxes} boxes, {out.stat().st_size / 1000:.0f} kB")


def _load(
    request: ModelRequest, policy_file: Path | None
) -> tuple[nn.Module, Policy | None, ExampleInputs | None]:
    """A MODEL is drawn from its plan alone: feedback may be too large to be made for a picture."""
    import fxbio

    if policy_file is None or Path(request.reference).is_dir():
        model, inputs = load_subject(request, policy_file)
        return model, None, inputs
    loaded, inputs = request.load()
    return loaded.model, fxbio.Policy.from_yaml(policy_file), inputs

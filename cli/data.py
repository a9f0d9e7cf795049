"""``fxbio data``: generated data sets, and checks of real ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fxbio.cli.console import log, print_json, print_result
from fxbio.cli.main import EXIT_CODES
from fxbio.cli.options import NamedPath, json_option

if TYPE_CHECKING:
    from fxbio.train.data.data_kind import DataName, DataSource

__all__ = ["command"]

_KINDS = {"shapes": "make_shapes", "shapes-coco": "make_shapes_coco"}


@click.group("data", short_help="Generate data sets and check them.", epilog=EXIT_CODES)
def command() -> None:
    """Generate data sets that can be learned, and check real ones before training.

    \b
    Examples:
      fxbio data make shapes data/shapes
      fxbio data make shapes-coco data/shapes-coco --images 200
      fxbio data check /data/imagenet
    """


@command.command("make", epilog=EXIT_CODES)
@click.argument("kind", type=click.Choice(list(_KINDS)))
@click.argument("out", type=NamedPath(path_type=Path))
@click.option(
    "--images",
    type=click.IntRange(min=1),
    help="For training, and a quarter as many for validation: 1000 of shapes, 200 of shapes-coco.",
)
@click.option(
    "--size",
    type=click.IntRange(min=16),
    help="Of the images in pixels: 64 of shapes, about 128 of shapes-coco.",
)
@click.option("--seed", default=0, show_default=True, help="Of everything that is drawn.")
def make(kind: str, out: Path, images: int | None, size: int | None, seed: int) -> None:
    """Write a generated data set to the folder OUT.

    shapes is an image folder: which of five shapes is in the image? shapes-coco is a COCO
    detection data set with crowds, empty images, gray images and odd sizes.
    """
    import importlib

    name = _KINDS[kind]
    write = getattr(importlib.import_module(f"fxbio.train.data.{name}"), name)
    wishes = {"images": images, "size": size}
    write(out, **{key: value for key, value in wishes.items() if value is not None}, seed=seed)
    log(f"wrote {out}")


@command.command("check", epilog=EXIT_CODES)
@click.argument("path", type=NamedPath(path_type=Path))
@click.option("--read", is_flag=True, help="Read every image too, which takes a while.")
@json_option
@click.pass_context
def check(ctx: click.Context, path: Path, read: bool, as_json: bool) -> None:
    """Check an image folder or a COCO data set, and print what is found, one line each.

    A folder with annotations/ inside is taken for COCO. Images that cannot be read are a failure.
    """
    from fxbio.train.data import DataConfig, open_data

    kind: DataName = "coco" if (path / "annotations").is_dir() else "folder"
    source = open_data(DataConfig(name=kind, path=path))
    broken = _unreadable(source) if read else []
    findings = [*source.findings, *broken]
    if as_json:
        print_json({"kind": kind, "classes": source.classes, "findings": findings})
    else:
        print_result("\n".join(findings))
    if broken:
        ctx.exit(1)


def _unreadable(source: DataSource) -> list[str]:
    from fxbio.train.data.check import unreadable_images

    return list(unreadable_images(source))

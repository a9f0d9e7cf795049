"""A picture as one HTML page that needs no network: zoom, search, and what each box holds."""

from __future__ import annotations

import html as markup
import json
from dataclasses import asdict
from importlib import resources
from string import Template
from typing import Any

from fxbio.viz.picture import Node, Picture
from fxbio.viz.svg import svg

__all__ = ["html"]


def html(picture: Picture) -> str:
    """The picture as the text of a page.

    The wheel zooms, dragging moves, ``/`` searches; what follows ``#`` in the address is searched.
    """
    page = resources.files("fxbio.viz").joinpath("page.html").read_text(encoding="utf-8")
    return Template(page).substitute(
        title=markup.escape(f"{picture.title}: {picture.subtitle}"),
        svg=svg(picture),
        data=_json({node.id: _facts(node) for node in picture.nodes}),
    )


def _facts(node: Node) -> dict[str, Any]:
    return {
        "title": node.title,
        "subtitle": node.subtitle,
        "sites": [asdict(detail) for detail in node.details],
    }


def _json(value: object) -> str:
    """JSON that cannot end the element that it stands in."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")

"""A picture as text for Mermaid, which GitHub and many editors draw."""

from __future__ import annotations

from collections.abc import Iterator

from fxbio.viz.picture import Edge, Node, Picture

__all__ = ["mermaid"]

_ESCAPED = {"#": "#35;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "&": "#amp;", "\n": " "}


def mermaid(picture: Picture) -> str:
    """The picture as a ``flowchart``; errors run along dotted lines."""
    heading = _plain(", ".join((picture.title, *picture.heading)))
    lines = ["---", f'title: "{heading}"', "---"]
    lines.append("flowchart TB")
    for node in picture.nodes:
        lines += _node(node)
    lines += _scaffold(picture)
    lines += (_edge(edge) for edge in picture.edges)
    lines += _colours(picture)
    return "\n".join(lines) + "\n"


def _node(node: Node) -> Iterator[str]:
    if node.kind == "join":
        yield f'  {node.id}(("{_text(node.title)}"))'
        yield f'  {node.id}_back(("δ"))'
        return
    repeat = f" × {node.repeat}" if node.repeat > 1 else ""
    yield f'  {node.id}["{_text(node.title)}{repeat}<br/>{_text(node.subtitle)}"]'
    if node.kind == "output":
        yield f'  {node.id}_back(["error ∂L/∂y"])'
    if node.kind != "box":
        return
    passages = (f"{_text(p.carrier)} ({_text(p.rule)})" for p in node.passages)
    yield f'  {node.id}_back(["{"<br/>".join(passages)}"])'


def _scaffold(picture: Picture) -> Iterator[str]:
    """What ties the way back to the way forward, so that it is laid out beside it.

    Mermaid breaks cycles where it first meets them, so these links must come before the edges.
    """
    for node in picture.nodes:
        found = {p.transports for p in node.passages if p.used and p.reached} - {"none"}
        link = f'==>|"{", ".join(sorted(found))}"|' if found else "~~~"
        if node.kind != "input":
            yield f"  {node.id} {link} {node.id}_back"
    for edge in picture.edges:
        if edge.kind != "forward":
            yield f"  {edge.target}_back ~~~ {edge.source}_back"


def _edge(edge: Edge) -> str:
    if edge.kind == "forward":
        return f"  {edge.source} --> {edge.target}"
    label = f'|"{_text(edge.carrier)}"|' if edge.carrier else ""
    return f"  {edge.source}_back -.->{label} {edge.target}_back"


def _colours(picture: Picture) -> Iterator[str]:
    """One class per rule; a box with several has the colour of its first."""
    for place, entry in enumerate(picture.legend):
        ruled = (n for n in picture.nodes if n.passages and n.passages[0].rule == entry.rule)
        ids = [id for node in ruled for id in (node.id, f"{node.id}_back")]
        if ids:
            yield f"  classDef rule{place} stroke:{entry.colour},stroke-width:3px"
            yield f"  class {','.join(ids)} rule{place}"


def _text(text: str) -> str:
    return "".join(_ESCAPED.get(letter, letter) for letter in text)


def _plain(text: str) -> str:
    """For the title, which is YAML."""
    return " ".join(text.split()).replace("\\", "\\\\").replace('"', '\\"')

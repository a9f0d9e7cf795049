"""A picture as text for Graphviz."""

from __future__ import annotations

from collections.abc import Iterator

from fxbio.viz.picture import Edge, Node, Picture

__all__ = ["dot"]

_HEAD = """
  rankdir=TB; labelloc=t; fontname="Helvetica"; newrank=true;
  node [fontname="Helvetica", fontsize=11, shape=box, style="rounded,filled", fillcolor="#f6f8fa"];
  edge [fontname="Helvetica", fontsize=9, color="#57606a"];
"""


def dot(picture: Picture) -> str:
    """The picture as a ``digraph``; the passages of a box stand on its rank."""
    lines = [f"digraph {_quoted(picture.title)} {{{_HEAD}"]
    lines.append(f"  label={_quoted(picture.title, *picture.heading)};")
    for node in picture.nodes:
        lines += _node(picture, node)
    lines += (_edge(picture, edge) for edge in picture.edges)
    return "\n".join([*lines, "}\n"])


def _node(picture: Picture, node: Node) -> Iterator[str]:
    repeat = f" × {node.repeat}" if node.repeat > 1 else ""
    if node.kind == "join":
        yield f"  {node.id} [shape=circle, label={_quoted(node.title)}];"
    else:
        yield f"  {node.id} [label={_quoted(node.title + repeat, node.subtitle)}];"
    if node.kind == "input":
        return
    yield f"  {node.id}_back [{_back(picture, node)}];"
    yield f"  {{ rank=same; {node.id}; {node.id}_back; }}"
    transports = sorted({p.transports for p in node.passages if p.used and p.reached} - {"none"})
    arrow = f'color="#cf222e", style=dashed, label={_quoted(", ".join(transports))}'
    yield f"  {node.id} -> {node.id}_back [{arrow if transports else 'style=invis'}];"


def _back(picture: Picture, node: Node) -> str:
    if node.kind == "join":
        return 'shape=point, label=""'
    if node.kind == "output":
        return 'shape=oval, label="error ∂L/∂y"'
    colour = picture.colour(node.passages[0].rule)
    text = _quoted(*(f"{passage.carrier} ({passage.rule})" for passage in node.passages))
    return f'shape=oval, color="{colour}", fillcolor="{colour}33", label={text}'


def _edge(picture: Picture, edge: Edge) -> str:
    if edge.kind == "forward":
        return f"  {edge.source} -> {edge.target};"
    style = "dashed" if edge.kind == "direct" else "solid"
    colour = picture.colour(edge.rule)
    # Told in the direction of the forward path, so that the ranks stay as they are.
    return (
        f"  {edge.target}_back -> {edge.source}_back "
        f'[dir=back, style={style}, color="{colour}", fontcolor="{colour}", '
        f"label={_quoted(edge.carrier)}];"
    )


def _quoted(*lines: str) -> str:
    escaped = (line.replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "\\n".join(escaped) + '"'

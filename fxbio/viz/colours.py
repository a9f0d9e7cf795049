"""Colours by rule."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["NEUTRAL", "PALETTE", "colours_of"]

_USUAL = {
    "bp": "#7d8590",
    "usf": "#1f78c8",
    "fa": "#e08a00",
    "frsf": "#12a07a",
    "brsf": "#3fb0d8",
    "dfa": "#5838fa",
    "kp": "#8f9a1f",
    "dtp": "#a35bc4",
    "dgl": "#c94f8c",
    "stop": "#b0323f",
}
"""The rules met most often look the same in every picture. ``dfa`` is far from the red of weight
transport, for colour-blind eyes too."""

PALETTE = (*_USUAL.values(), "#d4512b", "#6f9e3a", "#b07a4a", "#4aa3a2", "#d07ab8", "#8a6d3b")
"""Of middle brightness, for light and for dark ground."""

NEUTRAL = "#7d8590"
"""Of arrows that no rule has coloured; readable on light and on dark ground."""


def colours_of(rules: Iterable[tuple[str, str]]) -> dict[str, str]:
    """A colour for each label, the same for the same rules in the same order.

    Args:
        rules: label and name of each rule. Labels differ, names need not.
    """
    pairs = list(rules)
    wanted = {_USUAL[name] for _, name in pairs if name in _USUAL}
    free = [colour for colour in PALETTE if colour not in wanted]
    colours: dict[str, str] = {}
    for label, name in pairs:
        usual = _USUAL.get(name)
        if usual is not None and usual not in colours.values():
            colours[label] = usual
        else:
            colours[label] = free.pop(0) if free else PALETTE[len(colours) % len(PALETTE)]
    return colours

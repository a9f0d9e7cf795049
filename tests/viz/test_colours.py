"""Colours of rules."""

from __future__ import annotations

import re

import pytest

from fxbio.viz.colours import PALETTE, colours_of
from fxbio.viz.svg import svg
from tests.colour_vision import BLIND, difference
from tests.viz.nets import chain, picture


@pytest.mark.parametrize("kind", BLIND)
def test_dfa_and_weight_transport_are_apart_for_colour_blind_eyes(kind: str) -> None:
    dfa = colours_of([("dfa", "dfa")])["dfa"]
    drawn = svg(picture(chain(3), "dfa"))
    assert dfa in drawn
    transport = re.findall(r"\.weight\{[^}]*stroke:(#\w{6})", drawn)
    assert len(transport) == 2  # on light and on dark ground
    assert all(difference(dfa, colour, kind) > 0.5 for colour in transport)


def test_rules_have_colours_of_their_own() -> None:
    assert len(set(PALETTE)) == len(PALETTE)
    found = colours_of((f"rule{k}", f"rule{k}") for k in range(len(PALETTE)))
    assert set(found.values()) == set(PALETTE)

from __future__ import annotations

import re
from xml.etree import ElementTree

from pilotfish.pages import svg


def test_the_corners_of_the_plot_are_the_shares_0_and_1():
    (points,) = re.findall(r'points="([^"]*)"', svg.curve([(0.0, 0.0), (1.0, 1.0)], "red"))
    assert points == f"{svg.PAD:.1f},{svg.HEIGHT - svg.PAD:.1f} {svg.WIDTH - svg.PAD:.1f},{svg.TOP:.1f}"


def test_a_figure_is_well_formed_whatever_the_labels_say():
    pieces = [
        svg.axis(),
        svg.area([(0, 0), (1, 0), (1, 1)], "red"),
        svg.level(0.5, "red", "a < b & 'c'"),
        svg.upright(0.2, "red"),
        svg.dot((0.2, 0.5), "red"),
        svg.tick(0.5, "<50>", "left"),
        svg.tick(0.5, "50", "bottom"),
        svg.note('"x"', "top right", "red"),
        svg.note("y", "bottom left"),
    ]
    figure = svg.figure(pieces, 'of "<task>"')
    root = ElementTree.fromstring(f"<div>{figure}</div>")
    drawn = root[0][0]
    assert drawn.attrib["aria-label"] == 'of "<task>"'
    assert len(drawn) == len(pieces) + 1  # a level is a line and a text
    assert [text.text for text in drawn.iter("text")] == ["a < b & 'c'", "<50>", "50", '"x"', "y"]
    assert root[1].text == 'of "<task>".'

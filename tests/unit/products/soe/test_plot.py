"""Charts are well-formed SVG that holds every point."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinfer.products.soe.plot import HEIGHT, WIDTH, line_chart, ticks

SVG = "{http://www.w3.org/2000/svg}"
numbers = st.floats(-1e6, 1e6)


@given(numbers, numbers)
def test_ticks_are_few_and_enclose_the_values(one: float, other: float) -> None:
    low, high = sorted((one, other))
    found = ticks(low, high)
    assert 2 <= len(found) <= 8
    assert found[0] <= low + 1e-6
    assert found[-1] >= high - 1e-6
    assert found == sorted(set(found))


@given(st.lists(numbers, min_size=2, max_size=20))
def test_every_point_is_on_the_paper(values: list[float]) -> None:
    line = list(enumerate(values))
    chart = ElementTree.fromstring(line_chart("t", "x", "y", {"a": line, "b": line}))
    drawn = [p for p in chart.iter(f"{SVG}polyline") if p.get("stroke-width") == "2"]
    assert len(drawn) == 2
    for polyline in drawn:
        points = [tuple(map(float, p.split(","))) for p in polyline.get("points", "").split()]
        assert len(points) == len(values)
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)


def test_texts_are_escaped() -> None:
    chart = line_chart("a < b", "x & y", "€", {"<script>": [(0, 1), (1, 2)]})
    texts = [text.text for text in ElementTree.fromstring(chart).iter(f"{SVG}text")]
    assert {"a < b", "x & y", "€", "<script>"} <= set(texts)


def test_ticks_are_round() -> None:
    assert ticks(0, 97) == pytest.approx([0, 20, 40, 60, 80, 100])

"""Charts as SVG."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from xml.etree import ElementTree as ET

import pytest

from famcli.report.axes import Axes, round_top, ticks
from famcli.report.charts import charts, curves, histogram, kinds
from famcli.results.schema import Results

NUMBER = re.compile(r'<text class="tick" x="\d+" y="\d+">(\d+)</text>')


def heights(drawing: str, series: int) -> list[float]:
    return [float(h) for h in re.findall(rf'class="bar bar{series}" x="[1-9][^>]* height="([\d.]+)"', drawing)]


@pytest.mark.parametrize(
    ("top", "expected"),
    [
        (100, [0, 20, 40, 60, 80, 100]),
        (1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (7, [0, 2, 4, 6]),
        (6000, [0, 2000, 4000, 6000]),
    ],
)
def test_ticks(top: float, expected: list[float]) -> None:
    """Ticks are round numbers, about five of them, from 0 up."""
    assert ticks(top) == pytest.approx(expected)


@pytest.mark.parametrize(("largest", "top"), [(0, 1), (1, 1), (7, 8), (97, 100), (100, 100), (101, 120)])
def test_round_top(largest: float, top: float) -> None:
    """An axis ends at a round number that nothing exceeds."""
    assert round_top(largest) == pytest.approx(top)


def test_axes_map_values_to_places() -> None:
    """0 is at the left and the bottom, 1 and the top value at the other ends."""
    axes = Axes("x", "y", 10)
    assert axes.x(0) < axes.x(0.5) < axes.x(1) <= 440
    assert axes.y(0) - axes.y(10) == pytest.approx(2 * (axes.y(0) - axes.y(5)))


def test_charts_are_well_formed(results: Results) -> None:
    """Every chart is well-formed and has a name and a table of its numbers."""
    made = charts(results)
    drawings = re.findall(r"<svg class=\"chart\".*?</svg>", made, re.DOTALL)
    assert len(drawings) == 3
    for drawing in drawings:
        assert ET.fromstring(drawing).get("aria-label")  # noqa: S314  (our own)
    assert made.count("<details>") == 3


def test_histogram(results: Results) -> None:
    """Bars are as high as their bins are full, CAM beside FAM, and the table says the same numbers."""
    made = histogram(results)
    count = results.rows[0].iou_histogram
    assert count is not None
    assert sum(count) == 30
    bars = heights(made, 0)
    full = [n for n in count if n]
    assert [bar / bars[0] for bar in bars] == pytest.approx([n / full[0] for n in full], rel=0.01)
    assert len(heights(made, 1)) == 1  # CAM's are all in one bin
    for i, n in enumerate(count):
        row = f'<th scope="row">{i / 10:.1f} to {(i + 1) / 10:.1f}</th><td class="number">{n}</td>'
        assert row in made


def test_curve_marks_the_thresholds(results: Results) -> None:
    """The fixed threshold is a filled dot on the curve, the oracle's a hollow one, and both are named."""
    made = curves(results)
    assert 'class="mark mark0"' in made
    assert 'class="mark mark1 hollow"' in made
    assert "τ = 0.5 fixed" in made
    assert "Marked: FAM: τ = 0.5 (fixed); CAM, oracle: τ = 0.2 (oracle)." in made
    axes = Axes("", "", 100)
    at = results.rows[0].curve[results.taus.index(0.5)]
    assert f'cx="{axes.x(0.5):.1f}" cy="{axes.y(at):.1f}"' in made


def test_one_curve_a_method(results: Results) -> None:
    """Rows that differ in their threshold alone share a curve and are both marked on it."""
    cam = results.rows[1]
    more = dataclasses.replace(cam, title="CAM, other", tau=0.4, tau_from="train-fullsup")
    made = curves(dataclasses.replace(results, rows=(*results.rows, more)))
    assert made.count('class="line line1" d="M5') == 1
    assert 'class="line line2"' not in made
    assert "CAM, other: τ = 0.4 (train-fullsup)" in made


def test_kinds(results: Results) -> None:
    """Each kind that occurs has a bar with its number, and every kind is explained."""
    made = kinds(results)
    assert NUMBER.findall(made) == ["5", "0", "5", "0", "5", "30", "5", "0", "5", "0", "5", "0"]
    assert made.count("<dt>") == 6
    assert '<th scope="row">part</th><td class="number">5 (16.7 %)</td><td class="number">30 (100.0 %)</td>' in made


def test_nothing_to_draw(results: Results) -> None:
    """Results without curves, histograms and kinds have no charts."""
    bare = dataclasses.replace(results.rows[0], curve=None, iou_histogram=None, kinds=None)
    assert charts(dataclasses.replace(results, rows=(bare,))) == ""


def test_titles_are_escaped(make_results: Callable[..., Results], results: Results) -> None:
    """A row's title is text wherever it is drawn."""
    odd = dataclasses.replace(results.rows[0], title="<script>x</script>")
    assert "<script>" not in charts(dataclasses.replace(results, rows=(odd,)))

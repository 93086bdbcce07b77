"""Charts as lists of SVG elements."""

from __future__ import annotations

import dataclasses

import pytest

from famcli.report.charts import Chart, charts, curves, error_types, histogram, round_top, ticks
from famcli.results.schema import Results


def drawn(chart: Chart | None, css: str, value: str) -> list[float]:
    """An attribute of the elements of a class."""
    assert chart is not None
    return [float(str(attributes[value])) for _, attributes, _ in chart.shapes if attributes["class"] == css]


def texts(chart: Chart | None) -> list[str]:
    assert chart is not None
    return [text for tag, _, text in chart.shapes if tag == "text"]


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


def test_histogram(results: Results) -> None:
    """Bars are as high as their bins are full, the baseline's beside them, and the table says the same numbers."""
    chart = histogram(results)
    count = results.rows[0].iou_histogram
    assert chart is not None
    assert count is not None
    assert sum(count) == 30
    bars, full = drawn(chart, "bar bar0", "height"), [n for n in count if n]
    assert [bar / bars[0] for bar in bars] == pytest.approx([n / full[0] for n in full], rel=0.01)
    assert len(drawn(chart, "bar bar1", "height")) == 1  # CAM's are all in one bin
    assert chart.numbers.columns == ["IoU", "FAM", "CAM, oracle"]
    lines = chart.numbers.lines()
    assert [line[:2] for line in lines] == [
        [f"{i / 10:.1f} to {(i + 1) / 10:.1f}", str(n)] for i, n in enumerate(count)
    ]


def test_curve_marks_the_thresholds(results: Results) -> None:
    """The fixed threshold is a filled dot on the curve, the oracle's a hollow one, and both are named."""
    chart = curves(results)
    assert chart is not None
    assert {"τ = 0.5 fixed", "τ = 0.2 oracle"} <= set(texts(chart))
    assert chart.note == "Marked: FAM: τ = 0.5 (fixed); CAM, oracle: τ = 0.2 (oracle)."
    (filled,), (hollow,) = drawn(chart, "mark mark0", "cx"), drawn(chart, "mark mark1 hollow", "cx")
    line = next(str(attributes["d"]) for _, attributes, _ in chart.shapes if attributes["class"] == "line line0")
    points = dict(point.split(" ") for point in line.removeprefix("M").split("L"))
    assert float(points[f"{filled:.1f}"]) == drawn(chart, "mark mark0", "cy")[0]
    assert hollow < filled
    assert len(chart.numbers.rows) == len(results.taus)


def test_one_curve_a_method(results: Results) -> None:
    """Rows that differ in their threshold alone share a curve and are both marked on it."""
    more = dataclasses.replace(results.rows[1], title="CAM, other", tau=0.4, tau_from="train-fullsup")
    chart = curves(dataclasses.replace(results, rows=(*results.rows, more)))
    assert chart is not None
    assert chart.numbers.columns == ["τ", "FAM, %", "CAM, %"]
    assert "CAM, other: τ = 0.4 (train-fullsup)" in chart.note


def test_error_types(results: Results) -> None:
    """Each error type that occurs has a bar with its number, and every one is explained."""
    chart = error_types(results)
    assert chart is not None
    numbers = [text for text in texts(chart) if text.isdigit()]
    assert numbers == ["5", "0", "5", "0", "5", "30", "5", "0", "5", "0", "5", "0"]
    assert len(chart.words) == 6
    assert ["part", "5 (16.7 %)", "30 (100.0 %)"] in chart.numbers.lines()


@pytest.mark.parametrize("title", ["whole image", "any method"])
def test_rows_beside_the_first(results: Results, title: str) -> None:
    """Rows of any method are drawn beside the first if their boxes are read from a map, others are not."""
    more = dataclasses.replace(results.rows[1], title=title, tau=None if title == "whole image" else 0.3)
    chart = histogram(dataclasses.replace(results, rows=(results.rows[0], more)))
    assert chart is not None
    assert (title in texts(chart)) == (title == "any method")


def test_nothing_to_draw(results: Results) -> None:
    """Results without curves, histograms and error types have no charts."""
    bare = dataclasses.replace(results.rows[0], curve=None, iou_histogram=None, kinds=None)
    assert charts(dataclasses.replace(results, rows=(bare,))) == []
    assert len(charts(results)) == 3

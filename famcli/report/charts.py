"""Charts of the report as SVG: distribution of IoU (the paper's Fig. 6), accuracy over τ, error types.

A chart is a list of SVG elements, which a template writes. Series differ in filling or dashes as well as in colour, and
each chart is followed by a table of its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from famcli.results.images import ERROR_TYPES
from famcli.results.schema import Results, Row
from famcli.results.tables import Cell, Table

WIDTH, HEIGHT = 440, 290  # of a chart, in units of its viewBox: letters stay readable on a telephone
LEFT, RIGHT, TOP, BOTTOM = 50, 14, 40, 46  # around the plot
LABELS = 114  # width of the names of error types
SERIES = 3  # more than this in one chart are not told apart

_LETTER = 7.2  # width of a letter of the legend
_THICK, _GAP = 13, 12  # of the bars of error types

# An SVG element: tag, attributes and text.
Shape = tuple[str, Mapping[str, object], str]


class Chart(NamedTuple):
    """A figure of the report."""

    name: str  # id of the figure
    title: str
    label: str  # what it shows, for people who do not see it
    note: str  # below it
    shapes: list[Shape]
    numbers: Table  # the same as a table
    height: int = HEIGHT  # of the viewBox
    words: Sequence[tuple[str, str]] = ()  # what the names in the chart mean


def charts(results: Results) -> list[Chart]:
    """All charts that the results have numbers for."""
    return [chart for chart in (histogram(results), curves(results), error_types(results)) if chart]


def histogram(results: Results) -> Chart | None:
    """Images by IoU."""
    rows = [row for row in _compared(results) if row.iou_histogram]
    counts = [row.iou_histogram or () for row in rows]
    if not counts:
        return None
    bins, top, share = len(counts[0]), round_top(max(map(max, counts))), 0.84 / len(rows)  # share of a bin's width
    shapes = [*_frame("IoU of the box with the best true box", "images", top), *_legend([row.title for row in rows])]
    for series, count in enumerate(counts):
        for i, number in enumerate(count):
            left, right = _x((i + 0.08 + series * share) / bins), _x((i + 0.08 + (series + 1) * share) / bins)
            shapes += _bar(series, left, _y(number, top), right - left - 1, _y(0, top) - _y(number, top))
    lines = [
        (f"{i / bins:.1f} to {(i + 1) / bins:.1f}", [Cell(count[i], form="d") for count in counts]) for i in range(bins)
    ]
    numbers = Table(["IoU", *(row.title for row in rows)], lines)
    note = "Images without a box are in the first bin."
    return Chart("iou", "Distribution of IoU", "Images by IoU", note, shapes, numbers)


def curves(results: Results) -> Chart | None:
    """Accuracy at each threshold on the map, with the thresholds that were used."""
    taus = results.taus
    drawn: dict[str, Sequence[float]] = {}  # rows of one method differ in τ alone
    for row in results.rows:
        if row.curve and len(row.curve) == len(taus) > 1:
            drawn.setdefault(row.method, row.curve)
    methods = list(drawn)[:SERIES]
    if not methods:
        return None
    shapes = [*_frame("threshold τ on the map", "right boxes, %", 100), *_legend(methods, lines=True)]
    for series, method in enumerate(methods):
        shapes.append(_line(f"line line{series}", taus, drawn[method]))
    used = [row for row in results.rows if row.method in methods and row.tau is not None]
    for row in used:
        shapes += _mark(taus, row, methods.index(row.method))
    chosen = "; ".join(f"{row.title}: τ = {row.tau:g} ({row.tau_from})" for row in used)
    lines = [
        (f"{taus[i]:g}", [Cell(drawn[method][i]) for method in methods])
        for i in range(0, len(taus), max(1, (len(taus) - 1) // 20))
    ]
    numbers = Table(["τ", *(f"{method}, %" for method in methods)], lines)
    note = f"Marked: {chosen}." if chosen else ""
    return Chart("curve", "Accuracy over τ", "Right boxes over the threshold τ", note, shapes, numbers)


def curves_together(drawn: Mapping[str, tuple[Sequence[float], Sequence[float]]], styles: Sequence[str]) -> Chart:
    """Curves of several evaluations: by name thresholds and accuracies, in percent, each drawn in its style."""
    shapes = [
        *_frame("threshold τ on the map", "right boxes, %", 100),
        *(_line(f"line {style}", *curve) for style, curve in zip(styles, drawn.values(), strict=True)),
    ]
    shared = sorted(set.intersection(*({*taus} for taus, _ in drawn.values())))
    values = [dict(zip(taus, accuracies, strict=True)) for taus, accuracies in drawn.values()]
    shown = shared[:: max(1, (len(shared) - 1) // 20)]
    numbers = Table(["τ", *drawn], [(f"{tau:g}", [Cell(curve[tau]) for curve in values]) for tau in shown])
    return Chart("curve", "Accuracy over τ", "Right boxes over the threshold τ", "", shapes, numbers)


def error_types(results: Results) -> Chart | None:
    """Images by error type."""
    rows = [row for row in _compared(results) if row.kinds]
    if not rows:
        return None
    counts = [row.kinds or {} for row in rows]
    names = [name for name in ERROR_TYPES if any(count.get(name) for count in counts)]
    scale = (WIDTH - LABELS - 60) / max(1, *(max(count.values()) for count in counts))
    step = _THICK * len(rows) + _GAP
    shapes = _legend([row.title for row in rows])
    for i, name in enumerate(names):
        top = 46 + i * step
        shapes.append(_text(LABELS - 6, f"{top + _THICK * len(rows) / 2 + 4:.0f}", name, "end"))
        for series, count in enumerate(counts):
            number, y = count.get(name, 0), top + _THICK * series
            shapes += _bar(series, LABELS, y, number * scale, _THICK - 2)
            shapes.append(_text(f"{LABELS + 4 + number * scale:.0f}", y + 10, str(number), css="tick"))
    lines = [(name, [_share(count, name) for count in counts]) for name in names]
    numbers = Table(["kind", *(f"{row.title}, images" for row in rows)], lines)
    label, height = "Images by kind of error", 48 + len(names) * step
    return Chart("kinds-chart", "Kinds of error", label, "", shapes, numbers, height, tuple(ERROR_TYPES.items()))


def _share(counts: Mapping[str, int], name: str) -> Cell:
    number = counts.get(name, 0)
    return Cell(number, note=f"{100 * number / max(1, sum(counts.values())):.1f} %", form="d")


def _compared(results: Results) -> list[Row]:
    """What was evaluated, and the other rows whose boxes are read from a map."""
    return [results.rows[0], *(row for row in results.rows[1:] if row.tau is not None)][:SERIES]


def ticks(top: float, about: int = 5) -> list[float]:
    """Round numbers from 0 to ``top``: 1, 2 or 5 times a power of ten apart."""
    rough = top / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= 0.9 * rough)
    return [step * i for i in range(int(top / step + 1e-9) + 1)]


def round_top(largest: float) -> float:
    """A round number that is at least ``largest``, to end an axis with."""
    if largest <= 0:
        return 1.0
    step = ticks(largest)[1]
    return max(1.0, math.ceil(largest / step - 1e-9) * step)


def _x(value: float) -> float:
    """Place of a value from 0 to 1."""
    return LEFT + value * (WIDTH - LEFT - RIGHT)


def _y(value: float, top: float) -> float:
    """Place of a value from 0 to ``top``."""
    return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)


def _frame(x_title: str, y_title: str, top: float) -> Iterator[Shape]:
    """Lines, ticks and titles of a plot whose x goes from 0 to 1 and whose y from 0 to ``top``."""
    for value in ticks(top):
        y = f"{_y(value, top):.1f}"
        yield "path", {"class": "grid", "d": f"M{LEFT} {y}H{WIDTH - RIGHT}"}, ""
        yield "text", {"class": "tick", "x": LEFT - 6, "y": y, "dy": 4, "text-anchor": "end"}, f"{value:,g}"
    for i in range(0, 11, 2):
        x = f"{_x(i / 10):.1f}"
        yield _text(x, HEIGHT - BOTTOM + 18, f"{i / 10:g}", "middle", css="tick")
        yield "path", {"class": "axis", "d": f"M{x} {HEIGHT - BOTTOM}v4"}, ""
    yield "path", {"class": "axis", "d": f"M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"}, ""
    yield _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_title, "middle")
    yield _text(4, 14, y_title)


def _legend(names: Sequence[str], *, lines: bool = False) -> list[Shape]:
    """A sample of each series with its name, above the plot."""
    shapes: list[Shape] = []
    x: float = LEFT
    for series, name in enumerate(names):
        if lines:
            shapes.append(("path", {"class": f"line line{series} sample", "d": f"M{x:.0f} 28h22"}, ""))
        else:
            shapes += _bar(series, x, 22, 22, 12, css=" sample")
        shapes.append(_text(f"{x + 27:.0f}", 32, name))
        x += 27 + _LETTER * len(name) + 14
    return shapes


def _mark(taus: Sequence[float], row: Row, series: int) -> list[Shape]:
    """A dot on the curve at a row's τ: filled where τ was fixed beforehand, hollow where the images chose it."""
    tau = row.tau or 0.0
    nearest = min(range(len(taus)), key=lambda i: abs(taus[i] - tau))
    x, y = _x(tau), _y((row.curve or (0.0,) * len(taus))[nearest], 100)
    hollow = " hollow" if row.tau_from == "oracle" else ""
    left = tau > 0.6  # the label is left of the dot
    above = y - 9 if series == 0 else y + 18  # the labels of two curves keep apart
    label = f"τ = {tau:g} {row.tau_from}"
    return [
        ("path", {"class": "used", "d": f"M{x:.1f} {HEIGHT - BOTTOM}V{y:.1f}"}, ""),
        ("circle", {"class": f"mark mark{series}{hollow}", "cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": 5}, ""),
        _text(f"{x + (-8 if left else 8):.1f}", f"{above:.1f}", label, "end" if left else "start", css="chosen"),
    ]


def _line(css: str, taus: Sequence[float], values: Sequence[float]) -> Shape:
    points = "L".join(f"{_x(tau):.1f} {_y(value, 100):.1f}" for tau, value in zip(taus, values, strict=True))
    return "path", {"class": css, "d": f"M{points}"}, ""


def _bar(series: int, x: float, y: float, width: float, height: float, css: str = "") -> list[Shape]:
    if width <= 0 or height <= 0:
        return []
    place = {"x": x, "y": y, "width": width, "height": height}
    attributes = {"class": f"bar bar{series}{css}", **{name: f"{value:.1f}" for name, value in place.items()}}
    return [("rect", attributes, "")]


def _text(x: object, y: object, text: str, anchor: str = "start", css: str = "") -> Shape:
    return "text", {"class": css or None, "x": x, "y": y, "text-anchor": anchor}, text

"""The report's charts: distribution of IoU (the paper's Fig. 6), accuracy over τ, kinds of error.

Series differ in filling or dashes as well as in colour; each chart is followed by a table of its numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from famcli.report.axes import BOTTOM, HEIGHT, WIDTH, Axes, round_top, svg
from famcli.report.markup import numbers_of, text
from famcli.results.images import ERROR_TYPES
from famcli.results.schema import Results, Row

LABELS = 114  # width of the names of kinds
SERIES = 3  # more than this in one chart are not told apart
HATCHES = (
    '<svg class="hidden" width="0" height="0" aria-hidden="true"><defs>'
    '<pattern id="fill1" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect class="series1" width="3" height="6"/></pattern>'
    '<pattern id="fill2" width="5" height="5" patternUnits="userSpaceOnUse">'
    '<circle class="series2" cx="2.5" cy="2.5" r="1.6"/></pattern></defs></svg>\n'
)


def charts(results: Results) -> str:
    """All charts that the results have numbers for, as figures."""
    made = [histogram(results), curves(results), kinds(results)]
    return HATCHES + '<div class="charts">\n' + "".join(made) + "</div>\n" if any(made) else ""


def histogram(results: Results) -> str:
    """Images by IoU, of what was evaluated and of CAM."""
    rows = [row for row in _compared(results) if row.iou_histogram]
    if not rows:
        return ""
    counts = [row.iou_histogram or () for row in rows]
    axes = Axes("IoU of the box with the best true box", "images", round_top(max(max(c) for c in counts)))
    share = 0.84 / len(rows)  # of a bin's width
    bars = []
    for series, count in enumerate(counts):
        for i, number in enumerate(count):
            bins = len(count)
            left, right = axes.x((i + 0.08 + series * share) / bins), axes.x((i + 0.08 + (series + 1) * share) / bins)
            bars.append(_bar(series, left, axes.y(number), right - left - 1, axes.y(0) - axes.y(number)))
    title = "Images by IoU"
    drawing = svg(title, axes.frame() + "".join(bars), [(row.title, _swatch(i)) for i, row in enumerate(rows)])
    bins = len(counts[0])
    table = [
        (f"{i / bins:.1f} to {(i + 1) / bins:.1f}", *(str(count[i]) for count in counts)) for i in range(len(counts[0]))
    ]
    numbers = numbers_of(title, ["IoU", *(text(row.title) for row in rows)], table)
    return _figure("iou", "Distribution of IoU", "Images without a box are in the first bin.", drawing, numbers)


def curves(results: Results) -> str:
    """Accuracy at each threshold on the map, with the thresholds that were used."""
    drawn: dict[str, Row] = {}  # rows of one method differ in τ alone
    for row in results.rows:
        if row.curve and len(row.curve) == len(results.taus) > 1:
            drawn.setdefault(row.method, row)
    methods = list(drawn)[:SERIES]
    if not methods:
        return ""
    axes = Axes("threshold τ on the map", "right boxes, %", 100, percent=True)
    parts, legend = [], []
    for series, method in enumerate(methods):
        points = zip(results.taus, drawn[method].curve or (), strict=True)
        line = "L".join(f"{axes.x(tau):.1f} {axes.y(value):.1f}" for tau, value in points)
        parts.append(f'<path class="line line{series}" d="M{line}"/>')
        legend.append((method, f'<path class="line line{series}" d="M0 6h22"/>'))
    used = [row for row in results.rows if row.method in methods and row.tau is not None]
    marks = [_mark(axes, results.taus, row, methods.index(row.method)) for row in used]
    title = "Right boxes over the threshold τ"
    drawing = svg(title, axes.frame() + "".join(parts + marks), legend)
    chosen = "; ".join(f"{row.title}: τ = {row.tau:g} ({row.tau_from})" for row in used)
    step = max(1, (len(results.taus) - 1) // 20)
    columns = ["τ", *(f"{text(method)}, %" for method in methods)]
    table = [
        (f"{results.taus[i]:g}", *(f"{(drawn[method].curve or ())[i]:.1f}" for method in methods))
        for i in range(0, len(results.taus), step)
    ]
    note = f"Marked: {chosen}." if chosen else ""
    return _figure("curve", "Accuracy over τ", note, drawing, numbers_of(title, columns, table))


def kinds(results: Results) -> str:
    """Images by kind of error."""
    rows = [row for row in _compared(results) if row.kinds]
    if not rows:
        return ""
    names = [kind for kind in ERROR_TYPES if any((row.kinds or {}).get(kind) for row in rows)]
    largest = max(max((row.kinds or {}).values()) for row in rows)
    scale = (WIDTH - LABELS - 60) / max(1, largest)
    thick, gap = 13, 12
    height = 48 + len(names) * (thick * len(rows) + gap)
    parts = []
    for i, kind in enumerate(names):
        top = 46 + i * (thick * len(rows) + gap)
        parts.append(
            f'<text x="{LABELS - 6}" y="{top + thick * len(rows) / 2 + 4:.0f}" text-anchor="end">{text(kind)}</text>'
        )
        for series, row in enumerate(rows):
            number, y = (row.kinds or {}).get(kind, 0), top + thick * series
            parts.append(_bar(series, LABELS, y, number * scale, thick - 2))
            parts.append(f'<text class="tick" x="{LABELS + 4 + number * scale:.0f}" y="{y + 10}">{number}</text>')
    title = "Images by kind of error"
    drawing = svg(title, "".join(parts), [(row.title, _swatch(i)) for i, row in enumerate(rows)], height)
    columns = ["kind", *(f"{text(row.title)}, images" for row in rows)]
    table = [(text(kind), *(_share(row, kind) for row in rows)) for kind in names]
    words = "".join(f"<dt>{text(kind)}</dt><dd>{text(ERROR_TYPES[kind])}</dd>" for kind in ERROR_TYPES)
    meaning = f'<dl class="words">{words}</dl>\n'
    both = f'<div class="beside"><div>{drawing}{numbers_of(title, columns, table)}</div>\n{meaning}</div>\n'
    return _figure("kinds-chart", "Kinds of error", "", both, "")


def _share(row: Row, kind: str) -> str:
    counts = row.kinds or {}
    return f"{counts.get(kind, 0)} ({100 * counts.get(kind, 0) / max(1, sum(counts.values())):.1f} %)"


def _compared(results: Results) -> Sequence[Row]:
    """What was evaluated, and CAM."""
    return [results.rows[0], *(row for row in results.rows[1:] if row.method == "CAM")][:SERIES]


def _figure(name: str, title: str, note: str, drawing: str, rest: str) -> str:
    caption = f'<p class="note">{text(note)}</p>\n' if note else ""
    return f'<figure id="{name}"><figcaption><h3>{text(title)}</h3></figcaption>\n{drawing}{caption}{rest}</figure>\n'


def _bar(series: int, x: float, y: float, width: float, height: float) -> str:
    if width <= 0 or height <= 0:
        return ""
    return f'<rect class="bar bar{series}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'


def _swatch(series: int) -> str:
    return _bar(series, 0, 0, 22, 12)


def _mark(axes: Axes, taus: Sequence[float], row: Row, series: int) -> str:
    """A dot on the curve at a row's τ: filled where τ was fixed beforehand, hollow where the images chose it."""
    tau = row.tau or 0.0
    nearest = min(range(len(taus)), key=lambda i: abs(taus[i] - tau))
    x, y = axes.x(tau), axes.y((row.curve or (0.0,) * len(taus))[nearest])
    hollow = " hollow" if row.tau_from == "oracle" else ""
    end = ' text-anchor="end"' if tau > 0.6 else ""
    label = f"τ = {tau:g} {row.tau_from}"
    above = y - 9 if series == 0 else y + 18  # the labels of two curves keep apart
    return (
        f'<path class="used" d="M{x:.1f} {HEIGHT - BOTTOM}V{y:.1f}"/>'
        f'<circle class="mark mark{series}{hollow}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
        f'<text class="chosen" x="{x + (-8 if end else 8):.1f}" y="{above:.1f}"{end}>{text(label)}</text>'
    )

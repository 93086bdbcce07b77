"""The report's tables: rows with their intervals, paired differences, and one row a class."""

from __future__ import annotations

from collections.abc import Mapping

from famcli.report.markup import table, text
from famcli.results.markdown import COCO
from famcli.results.schema import METRICS, Number, Results


def headline(results: Results) -> str:
    """The first row's numbers, large."""
    row = results.rows[0]
    tiles = [
        f'<div class="tile"><dt>{text(METRICS[name])}</dt><dd>{_with_interval(row.metrics[name])}</dd></div>\n'
        for name in METRICS
        if name in row.metrics
    ]
    return f'<dl class="tiles" data-row="{text(row.title)}">\n{"".join(tiles)}</dl>\n'


def scores(results: Results) -> str:
    """All rows, the paired differences, and the thresholds of each δ."""
    rows = results.rows
    metrics = [name for name in METRICS if any(name in row.metrics for row in rows)]
    coco = [name for name in COCO if any(name in (row.coco or {}) for row in rows)]
    columns = ["method", "τ", *(text(METRICS[name]) for name in metrics), *coco, "no box"]
    cells = [
        (
            text(row.title),
            "" if row.tau is None else text(f"{row.tau:g} {row.tau_from}"),
            *(_with_interval(row.metrics.get(name)) for name in metrics),
            *(_plain((row.coco or {}).get(name)) for name in coco),
            _plain(row.empty),
        )
        for row in rows
    ]
    parts = [table(columns, cells, f"Percent; {_images(results)}", name="scores")]
    if any(row.tau_from == "oracle" for row in rows):
        parts.append("<p>oracle: τ was chosen on these very images, which flatters the row.</p>\n")
    return "".join([*parts, _deltas(results), _differences(results)])


def classes(results: Results) -> str:
    """One row a class, to be sorted and searched by the page's script; nothing without classes."""
    if not results.classes:
        return ""
    scored = [c.top1_loc is not None for c in results.classes]
    columns = ["class", "images", "GT-known", "mean IoU"]
    if any(scored):
        columns += ["Top-1 Loc", "Top-1 Cls"]
    heads = [f'<button type="button" class="sort">{column}</button>' for column in columns]
    rows = [
        (
            f'<a href="#gallery" data-label="{c.label}">{text(c.name or c.label)}</a>',
            str(c.images),
            _plain(c.gt_known),
            _plain(c.mean_iou),
            *((_plain(c.top1_loc), _plain(c.top1_cls)) if any(scored) else ()),
        )
        for c in results.classes
    ]
    search = (
        '<p><label>Find a class <input type="search" id="find-class" autocomplete="off"></label> '
        '<span class="note" id="class-count" role="status"></span></p>\n'
        "<p>A class's name shows its images above.</p>\n"
    )
    return search + table(heads, rows, f"{results.rows[0].title} by class, percent", name="classes-table")


def _differences(results: Results) -> str:
    if not results.differences:
        return ""
    metrics = [name for name in METRICS if any(d.metric == name for d in results.differences)]
    pairs = list(dict.fromkeys((d.of, d.minus) for d in results.differences))
    found = {(d.of, d.minus, d.metric): d.number for d in results.differences}
    rows = [
        (text(f"{of} minus {minus}"), *(_with_interval(found.get((of, minus, name)), signed=True) for name in metrics))
        for of, minus in pairs
    ]
    columns = ["difference", *(text(METRICS[name]) for name in metrics)]
    words = "<p>Points. A difference in bold is clear of 0: its interval does not hold 0.</p>\n"
    return table(columns, rows, "Paired differences on the same images", name="differences") + words


def _deltas(results: Results) -> str:
    """Accuracy at each δ of MaxBoxAcc and MaxBoxAccV2, each at its own τ."""
    rows = [row for row in results.rows if row.at_delta]
    deltas = list(dict.fromkeys(delta for row in rows for delta in row.at_delta or ()))
    if not deltas:
        return ""
    cells = [(text(row.title), *(_at((row.at_delta or {}).get(delta, {})) for delta in deltas)) for row in rows]
    columns = ["method", *(f"IoU from {text(delta)}" for delta in deltas)]
    return table(columns, cells, "Right boxes at each δ, percent; below, its best τ", name="deltas")


def _at(found: Mapping[str, float]) -> str:
    tau = f' <small class="interval">τ = {found["tau"]:g}</small>' if "tau" in found else ""
    return f"{_plain(found.get('value'))}{tau}"


def _images(results: Results) -> str:
    level = results.bootstrap.get("level")
    share = f"; below, the {100 * level:g} % bootstrap interval over images" if isinstance(level, float) else ""
    return f"{results.data.get('images', '?')} images{share}"


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _with_interval(number: Number | None, *, signed: bool = False) -> str:
    if number is None:
        return ""
    form = "+.1f" if signed else ".1f"
    value = f"{number.value:{form}}".replace("-", "−")
    if number.low is None or number.high is None:
        return value
    clear = signed and (number.low > 0 or number.high < 0)
    ends = f"{number.low:{form}} to {number.high:{form}}".replace("-", "−")
    shown = f"<b>{value}</b>" if clear else value
    return f'{shown} <small class="interval">{ends}</small>'

"""Draw the curves of one or several runs from the metrics.csv in their folders, as one SVG file.

    python scripts/plot_runs.py runs/frozen runs/finetuned --out docs/assets/butterflies.svg
    python scripts/plot_runs.py runs/frozen --labels "frozen backbone" --columns total,foreground,spread --out a.svg

The same files give the same bytes: the drawing has no dates, no random names and needs no plotting library.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path

PANELS = {
    "total": "total loss",
    "cla": "classification loss",
    "spa": "sparsity loss",
    "div": "diversity loss",
    "target": "target loss",
    "foreground": "share of foreground",
    "spread": "standard deviation of M",
    "part_similarity": "similarity of part maps",
    "top1": "Top-1 of training views",
    "gt_known": "GT-known Loc for selection, %",
}
FROM_0_TO_1 = ("foreground", "part_similarity", "top1")
COLOURS = ("#00695c", "#c62828", "#1565c0", "#ef6c00", "#6a1b9a", "#5d4037", "#424242")
ACROSS = 3
PANEL_WH = (250, 150)  # of the axes, in pixels
LEFT, TOP, RIGHT, BOTTOM = 52, 30, 18, 34  # room around them
LEGEND = 24  # height of a line of the legend
TICKS = 4


@dataclass(frozen=True, slots=True)
class Curves:
    """One run.

    Attributes:
        label: In the legend.
        epochs: Of each row.
        values: By column; ``nan`` where a row has no value.
    """

    label: str
    epochs: list[float]
    values: dict[str, list[float]]


def read(path: Path, label: str) -> Curves:
    """The metrics of a run folder, or of a CSV file.

    Raises:
        SystemExit: There are none.
    """
    file = path / "metrics.csv" if path.is_dir() else path
    if not file.is_file():
        sys.exit(f"{file} is not there: give run folders in which at least one epoch has ended")
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    if not rows:
        sys.exit(f"{file} has no epoch yet")
    values = {name: [float(row[name] or "nan") for row in rows] for name in PANELS if name in rows[0]}
    return Curves(label, [float(row["epoch"]) for row in rows], values)


def ticks(low: float, high: float) -> list[float]:
    """A few round numbers that span a range."""
    rough = max(high - low, 1e-9) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]


def panel(column: str, runs: list[Curves], left: float, top: float) -> list[str]:
    """The axes and lines of a column, their corner at ``(left, top)``."""
    width, height = PANEL_WH
    shown = [v for run in runs for v in run.values.get(column, []) if math.isfinite(v)]
    marks = ticks(0.0, 1.0) if column in FROM_0_TO_1 else ticks(min(0.0, *shown), max(shown))
    end = max(max(run.epochs) for run in runs)

    def x(epoch: float) -> float:
        return left + width * (0.5 if end == 1 else (epoch - 1) / (end - 1))

    def y(value: float) -> float:
        return top + height * (1 - (value - marks[0]) / (marks[-1] - marks[0]))

    svg = [f'<text x="{left}" y="{top - 10}" class="title">{escape(PANELS[column])}</text>']
    for mark in marks:
        svg.append(f'<path d="M{left} {y(mark):.2f}h{width}" class="grid"/>')
        svg.append(f'<text x="{left - 6}" y="{y(mark) + 4:.2f}" text-anchor="end">{mark:g}</text>')
    svg += [
        f'<text x="{x(epoch):.2f}" y="{top + height + 16}" text-anchor="middle">{epoch}</text>'
        for epoch in sorted({1, math.ceil(end / 2), int(end)})
    ]
    for number, run in enumerate(runs):
        colour = COLOURS[number % len(COLOURS)]
        at = [(x(e), y(v)) for e, v in zip(run.epochs, run.values.get(column, []), strict=False) if math.isfinite(v)]
        svg.append(f'<polyline points="{" ".join(f"{a:.2f},{b:.2f}" for a, b in at)}" stroke="{colour}"/>')
        svg += [f'<circle cx="{a:.2f}" cy="{b:.2f}" r="2" fill="{colour}"/>' for a, b in at]
    return svg


def draw(runs: list[Curves], columns: list[str]) -> str:
    """The SVG file's text."""
    cell_w, cell_h = PANEL_WH[0] + LEFT + RIGHT, PANEL_WH[1] + TOP + BOTTOM
    across = min(ACROSS, len(columns))
    head = LEGEND * len(runs) + 8
    width, height = cell_w * across, head + cell_h * math.ceil(len(columns) / across)
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        "<style>text{font-size:11px}.title{font-weight:bold;font-size:12px}.grid{stroke:#ddd}polyline{fill:none;stroke-width:1.6}</style>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for number, run in enumerate(runs):
        middle = LEGEND * number + LEGEND / 2 + 4
        svg.append(f'<path d="M{LEFT} {middle}h24" stroke="{COLOURS[number % len(COLOURS)]}" stroke-width="3"/>')
        svg.append(f'<text x="{LEFT + 32}" y="{middle + 4}">{escape(run.label)}</text>')
    for number, column in enumerate(columns):
        svg += panel(column, runs, cell_w * (number % across) + LEFT, head + cell_h * (number // across) + TOP)
    right, bottom = width - RIGHT, height - 4
    return "\n".join([*svg, f'<text x="{right}" y="{bottom}" text-anchor="end">epoch</text>', "</svg>", ""])


def main() -> None:
    """Read, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders or metrics files")
    parser.add_argument("--out", type=Path, required=True, help="SVG file")
    parser.add_argument("--labels", nargs="+", help="one for each run; the folders' names if not given")
    parser.add_argument("--columns", help=f"some of {','.join(PANELS)}; all that any run has if not given")
    given = parser.parse_args()
    labels = given.labels or [path.resolve().name for path in given.runs]
    if len(labels) != len(given.runs):
        parser.error(f"{len(labels)} labels for {len(given.runs)} runs")
    runs = [read(path, label) for path, label in zip(given.runs, labels, strict=True)]
    having = [column for column in PANELS if any(math.isfinite(v) for run in runs for v in run.values.get(column, []))]
    columns = given.columns.split(",") if given.columns else having
    if strange := [column for column in columns if column not in having]:
        parser.error(f"no run has the column {strange[0]}; there are {', '.join(having)}")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(draw(runs, columns), encoding="utf-8")
    print(f"wrote {given.out}")


if __name__ == "__main__":
    main()

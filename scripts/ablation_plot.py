"""The plot of figure 7's axes as an SVG file's text; the same results give the same bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from ablation_results import Mean, Result, mean
from ablation_rows import Axis
from plot_runs import COLOURS, ticks

SERIES = {"gt_known": "GT-known Loc, %", "top1_cls": "Top-1 Cls, %"}
PANEL_WH = (300, 170)  # of the axes, in pixels
LEFT, TOP, RIGHT, BOTTOM = 44, 34, 18, 34  # room around them
HEAD = 34  # height of the legend
ACROSS = 2
STYLE = (
    "text{font-size:11px}.title{font-weight:bold;font-size:12px}.grid{stroke:#ddd}"
    "polyline{fill:none;stroke-width:1.6}.bar{stroke-width:1.2}"
)


def panel(axis: Axis, results: Sequence[Result], left: float, top: float) -> list[str]:
    """One axis, its corner at ``(left, top)``; the values stand at equal distances, bars are ± sd."""
    width, height = PANEL_WH
    rows = axis.rows()
    series = {score: [mean(results, row, score) for row in rows] for score in SERIES}
    shown = [m.mean + m.sd for means in series.values() for m in means if m.n]
    marks = ticks(0.0, max(shown, default=1.0))

    def x(place: int) -> float:
        return left + width * (place + 0.5) / len(rows)

    def y(value: float) -> float:
        return top + height * (1 - (value - marks[0]) / (marks[-1] - marks[0]))

    title = f"{axis.symbol} (here {axis.base:g}, the paper's choice {axis.best:g})"
    svg = [f'<text x="{left}" y="{top - 12}" class="title">{escape(title)}</text>']
    for mark in marks:
        svg.append(f'<path d="M{left} {y(mark):.2f}h{width}" class="grid"/>')
        svg.append(f'<text x="{left - 6}" y="{y(mark) + 4:.2f}" text-anchor="end">{mark:g}</text>')
    for place, row in enumerate(rows):
        svg.append(f'<text x="{x(place):.2f}" y="{top + height + 16}" text-anchor="middle">{escape(row.label)}</text>')
    for colour, means in zip(COLOURS, series.values(), strict=False):
        at = [(x(place), m) for place, m in enumerate(means) if m.n]
        svg.append(f'<polyline points="{" ".join(f"{a:.2f},{y(m.mean):.2f}" for a, m in at)}" stroke="{colour}"/>')
        svg += [mark for a, m in at for mark in point(a, m, y(m.mean), height / (marks[-1] - marks[0]), colour)]
    return svg


def point(at: float, value: Mean, middle: float, scale: float, colour: str) -> list[str]:
    """A mean and its bar; ``scale`` is pixels for one percent."""
    svg = [f'<circle cx="{at:.2f}" cy="{middle:.2f}" r="2.5" fill="{colour}"/>']
    if value.sd:
        svg.append(
            f'<path d="M{at:.2f} {middle - value.sd * scale:.2f}v{2 * value.sd * scale:.2f}" '
            f'stroke="{colour}" class="bar"/>'
        )
    return svg


def draw(axes: Sequence[Axis], results: Sequence[Result]) -> str:
    """The SVG file's text."""
    cell_w, cell_h = PANEL_WH[0] + LEFT + RIGHT, PANEL_WH[1] + TOP + BOTTOM
    width, height = cell_w * ACROSS, HEAD + cell_h * math.ceil(len(axes) / ACROSS)
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        f"<style>{STYLE}</style>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for number, (colour, name) in enumerate(zip(COLOURS, SERIES.values(), strict=False)):
        left = LEFT + 170 * number
        svg.append(f'<path d="M{left} 16h24" stroke="{colour}" stroke-width="3"/>')
        svg.append(f'<text x="{left + 32}" y="20">{escape(name)}</text>')
    for number, axis in enumerate(axes):
        svg += panel(axis, results, cell_w * (number % ACROSS) + LEFT, HEAD + cell_h * (number // ACROSS) + TOP)
    return "\n".join([*svg, "</svg>", ""])

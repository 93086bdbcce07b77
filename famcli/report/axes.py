"""Axes of a chart as SVG: frame, ticks, titles, and where a value lies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from famcli.report.markup import text

WIDTH, HEIGHT = 440, 290  # of a chart, in units of its viewBox: letters stay readable on a telephone
LEFT, RIGHT, TOP, BOTTOM = 50, 14, 40, 46  # around the plot
LEGEND_LETTER = 7.2  # width of a letter of the legend


@dataclass(frozen=True, slots=True)
class Axes:
    """A plot whose x goes from 0 to 1 and whose y from 0 to ``top``.

    Attributes:
        x_title: Below.
        y_title: Above the y axis.
        top: The largest y.
        percent: y are percent.
    """

    x_title: str
    y_title: str
    top: float
    percent: bool = False

    def x(self, value: float) -> float:
        """Place of a value of x, in units of the viewBox."""
        return LEFT + value * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Place of a value of y."""
        return HEIGHT - BOTTOM - value / self.top * (HEIGHT - TOP - BOTTOM)

    def frame(self) -> str:
        """Lines, ticks and titles."""
        parts = []
        for value in ticks(self.top):
            y = f"{self.y(value):.1f}"
            parts.append(f'<path class="grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>')
            parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y}" dy="4" text-anchor="end">{value:,g}</text>')
        for i in range(0, 11, 2):
            parts.append(
                f'<text class="tick" x="{self.x(i / 10):.1f}" y="{HEIGHT - BOTTOM + 18}" '
                f'text-anchor="middle">{i / 10:g}</text>'
            )
            parts.append(f'<path class="axis" d="M{self.x(i / 10):.1f} {HEIGHT - BOTTOM}v4"/>')
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{text(self.x_title)}</text>')
        parts.append(f'<text x="4" y="14">{text(self.y_title)}</text>')
        return "".join(parts)


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


def svg(title: str, content: str, legend: Sequence[tuple[str, str]], height: int = HEIGHT) -> str:
    """A chart.

    Args:
        title: What it shows, for people who do not see it.
        content: Its elements.
        legend: Name and sample of each series: an element drawn on 22 x 12 units.
        height: Of the viewBox.
    """
    parts, x = [], float(LEFT)
    for name, sample in legend:
        parts.append(f'<g transform="translate({x:.0f} 22)">{sample}<text x="27" y="10">{text(name)}</text></g>')
        x += 27 + LEGEND_LETTER * len(name) + 14
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{text(title)}">'
        f"{content}{''.join(parts)}</svg>\n"
    )

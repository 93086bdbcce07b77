"""Tables and plot of docs/concepts/rivals.md, from the results of ``table1.py run``.

What is said beside the tables is computed from the numbers, so that it cannot say what they do not.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from itertools import combinations
from pathlib import Path

import numpy as np
from generated import write_or_check
from markdown_table import table
from plot_runs import COLOURS
from table1_paper import paper_table
from table1_results import Result, read

from famcli.evaluation.bootstrap import Bootstrap
from famcli.results.paper import TABLE1

ROOT = Path(__file__).parent.parent
PAGE, PLOT = Path("docs/concepts/rivals.md"), Path("docs/assets/methods.svg")
MARKER = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class Row:
    """One method, and what its differences are to."""

    name: str  # the first part of its recipes
    label: str
    beside: str = "cam"
    marked: bool = False  # where it is placed on MobileNetV1, or how it is fitted to it, is our choice


ROWS = (
    Row("cam", "CAM"),
    Row("cam-head", "CAM, head of two convolutions"),
    Row("has", "HaS"),
    Row("cutmix", "CutMix"),
    Row("adl", "ADL", marked=True),
    Row("acol", "ACoL", "cam-head", marked=True),
    Row("spg", "SPG", "cam-head", marked=True),
    Row("danet", "DANet, one level", "cam-head", marked=True),
    Row("eil", "EIL (single)", marked=True),
    Row("i2c", "I²C", "cam-head", marked=True),
    Row("rcam", "RCAM"),
    Row("bas", "BAS"),
    Row("psol", "PSOL", marked=True),
    Row("gcnet", "GC-Net", marked=True),
    Row("fam", "FAM, the paper's losses alone"),
    Row("fam-ext", "FAM with our extensions"),
)
BY_NAME: Mapping[str, Row] = {row.name: row for row in ROWS}
IN_PAPER = ("cam", "has", "adl", "rcam", "fam")  # rows of the paper's Table 1 with MobileNetV1
DATA = {"imagenette-wsol": "imagenette-wsol", "butterflies": "butterflies"}


def of(results: Sequence[Result], name: str, data: str, backbone: str = "mobilenetv1") -> list[Result]:
    """The runs of a row on a data set, by seed."""
    recipe = f"{name}-{backbone}-{data}"
    return sorted((r for r in results if (r.recipe, r.data) == (recipe, data)), key=lambda r: r.seed)


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean ± sample standard deviation; the value alone of a single run."""
    if not values:
        return ""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def scores(runs: Sequence[Result], name: str) -> list[float]:
    """One score of each run that has it; methods that give boxes have no threshold."""
    return [run.scores[name] for run in runs if name in run.scores and not math.isnan(run.scores[name])]


@cache
def bootstrap(images: int) -> Bootstrap:
    """The resamples of all differences on so many images."""
    return Bootstrap(images)


def difference(runs: Sequence[Result], others: Sequence[Result]) -> str:
    """Paired difference in GT-known at the best threshold, with its 95 % interval over images, of the same seeds."""
    seeds = {run.seed for run in runs} & {other.seed for other in others}

    def right(of_row: Sequence[Result]) -> np.ndarray:
        return np.mean([[int(bit) for bit in run.right_oracle] for run in of_row if run.seed in seeds], axis=0)

    if not seeds:
        return ""
    each = right(runs) - right(others)
    draws = bootstrap(len(each))
    low, high = draws.interval(draws.means(each[:, None])[:, 0])
    sign = "**" if low > 0 or high < 0 else ""
    return f"{sign}{100 * each.mean():+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]{sign}".replace("-", "−")


def of_data(results: Sequence[Result], data: str, rows: Sequence[Row] = ROWS, backbone: str = "mobilenetv1") -> str:
    """The scores of all rows on one data set, and what the centre box and the whole image get right."""
    masks = any("pxap" in run.scores for run in results if run.data == data)
    header = ["method", "seeds", "GT-known", "at best τ", "best τ", "Top-1 Loc", "Top-1 Cls", "MaxBoxAccV2"]
    columns = ["gt_known", "oracle_gt_known", "oracle_tau", "top1_loc", "top1_cls", "max_box_acc_v2"]
    if masks:
        header, columns = [*header, "PxAP"], [*columns, "pxap"]
    lines = []
    for row in rows:
        runs = of(results, row.name, data, backbone)
        cells = [spread(scores(runs, column), 2 if column == "oracle_tau" else 1) for column in columns]
        cells = cells if runs else [NOT_RUN, *[""] * (len(columns) - 1)]
        against = difference(runs, of(results, row.beside, data, backbone)) if row.name != row.beside else ""
        minus = BY_NAME[row.beside].label.partition(",")[0] + (" with the head" if row.beside == "cam-head" else "")
        mark = " †" if row.marked and backbone == "mobilenetv1" else ""
        lines.append([row.label + mark, str(len(runs) or ""), *cells, f"{against} to {minus}" if against else ""])
    for fixed, label in (("centre", "centre box, 70 % of each side"), ("whole", "whole image")):
        value = next((run.scores[fixed] for run in results if run.data == data and fixed in run.scores), None)
        if value is not None:
            lines.append([label, "", f"{value:.1f}", *[""] * (len(columns) - 1), ""])
    return table([*header, "difference at best τ"], lines)


def readings(results: Sequence[Result], data: str) -> str:
    """What the numbers say of the order of methods, in sentences."""
    have = {row: of(results, row.name, data) for row in ROWS}
    known = {row: statistics.fmean(scores(runs, "oracle_gt_known")) for row, runs in have.items() if runs}
    if not known:
        return ""
    best = max(known, key=lambda row: known[row])
    said = [f"{len(known)} of {len(ROWS)} rows were run."] if len(known) < len(ROWS) else []
    said += [f"Highest in GT-known at its best threshold: **{best.label}**, {known[best]:.1f}."]
    centre = next((run.scores["centre"] for run in results if run.data == data and "centre" in run.scores), None)
    if centre is not None:
        below = [row.label for row, value in known.items() if value <= centre]
        said.append(f"Not above the centre box ({centre:.1f}) even at their best threshold: {listed(below)}.")
    significant = [
        row.label
        for row, runs in have.items()
        if runs and row.name != row.beside and difference(runs, of(results, row.beside, data)).startswith("**")
    ]
    said.append(f"Their difference to CAM has an interval without 0: {listed(significant)}.")
    pxap = {row: statistics.fmean(scores(runs, "pxap")) for row, runs in have.items() if scores(runs, "pxap")}
    own = BY_NAME["fam-ext"]
    if own in pxap:
        above = [f"{row.label} ({value:.1f})" for row, value in pxap.items() if value >= pxap[own] and row is not own]
        said.append(f"Not below {own.label} in PxAP ({pxap[own]:.1f}): {listed(above)}.")
    return " ".join(said)


def listed(names: Sequence[str]) -> str:
    """Names in a sentence."""
    return ", ".join(names) if names else "none"


def order(results: Sequence[Result]) -> str:
    """The paper's order of MobileNetV1's methods beside ours, by Top-1 Loc, which the paper prints for all of them."""
    printed = {row.method: row.top1_loc for row in TABLE1["ilsvrc", "mobilenetv1"]}
    names = {"cam": "CAM", "has": "HaS", "adl": "ADL", "rcam": "RCAM", "fam": "FAM"}
    lines, ours = [], {}
    for name in IN_PAPER:
        runs = of(results, name, "imagenette-wsol")
        ours[name] = statistics.fmean(scores(runs, "top1_loc")) if runs else None
        shown = spread(scores(runs, "top1_loc")) or NOT_RUN
        lines.append([names[name], f"{printed[names[name]]:.2f}" if names[name] in printed else "", shown])
    known = [name for name in IN_PAPER if ours[name] is not None and names[name] in printed]
    wrong = [
        f"{names[b]} over {names[a]}"
        for a, b in combinations(sorted(known, key=lambda name: printed[names[name]]), 2)
        if (ours[b] or 0) <= (ours[a] or 0)
    ]
    said = f"Of the paper's order not found here: {listed(wrong)}."
    return table(["method", "paper, ILSVRC, Top-1 Loc", "here, imagenette-wsol, Top-1 Loc"], lines) + "\n\n" + said


def cost(results: Sequence[Result]) -> str:
    """Parameters and time of each row, in multiples of CAM's step."""
    lines = []
    for row in ROWS:
        runs = of(results, row.name, "imagenette-wsol") + of(results, row.name, "butterflies")
        if not runs:
            lines.append([row.label, NOT_RUN, "", "", ""])
            continue
        ratios = [
            run.step_seconds / base.step_seconds
            for run in runs
            for base in of(results, "cam", run.data)
            if base.seed == run.seed and base.threads == run.threads
        ]
        before = statistics.fmean(run.prepare_seconds for run in runs)
        millions = f"{runs[0].parameters / 1e6:.1f}"
        step = f"{statistics.median(run.step_seconds for run in runs):.2f} s"
        lines.append(
            [row.label, millions, step, f"{statistics.median(ratios):.1f}" if ratios else "", f"{before:.0f} s"]
        )
    return table(["method", "million parameters", "a step", "of CAM's", "before the first step"], lines)


def budget(results: Sequence[Result]) -> str:
    """What was trained on what, in a sentence for each data set."""
    said = []
    for data in DATA:
        runs = [run for run in results if run.data == data and "-mobilenetv1-" in run.recipe]
        if runs:
            images = listed(sorted({str(run.train_images) for run in runs}))
            epochs = listed(sorted({str(run.epochs) for run in runs}))
            said.append(f"- `{data}`: {images} training images, {epochs} epochs, {len(runs)} runs in all.")
    return "\n".join(said)


def inception(results: Sequence[Result]) -> str:
    """The rows with InceptionV3, one seed."""
    rows = [BY_NAME[name] for name in ("cam", "adl", "spg", "i2c", "psol", "fam")]
    return of_data(results, "imagenette-wsol", rows, "inceptionv3")


TABLES: Mapping[str, Callable[[Sequence[Result]], str]] = {
    "budget": budget,
    "paper": lambda _: paper_table(),
    "imagenette": lambda results: of_data(results, "imagenette-wsol") + "\n\n" + readings(results, "imagenette-wsol"),
    "butterflies": lambda results: of_data(results, "butterflies") + "\n\n" + readings(results, "butterflies"),
    "inception": inception,
    "order": order,
    "cost": cost,
}


def draw(results: Sequence[Result]) -> str:
    """GT-known of each row at its own threshold and at the best one, on both data sets, as an SVG file's text."""
    left, width, high, head = 210, 300, 18, 46
    box = f"0 0 {left + 2 * (width + 30)} {head + high * len(ROWS) + 24}"
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for number, (colour, name) in enumerate(
        zip(COLOURS, ("at its own τ", "at the best τ of the test split"), strict=False)
    ):
        svg.append(f'<circle cx="{left + 110 * number}" cy="12" r="4" fill="{colour}"/>')
        svg.append(f'<text x="{left + 9 + 110 * number}" y="16">{escape(name)}</text>')
    for place, data in enumerate(DATA):
        x0 = left + place * (width + 30)
        svg.append(f'<text x="{x0}" y="36" font-weight="bold">{escape(data)}, GT-known Loc, %</text>')
        for mark in range(0, 101, 20):
            x = x0 + width * mark / 100
            svg.append(f'<path d="M{x:.1f} {head}v{high * len(ROWS)}" stroke="#ddd"/>')
            svg.append(f'<text x="{x:.1f}" y="{head + high * len(ROWS) + 14}" text-anchor="middle">{mark}</text>')
        for i, row in enumerate(ROWS):
            y = head + high * (i + 0.5)
            if place == 0:
                svg.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(row.label)}</text>')
            for colour, score in zip(COLOURS, ("gt_known", "oracle_gt_known"), strict=False):
                values = scores(of(results, row.name, data), score)
                if values:
                    mean, sd = statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0
                    x, bar = x0 + width * mean / 100, width * sd / 100
                    svg.append(f'<path d="M{x - bar:.1f} {y:.1f}h{2 * bar:.1f}" stroke="{colour}"/>')
                    svg.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')
    return "\n".join([*svg, "</svg>", ""])


def write(path: Path, *, check: bool) -> int:
    """Fill the page's tables and draw the plot; with ``check`` say whether they are out of date."""
    results = read(path)
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    filled = MARKER.sub(lambda found: f"{found[1]}\n{TABLES[found[2]](results)}\n\n{found[3]}", page)
    files = {ROOT / PAGE: filled, ROOT / PLOT: draw(results)}
    return write_or_check(files, "scripts/table1.py write", check=check)

"""Tables and facts of an evaluation: computed once, shown by the terminal, Markdown, the HTML report and model cards.

What was not measured is an empty cell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from famcli.data.sample import TEST, split_name
from famcli.results.paper import IMAGES, TABLE1
from famcli.results.schema import COCO, METRICS, SIZES, SMOKE, Number, Results

PAPER_COLUMNS = ("gt_known", "top1_loc", "top1_cls")

_SPECIAL = re.compile(r"[\\`*_\[\]<>|#&~]")  # in Markdown
_PAPER = (
    "The paper gives no intervals. It took the numbers of other methods from other papers, whose crops and thresholds "
    "may differ; what it does not say about its own is decided here as under “How it was measured”."
)

SIZE_NOTE = (
    "By object size: a column has the images whose largest true box covers that share of them. Intervals are Wilson's, "
    "of 95 %; after “area ×” is the median ratio of the predicted area to that of this true box."
)

# What facts are called where the key alone does not say it.
TITLES: Mapping[str, str] = {
    "images_of_split": "images of the split",
    "masks": "images with masks",
    "sha256": "SHA-256",
    "weights_sha256": "SHA-256 of the weights",
    "data": "trained on",
    "tuned_on_test": "tuned on the test split",
    "interval": "interval of τ",
    "same_classes": "labels are classes of the model",
    "iou": "IoU",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A number in a table; nothing where nothing was measured."""

    value: float | None = None
    low: float | None = None  # of its interval
    high: float | None = None
    note: str = ""  # a few words beside it, such as how a threshold was chosen
    sd: float | None = None  # standard deviation over seeds, of a mean
    form: str = "f"  # f for percent, +f for a difference in points, g for a threshold, d for a count

    @classmethod
    def from_number(cls, number: Number | None, form: str = "f") -> Cell:
        """A measured number, or nothing."""
        return cls() if number is None else cls(number.value, number.low, number.high, form=form)

    def number(self, digits: int = 2) -> str:
        """The value alone, or with its deviation; percent and points have so many digits after the point."""
        if self.value is None:
            return ""
        return self._shown(self.value, digits) + ("" if self.sd is None else f" ± {self.sd:.{digits}f}")

    def interval(self, digits: int = 2, between: str = ", ") -> str:
        """Both ends, or nothing."""
        if self.low is None or self.high is None:
            return ""
        return self._shown(self.low, digits) + between + self._shown(self.high, digits)

    def text(self, digits: int = 2, escape: Callable[[str], str] = str) -> str:
        """The value, its interval and its note in a line; ``escape`` is done to the note."""
        interval = self.interval(digits)
        parts = (self.number(digits), interval and f"[{interval}]", self.note and f"({escape(self.note)})")
        return " ".join(part for part in parts if part)

    @property
    def clear(self) -> bool:
        """It is a difference whose interval does not hold 0."""
        return self.form == "+f" and self.low is not None and self.high is not None and not self.low <= 0 <= self.high

    def _shown(self, value: float, digits: int) -> str:
        return f"{value:{self.form.replace('f', f'.{digits}f').replace('g', '.4g')}}"


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose first column says what a row is of."""

    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]  # a cell for each of the other columns

    def lines(self, digits: int = 2, escape: Callable[[str], str] = str) -> list[list[str]]:
        """The rows as plain text; ``escape`` is done to each text that came from a file."""
        return [[escape(of), *(cell.text(digits, escape) for cell in cells)] for of, cells in self.rows]


def scores(results: Results) -> Table:
    """A line for each row: its threshold, what was measured, and the share of images without a box."""
    rows = results.rows
    metrics = [name for name in METRICS if any(name in row.metrics for row in rows)]
    coco = [name for name in COCO if any(name in (row.coco or {}) for row in rows)]
    lines = [
        (
            row.title,
            [
                Cell() if row.tau is None else Cell(row.tau, note=row.tau_from, form="g"),
                *(Cell.from_number(row.metrics.get(name)) for name in metrics),
                *(Cell((row.coco or {}).get(name)) for name in coco),
                Cell(row.empty),
            ],
        )
        for row in rows
    ]
    return Table(["method", "τ", *(METRICS[name] for name in metrics), *coco, "no box"], lines)


def deltas(results: Results) -> Table:
    """MaxBoxAcc and MaxBoxAccV2 at each δ, each at its own τ; other protocols have no rows."""
    rows = [row for row in results.rows if row.at_delta]
    names = list(dict.fromkeys(delta for row in rows for delta in row.at_delta or ()))
    lines = [(row.title, [_at((row.at_delta or {}).get(delta, {})) for delta in names]) for row in rows]
    return Table(["method", *(f"IoU from {delta}" for delta in names)], lines)


def _at(found: Mapping[str, float]) -> Cell:
    return Cell(found.get("value"), note=f"τ = {found['tau']:.4g}" if "tau" in found else "")


def differences(results: Results) -> Table:
    """Paired differences of the first row to the others, in points."""
    names = [name for name in METRICS if any(d.metric == name for d in results.differences)]
    found = {(d.of, d.minus, d.metric): d.number for d in results.differences}
    pairs = dict.fromkeys((d.of, d.minus) for d in results.differences)
    lines = [
        (f"{of} minus {minus}", [Cell.from_number(found.get((of, minus, name)), "+f") for name in names])
        for of, minus in pairs
    ]
    return Table(["difference", *(METRICS[name] for name in names)], lines)


def sizes(results: Results) -> Table:
    """A line for each row that was scored by size, a column for each bin; :data:`SIZE_NOTE` says what is in a cell."""
    return size_table(
        {
            row.title: [(of.images, Cell.from_number(of.gt_known), of.area_ratio) for of in row.sizes]
            for row in results.rows
            if row.sizes
        }
    )


def size_table(rows: Mapping[str, Sequence[tuple[int, Cell, float | None]]]) -> Table:
    """By method, for each bin its number of images, GT-known, and the ratio of predicted to true area."""
    counts = [images for images, _, _ in next(iter(rows.values()), ())]
    lines = [
        (of, [replace(cell, note="" if ratio is None else f"area × {ratio:,.2f}") for _, cell, ratio in bins])
        for of, bins in rows.items()
    ]
    columns = (f"{low} to {high} %, n = {n:,}" for (low, high), n in zip(pairwise(SIZES), counts, strict=False))
    return Table(["GT-known by object size", *columns], lines)


def classes(results: Results) -> Table:
    """The first row class by class, in the order of ``results.classes``."""
    scored = any(row.top1_loc is not None for row in results.classes)
    names = ["gt_known", "mean_iou", *(["top1_loc", "top1_cls"] if scored else [])]
    lines = [
        (row.name or str(row.label), [Cell(row.images, form="d"), *(Cell(getattr(row, name)) for name in names)])
        for row in results.classes
    ]
    return Table(["class", "images", *(METRICS[name] for name in names)], lines)


def beside_paper(results: Results) -> Table:
    """The paper's rows below those measured with its methods.

    There are some only for a backbone of the paper on the whole test split of the paper's data.
    """
    data = results.data
    whole = split_name(data["split"]) == TEST and not data.get("partial") and data["images"] == IMAGES.get(data["name"])
    comparable = whole and results.kind != SMOKE
    paper = TABLE1.get((data["name"], str(results.source.get("backbone"))), ()) if comparable else ()
    measured = [
        (f"{row.title} (measured)", [Cell.from_number(row.metrics.get(name)) for name in PAPER_COLUMNS])
        for row in results.rows
        if any(row.method == of_paper.method for of_paper in paper)
    ]
    printed = [(row.title, [Cell(getattr(row, name)) for name in PAPER_COLUMNS]) for row in paper]
    return Table(["method", *(METRICS[name] for name in PAPER_COLUMNS)], [*measured, *printed])


def title(results: Results) -> str:
    """What was measured on what, in a line."""
    return f"{results.source['name']} on {results.data['name']}/{results.data['split']}"


def summary(results: Results) -> str:
    """What a number must never be without, in a line: n, protocol, threshold, weights, day."""
    row, weights = results.rows[0], results.source.get("weights_sha256")
    parts = [
        f"{results.data['images']} images",
        f"protocol {results.protocol['name']}",
        "" if row.tau is None else f"τ = {row.tau:.4g} ({row.tau_from})",
        str(results.source.get("views") or ""),
        f"weights {str(weights)[:12]}" if weights else "",  # the facts have the whole hash
        results.created[:10],
    ]
    return " · ".join(part for part in parts if part)


def warnings(results: Results) -> Iterator[tuple[str, str]]:
    """What must be read before any number: a word, and a sentence."""
    if results.kind == SMOKE:
        yield "Smoke check", "These numbers say that the program works, and nothing about a method."
    if results.data.get("partial"):
        of = results.data.get("images_of_split") or "more"
        yield "Partial", f"Only {results.data['images']} of {of} images were scored."
    chosen = "was chosen on the split that it is scored on."
    if results.source.get("tuned_on_test"):
        yield "Tuned on these images", f"The model {chosen}"
    if any(value for key, value in results.source.items() if key.endswith("_tuned_on_test")):
        yield "Tuned on these images", f"The model that it is compared with {chosen}"


def facts(results: Results) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """What must be the same before two numbers are laid side by side: groups of names and values."""
    rules = results.protocol.get("rules") or {}
    groups: Mapping[str, Mapping[str, Any]] = {
        "Data": results.data,
        "Source": results.source,
        "Protocol": {**results.protocol, "same_classes": results.same_classes},
        "Thresholds": {row.title: f"τ = {row.tau:.4g}, {row.tau_from}" for row in results.rows if row.tau is not None},
        "Bootstrap": results.bootstrap,
        "Versions": {"created": results.created, **results.versions},
        "Rules": rules if isinstance(rules, Mapping) else {"in words": rules},
    }
    for group, values in groups.items():
        found = [
            (TITLES.get(key, key.replace("_", " ")), _fact(value))
            for key, value in values.items()  # class names have a table of their own, and rules a group
            if key not in {"class_names", "rules"} and value is not None and value != ""
        ]
        if found:
            yield group, found


def _fact(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and value >= 10_000:
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {part}" for key, part in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def markdown(results: Results) -> str:
    """The result as a page of Markdown, ending with a line break."""
    parts = [f"# {literal(title(results))}"]
    parts += [f"**{head}: {sentence}**" for head, sentence in warnings(results)]
    parts += [markdown_table(scores(results)), _reading(results)]
    for heading, found, note in (
        ("Thresholds", deltas(results), ""),
        ("Paired differences", differences(results), "In points, on the same images."),
        ("By object size", sizes(results), SIZE_NOTE),
        ("Beside the paper", beside_paper(results), _PAPER),
    ):
        if found.rows:
            parts += [f"## {heading}", markdown_table(found), note]
    parts.append("## How it was measured")
    for group, values in facts(results):
        parts += [f"### {group}", "\n".join(f"- {literal(name)}: {literal(value)}" for name, value in values)]
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown_table(found: Table, digits: int = 2) -> str:
    """A table in Markdown; texts in it are taken literally."""
    lines = [[literal(column) for column in found.columns], [":--", *["--:"] * (len(found.columns) - 1)]]
    lines += found.lines(digits, literal)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _reading(results: Results) -> str:
    words = "All numbers are in percent."
    level = results.bootstrap.get("level")
    if level:
        how = ", ".join(f"{key} {results.bootstrap[key]}" for key in ("resamples", "seed") if key in results.bootstrap)
        words += (
            f" In brackets: {100 * level:g} % bootstrap interval over images{f' ({how})' if how else ''};"
            " it does not cover another training seed."
        )
    return words


def literal(text: str) -> str:
    """A text in a line of Markdown, taken literally."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))

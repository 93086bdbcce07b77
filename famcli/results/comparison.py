"""Several evaluations of the same images side by side: ``compare.json``, its tables, and ``compare.md``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from famcli.results.io import read_document, write_pieces
from famcli.results.schema import (
    METRICS,
    BootstrapFacts,
    Count,
    DataFacts,
    Difference,
    Flag,
    FreeFacts,
    Percent,
    Points,
    ProtocolFacts,
    Real,
    Text,
    check,
    dumps,
)
from famcli.results.tables import SIZE_NOTE, Cell, Table, literal, markdown_table, size_table
from famcli_models.errors import DataError

FORMAT, FORMAT_VERSION = "fam-comparison", 1
JSON_NAME, MARKDOWN_NAME = "compare.json", "compare.md"
COLUMNS = ("gt_known", "top1_loc", "top1_cls", "mean_iou", "max_box_acc", "max_box_acc_v2", "pxap")


@dataclass(frozen=True, slots=True)
class Score:
    """A metric in percent: of one evaluation, or the mean over training seeds with its standard deviation."""

    value: Percent
    sd: Annotated[Points, Field(ge=0)] | None = None  # of the sample; of several seeds
    low: Points | None = None  # ends of the interval over images, of one evaluation
    high: Points | None = None

    def cell(self) -> Cell:
        """As a cell of a table."""
        return Cell(self.value, self.low, self.high, sd=self.sd)


@dataclass(frozen=True, slots=True)
class ComparedSize:
    """Scores on the images of one bin of sizes, see :class:`famcli.results.schema.SizeScore`."""

    images: Count
    gt_known: Score | None
    area_ratio: Annotated[Real, Field(ge=0)] | None  # of several seeds the mean of their medians


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRow:
    """One method: a single evaluation, or several that differ in the training seed alone."""

    name: Text  # what tables call it; no two rows have the same
    method: Text  # as in results.json
    fixed: Flag = False  # the centre box or the whole image, there for orientation
    folders: tuple[Text, ...]  # of the results
    seeds: tuple[Count | None, ...]  # of the training, for each folder
    source: FreeFacts = field(default_factory=dict)  # what all of them have in common
    metrics: Mapping[Text, Score]  # by a name of METRICS: those that all of them have
    taus: tuple[Real, ...] = ()  # threshold on the map, for each folder; none where there is none
    tau_from: Text = ""  # how it was chosen
    oracle_taus: tuple[Real, ...] = ()  # the best threshold on these very images, for each folder
    oracle: Score | None = None  # GT-known there
    empty: Percent | None = None  # share of images without a box
    sizes: Annotated[tuple[ComparedSize, ...], Field(min_length=5, max_length=5)] | None = None  # those that all have


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A table of methods and their paired differences."""

    data: DataFacts  # what all were scored on
    protocol: ProtocolFacts
    rows: Annotated[tuple[ComparedRow, ...], Field(min_length=1)]
    baseline: Text | None = None  # the row that all differences are to; without one they are of every pair
    differences: tuple[Difference, ...] = ()  # by names of rows; without an interval where images have no score
    warnings: tuple[Text, ...] = ()  # what must be read before any number
    bootstrap: BootstrapFacts = field(default_factory=dict)
    versions: Mapping[Text, Text] = field(default_factory=dict)


_COMPARISON = TypeAdapter(Comparison)


def to_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison as JSON values, in the form of ``compare.json``; what the schema refuses is an error."""
    fields: dict[str, Any] = json.loads(dumps(comparison))
    check(_COMPARISON, fields, "this comparison cannot be written")
    return {"format": FORMAT, "format_version": FORMAT_VERSION, **fields}


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Write ``compare.json`` and ``compare.md`` to a folder, made if absent; each is whole or not there."""
    page, document = markdown(comparison), to_json(comparison)
    write_pieces(folder / MARKDOWN_NAME, [page])
    write_pieces(folder / JSON_NAME, [dumps(document, indent=1), "\n"])


def read_comparison(path: Path) -> Comparison:
    """Read ``compare.json``, or that of a folder; a ``DataError`` says what is wrong with it."""
    file = path / JSON_NAME if path.is_dir() else path
    document = read_document(file, "fam compare")
    known = isinstance(document, dict) and document.get("format") == FORMAT
    if not known or document.get("format_version") != FORMAT_VERSION:
        raise DataError(f"'{file}' is no comparison of version {FORMAT_VERSION}, as fam compare --out writes one")
    return check(_COMPARISON, document, f"'{file}' is damaged")


def scores(comparison: Comparison) -> Table:
    """A line for each method."""
    rows = comparison.rows
    names = [name for name in COLUMNS if any(name in row.metrics for row in rows)]
    oracle, seeds = any(row.oracle for row in rows), any(len(row.folders) > 1 for row in rows)
    lines = [
        (
            row.name,
            [
                *([Cell(None if row.fixed else len(row.folders), form="d")] if seeds else []),
                _tau(row.taus, row.tau_from),
                *(row.metrics[name].cell() if name in row.metrics else Cell() for name in names),
                *([_tau(row.oracle_taus), row.oracle.cell() if row.oracle else Cell()] if oracle else []),
                Cell(row.empty),
            ],
        )
        for row in rows
    ]
    beside = ["oracle τ", "GT-known there"] if oracle else []
    columns = ["method", *(["seeds"] if seeds else []), "τ", *(METRICS[name] for name in names), *beside, "no box"]
    return Table(columns, lines)


def sizes(comparison: Comparison) -> Table:
    """A line for each method that was scored by size, a column for each bin."""
    return size_table(
        {
            row.name: [(of.images, of.gt_known.cell() if of.gt_known else Cell(), of.area_ratio) for of in row.sizes]
            for row in comparison.rows
            if row.sizes
        }
    )


def differences(comparison: Comparison) -> Table:
    """A line for each pair of methods, in points."""
    found = {(d.of, d.minus, d.metric): d.number for d in comparison.differences}
    names = [name for name in COLUMNS if any(name == metric for *_, metric in found)]
    pairs = dict.fromkeys((of, minus) for of, minus, _ in found)
    lines = [
        (f"{of} minus {minus}", [Cell.from_number(found.get((of, minus, name)), "+f") for name in names])
        for of, minus in pairs
    ]
    return Table(["difference", *(METRICS[name] for name in names)], lines)


def title(comparison: Comparison) -> str:
    """What is compared on what, in a line."""
    methods, data = sum(not row.fixed for row in comparison.rows), comparison.data
    where = f"{data['name']}/{data['split']}, {data['images']:,} images"
    return f"{methods} methods on {where}, protocol {comparison.protocol['name']}"


def notes(comparison: Comparison) -> list[str]:
    """How to read the numbers, in sentences."""
    level = 100 * float(comparison.bootstrap.get("level", 0.95))
    found = [f"Percent, differences in points, with {level:g} % bootstrap intervals over images."]
    if any(len(row.folders) > 1 for row in comparison.rows):
        found.append(
            "± is the standard deviation over training seeds. For a difference, the scores of each image are averaged "
            "over the seeds first, so its interval covers other images and not other seeds."
        )
    bare = {METRICS[d.metric]: None for d in comparison.differences if d.number.low is None}
    if bare:
        found.append(
            f"Differences in {' and '.join(bare)} have no interval: what is kept of each image is not enough for one."
        )
    if any(d.metric == "max_box_acc" for d in comparison.differences):
        found.append("Intervals of differences in MaxBoxAcc take each method's best threshold as given.")
    if any(row.oracle for row in comparison.rows):
        found.append("oracle: the threshold on a grid that is best on these very images, which flatters.")
    if any(row.sizes for row in comparison.rows):
        found.append(SIZE_NOTE)
    return found


def markdown(comparison: Comparison) -> str:
    """The comparison as a page of Markdown, ending with a line break."""
    parts = [f"# {literal(title(comparison))}", *(f"**{literal(words)}**" for words in comparison.warnings)]
    parts += [markdown_table(scores(comparison)), " ".join(notes(comparison))]
    found = differences(comparison)
    if found.rows:
        parts += ["## Paired differences", markdown_table(found)]
    found = sizes(comparison)
    if found.rows:
        parts += ["## By object size", markdown_table(found)]
    parts += ["## What was compared", "\n".join(f"- {literal(line)}" for line in sources(comparison))]
    return "\n\n".join(part for part in parts if part) + "\n"


def sources(comparison: Comparison) -> list[str]:
    """Where each row is from, in a line."""
    return [f"{row.name}: {', '.join(row.folders)}" for row in comparison.rows if not row.fixed]


def _tau(taus: Sequence[float], note: str = "") -> Cell:
    """The threshold, or the mean and the range of those of the seeds."""
    if not taus:
        return Cell()
    spread = "" if min(taus) == max(taus) else f"{min(taus):.4g} to {max(taus):.4g}"
    return Cell(sum(taus) / len(taus), note=", ".join(filter(None, [note, spread])), form="g")

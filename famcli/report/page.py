"""The report as one HTML file that needs nothing else: no network, no other file.

The page's policy allows its own style and script, by their hashes, and pictures in ``data:``; so even a string from
data that slipped through as markup could neither run nor load anything. The file is written as the photos are read:
memory does not grow with their number, but for a few hundred bytes of facts an image.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from famcli.evaluation.boxrules import BOX_RULES
from famcli.evaluation.metrics.box import SIDE
from famcli.report import card, charts, entries, scores
from famcli.report.markup import json_block, lines_block, text
from famcli.report.parts import Parts, find, part_maps
from famcli.report.picks import Picks, pick
from famcli.report.pictures import Shot, as_base64, in_threads, photo_of, shoot, size_for
from famcli.results.images import ERROR_TYPES, FILE_NAME, ImageResult, read_images
from famcli.results.schema import Results
from famcli_models.errors import DataError
from famcli_models.files import write_atomic

PARTS_SHOWN = 6  # rows in the section of parts; the others are in the large views
BLOCK = 64  # images whose thumbnails share an element
SCRIPTS = ("pictures.js", "gallery.js", "view.js", "page.js")
NONE = "<p>These results have none.</p>"
_SLOT = re.compile(r"{{(\w+)}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to make a report.

    Attributes:
        gallery: Show at most so many images.
        images: Photos are below this folder by name; ``None`` for where they were when they were scored.
        seed: Of the random images.
        parts: Compute part maps.
        model: Where the model is now, if not where it was.
        device: For the part maps.
        workers: Threads that read photos.
    """

    gallery: int
    images: Path | None = None
    seed: int = 0
    parts: bool = True
    model: str | None = None
    device: str = "auto"
    workers: int = 2


@dataclass(slots=True)
class Written:
    """What came of a report.

    Attributes:
        images: Shown.
        of: Scored.
        missing: Names of shown images whose photos cannot be read, with the reason.
    """

    images: int
    of: int
    missing: list[tuple[str, str]]


def write_report(
    results: Results,
    folder: Path,
    out: Path,
    settings: Settings,
    on_image: Callable[[], object] = lambda: None,
) -> Written:
    """Write the report of a results folder; an existing file is replaced.

    Args:
        results: Of the folder.
        folder: The results folder; its records of images are read twice.
        out: The HTML file.
        settings: How.
        on_image: Called after each photo.

    Raises:
        DataError: The records are damaged or not those of the results, or not one photo can be read.
        FamError: ``settings.model`` is not the model that was evaluated.
    """
    records = folder / FILE_NAME
    picks = pick(read_images(records), results, settings.gallery, settings.seed)
    report = _Report(results, picks, settings, records, on_image)

    def fill(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            for piece in report.pieces():
                file.write(piece)

    write_atomic(out, fill)
    return Written(len(picks.shown), picks.total, report.missing)


class _Report:
    """One report while it is written."""

    def __init__(
        self, results: Results, picks: Picks, settings: Settings, records: Path, step: Callable[[], object]
    ) -> None:
        self.results, self.picks, self.settings, self.step = results, picks, settings, step
        self.records = records
        self.missing: list[tuple[str, str]] = []
        self.facts: list[list[Any]] = []
        self.photos: list[tuple[int, Path]] = []  # of featured images, by place in the report
        checked = find(results, settings.model) if settings.parts else None
        self.model = checked.folder if checked else None
        self.parts_words = checked.reason if checked else "Part maps were not asked for."

    def pieces(self) -> Iterator[str]:
        """The file, piece by piece."""
        results = self.results
        style, script = _template("page.css"), "\n".join(map(_template, SCRIPTS))
        policy = (
            f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
            "base-uri 'none'; form-action 'none'"
        )
        slots: dict[str, Iterable[str]] = {
            "policy": [policy],
            "generator": [f"fam {version('famcli')}"],
            "title": [text(card.title(results))],
            "style": [style],
            "heading": [text(card.title(results))],
            "summary": [text(card.summary(results))],
            "warnings": [card.warnings(results)],
            "headline": [scores.headline(results)],
            "scores": [scores.scores(results)],
            "charts": [charts.charts(results) or NONE],
            "gallery": [text(self._gallery_words())],
            "parts": [text(self._part_words())],
            "classes": [scores.classes(results) or NONE],
            "card": [card.card(results)],
            "pictures": self._pictures(),
            "data": self._data(),
            "script": [script],
        }
        # Text, slot, text, slot and so on.
        for i, piece in enumerate(_SLOT.split(_template("page.html"))):
            yield from slots[piece] if i % 2 else [piece]

    def _gallery_words(self) -> str:
        picks, first = self.picks, self.results.rows[0].title
        words = f"Images were picked by the IoU of {first}; random is by seed {self.settings.seed}."
        protocol = self.results.protocol["name"]
        if self._cropped:
            words += f" {protocol} looks at the central crop: true boxes are cut to it before they are compared."
        if protocol not in BOX_RULES:
            words += f" {protocol} has many thresholds: the boxes are those at the best one for δ = 0.5."
        if picks.total == len(picks.shown):
            return f"All {picks.total} images. {words}"
        shown = f"{len(picks.shown)} of {picks.total} images: the best, the worst, and {len(picks.random)} random ones."
        return f"{shown} {words} Counts in this section are of the images shown; the tables and charts are of all."

    @property
    def _cropped(self) -> bool:
        rules = BOX_RULES.get(str(self.results.protocol["name"]))
        return rules is not None and rules.cropped

    def _view(self) -> list[float]:
        """The part of a photo that the maps are of, as shares of its sides: left, top, right, bottom."""
        if not self._cropped:
            return [0.0, 0.0, 1.0, 1.0]
        side = int(self.results.source.get("input_size") or SIDE)
        box: list[float] = (
            BOX_RULES[str(self.results.protocol["name"])].to_photo([0, 0, side, side], (1, 1), side)[0].tolist()
        )
        return box

    def _part_words(self) -> str:
        if self.model is None:
            return self.parts_words
        return (
            "The K part maps A of the model, and the weight t of each part in the object's feature; computed for "
            "this report. More are in the large views of the first of the best, worst and random images."
        )

    def _pictures(self) -> Iterator[str]:
        """Blocks of thumbnails and maps, and the larger pictures."""
        size = size_for(len(self.picks.shown))
        featured = frozenset(self.picks.featured)
        names = entries.methods(self.results.rows)

        def work(item: tuple[int, ImageResult]) -> tuple[Path, Shot]:
            number, record = item
            photo = photo_of(record, self.settings.images)
            return photo, shoot(photo, size, large=number in featured)

        lines: list[str] = []
        blocks = 0
        for place, ((number, record), (photo, shot)) in enumerate(
            in_threads(work, self._shown(), self.settings.workers)
        ):
            if shot.problem:
                self.missing.append((str(photo), shot.problem))
            elif number in featured:
                self.photos.append((place, photo))
            if shot.large:
                yield lines_block(f"large-{place}", [as_base64(shot.large)])
            self.facts.append(entries.facts(record, self.results.rows))
            lines.append(entries.line(record, shot, size, names))
            if len(lines) == BLOCK:
                yield lines_block(f"pictures-{blocks}", lines)
                lines, blocks = [], blocks + 1
            self.step()
        if lines:
            yield lines_block(f"pictures-{blocks}", lines)
        if len(self.missing) == len(self.facts):
            name, reason = self.missing[0]
            msg = f"not one photo can be read, first '{name}' ({reason}): say where they are with --images DIR"
            raise DataError(msg)

    def _shown(self) -> Iterator[tuple[int, ImageResult]]:
        shown = frozenset(self.picks.shown)
        return ((i, record) for i, record in enumerate(read_images(self.records)) if i in shown)

    def _data(self) -> Iterator[str]:
        """What the script reads: rows, classes, facts of all images, parts."""
        results = self.results
        place = {number: i for i, number in enumerate(self.picks.shown)}
        parts = self._parts()
        methods = entries.methods(results.rows)
        random = [place[number] for number in self.picks.random]
        yield json_block(
            "data",
            {
                "block": BLOCK,
                "colours": as_base64(_colours()),
                "rows": [{"title": row.title, "map": methods.index(row.method)} for row in results.rows],
                "kinds": list(ERROR_TYPES),
                "meanings": dict(ERROR_TYPES),
                "classes": list(results.data.get("class_names") or ()),
                "predicted": list(results.source.get("class_names") or results.data.get("class_names") or ()),
                "random": random,
                "view": self._view(),
                "boxRows": [i for i, row in enumerate(results.rows) if any(f[-1][i] for f in self.facts)],
                "parts": {number: entries.parts_data(found) for number, found in parts.items()},
                "partRows": [i for i in random if i in parts][:PARTS_SHOWN],
                "images": self.facts,
            },
        )

    def _parts(self) -> dict[int, Parts]:
        if self.model is None:
            return {}
        return dict(part_maps(self.model, self.photos, self.settings.device))


def _template(name: str) -> str:
    return files("famcli.report").joinpath("templates", name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    """What a policy calls one inline style or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode('utf-8')).digest()).decode('ascii')}'"


def _colours() -> bytes:
    """256 times red, green and blue: turbo, which people who do not tell red from green can read too."""
    steps = np.arange(256, dtype=np.uint8)[:, None]
    return bytes(np.ascontiguousarray(cv2.applyColorMap(steps, cv2.COLORMAP_TURBO)[..., ::-1]).tobytes())

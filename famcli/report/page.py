"""The report as one HTML file that needs nothing else: no network, no other file.

The page's policy allows its own style and script, by their hashes, and pictures in ``data:``; so even a text from data
that slipped through as markup could neither run nor load anything. The file is written as the photos are read: memory
does not grow with their number, but for a few hundred bytes of facts an image.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from famcli.evaluation.boxrules import BOX_RULES
from famcli.evaluation.metrics.box import SIDE
from famcli.inference.engine import Failed, run_images
from famcli.report.charts import WIDTH, charts
from famcli.report.parts import open_parts, part_maps
from famcli.report.pictures import as_base64, make_pictures, map_bytes, select, size_for
from famcli.results import tables
from famcli.results.images import ERROR_TYPES, ImageResult
from famcli.results.io import IMAGES_NAME, read_images
from famcli.results.schema import METRICS, Results
from famcli_models.errors import DataError
from famcli_models.files import write_atomic

PARTS_SHOWN = 6  # rows in the section of parts; the others are in the large views
QUEUED = 4  # photos waiting for each thread: enough to keep it busy, few enough to keep memory flat
BLOCK = 64  # images whose thumbnails share an element
SCRIPTS = ("pictures.js", "gallery.js", "view.js", "page.js")

# No character of HTML: controls, halves of surrogate pairs (odd bytes of a file name), and what Unicode reserves.
_NOT_HTML = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


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
        folder: The results folder; its per-image results are read twice.
        out: The HTML file.
        settings: How.
        on_image: Called after each photo.

    Raises:
        DataError: The per-image results are damaged or not those of the results, or not one photo can be read.
        FamError: ``settings.model`` is not the model that was evaluated.
    """
    report = _Report(results, folder / IMAGES_NAME, settings, on_image)
    template = _templates().get_template("page.html")

    def fill(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(template.generate(report.context()))

    write_atomic(out, fill)
    return Written(len(report.selection.shown), report.selection.total, report.missing)


class _Report:
    """One report while it is written."""

    def __init__(self, results: Results, records: Path, settings: Settings, step: Callable[[], object]) -> None:
        self.results, self.records, self.settings, self.step = results, records, settings, step
        self.selection = select(read_images(records), results, settings.gallery, settings.seed)
        self.methods = list(dict.fromkeys(row.method for row in results.rows))  # that may have maps
        self.rules = BOX_RULES.get(results.protocol["name"])  # None where there are many thresholds
        self.missing: list[tuple[str, str]] = []
        self.facts: list[list[Any]] = []
        self.photos: list[tuple[int, Path]] = []  # of featured images, by place in the report
        self.model, self.no_parts = None, "Part maps were not asked for."
        if settings.parts:
            self.model, self.no_parts = open_parts(results, settings.model, settings.device)

    def context(self) -> dict[str, Any]:
        """What the template needs; pictures are made, and then data gathered, as they are asked for."""
        level = self.results.bootstrap.get("level")
        style, script = _file("page.css"), "\n".join(map(_file, SCRIPTS))
        return {
            "policy": f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
            "base-uri 'none'; form-action 'none'",
            "version": version("famcli"),
            "style": Markup(style),  # noqa: S704  (our own files)
            "script": Markup(script),  # noqa: S704
            "results": self.results,
            "metrics": METRICS,
            "tables": tables,
            "cell": tables.Cell.from_number,
            "interval": f"; below, the {100 * level:g} % bootstrap interval over images" if level else "",
            "charts": charts(self.results),
            "chart_width": WIDTH,
            "selection": self.selection,
            "seed": self.settings.seed,
            "rules": self.rules,
            "no_parts": self.no_parts,
            "pictures": self._pictures(),
            "data": self._data,
        }

    def _pictures(self) -> Iterator[tuple[str, str]]:
        """Ids and contents of blocks of thumbnails and maps, and of larger pictures."""
        size = size_for(len(self.selection.shown))
        shown, featured = frozenset(self.selection.shown), frozenset(self.selection.featured)
        images = (item for item in enumerate(read_images(self.records)) if item[0] in shown)

        def load(item: tuple[int, ImageResult]) -> tuple[bytes, bytes]:
            return make_pictures(self._photo(item[1]), size, large=item[0] in featured)

        made = run_images(
            images,
            load,
            lambda batch: batch,
            lambda *found: found,
            batch_size=QUEUED * self.settings.workers,
            workers=self.settings.workers,
        )
        lines: list[str] = []
        blocks = 0
        for place, one in enumerate(made):
            (number, image), (thumbnail, large) = (one.item, (b"", b"")) if isinstance(one, Failed) else one[:2]
            if isinstance(one, Failed):
                self.missing.append((str(self._photo(image)), str(one.error)))
            elif number in featured:
                self.photos.append((place, self._photo(image)))
            if large:
                yield f"large-{place}", as_base64(large)
            self.facts.append(self._image(image))
            lines.append(" ".join([as_base64(thumbnail) or "-", *self._maps(image, size.map_side)]))
            if len(lines) == BLOCK:
                yield f"pictures-{blocks}", "\n".join(lines)
                lines, blocks = [], blocks + 1
            self.step()
        if lines:
            yield f"pictures-{blocks}", "\n".join(lines)
        if len(self.missing) == len(self.facts):
            name, reason = self.missing[0]
            msg = f"not one photo can be read, first '{name}' ({reason}): say where they are with --images DIR"
            raise DataError(msg)

    def _photo(self, image: ImageResult) -> Path:
        """Where it was scored, or below ``--images`` by name."""
        return Path(image.path) if self.settings.images is None else self.settings.images / image.name

    def _maps(self, image: ImageResult, most: int) -> Iterator[str]:
        """Each method's map as ``h,w,bytes`` with the bytes in base64; ``-`` where there is none."""
        for method in self.methods:
            if (values := image.maps.get(method)) is None:
                yield "-"
            else:
                (h, w), content = map_bytes(values, most)
                yield f"{h},{w},{as_base64(content)}"

    def _image(self, image: ImageResult) -> list[Any]:
        """What filters, captions and boxes need, as the page's script takes it apart."""
        kinds = list(ERROR_TYPES)
        found: list[Any] = []
        for one in (image.found.get(row.title) for row in self.results.rows):
            box = one and one.box and _rounded(one.box)
            found.append(one and [box, _round(one.iou, 4), kinds.index(one.kind), _round(one.score, 3)])
        truth = [_rounded(box) for box in image.truth]
        classes = [[label, round(probability, 3)] for label, probability in image.classes]
        return [image.name, image.label, image.width, image.height, truth, classes, image.rank, found]

    def _view(self) -> list[float]:
        """The part of a photo that the maps are of, as shares of its sides: left, top, right, bottom."""
        if self.rules is None or not self.rules.cropped:
            return [0, 0, 1, 1]
        side = int(self.results.source.get("input_size") or SIDE)
        view: list[float] = self.rules.to_photo([0, 0, side, side], (1, 1), side)[0].tolist()
        return view

    def _data(self) -> dict[str, Any]:
        """What the script reads: rows, classes, facts of all images, parts."""
        results = self.results
        place = {number: i for i, number in enumerate(self.selection.shown)}
        random = [place[number] for number in self.selection.random]
        parts = {}
        if self.model is not None:
            for number, found in part_maps(self.model, self.photos):
                maps = np.round(255 * found.A).astype(np.uint8)
                parts[number] = {
                    "size": maps.shape[1:],
                    "weights": [round(float(weight), 4) for weight in found.weights],
                    "maps": [as_base64(part.tobytes()) for part in maps],
                }
        names = results.data.get("class_names") or ()
        return {
            "block": BLOCK,
            "colours": as_base64(_colours()),
            "rows": [{"title": row.title, "map": self.methods.index(row.method)} for row in results.rows],
            "kinds": list(ERROR_TYPES),
            "meanings": dict(ERROR_TYPES),
            "classes": names,
            "predicted": results.source.get("class_names") or names,
            "random": random,
            "view": self._view(),
            "boxRows": [i for i in range(len(results.rows)) if any(facts[-1][i] for facts in self.facts)],
            "parts": parts,
            "partRows": [i for i in random if i in parts][:PARTS_SHOWN],
            "images": self.facts,
        }


def _rounded(box: Sequence[float]) -> list[float]:
    """Corners to a tenth of a pixel; whole numbers without a point, which is half of the page's data."""
    return [int(value) if value == int(value) else round(value, 1) for value in box]


def _round(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _templates() -> Environment:
    """Jinja with every text from data escaped, and what HTML cannot hold replaced."""

    def finalize(value: Any) -> Any:
        return value if isinstance(value, Markup) else _NOT_HTML.sub("\ufffd", str(value))

    templates = Environment(
        loader=PackageLoader("famcli.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return templates


def _file(name: str) -> str:
    return files("famcli.report").joinpath("templates", name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    """What a policy calls one inline style or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode('utf-8')).digest()).decode('ascii')}'"


def _colours() -> bytes:
    """256 times red, green and blue: turbo, which people who do not tell red from green can read too."""
    steps = np.arange(256, dtype=np.uint8)[:, None]
    return bytes(np.ascontiguousarray(cv2.applyColorMap(steps, cv2.COLORMAP_TURBO)[..., ::-1]).tobytes())

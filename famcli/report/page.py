"""The report as one HTML file that needs nothing else: no network, no other file.

The page's policy allows its own style and script, by their hashes, and pictures in ``data:``; so even a text from data
that slipped through as markup could neither run nor load anything. The file is written as the photos are read: memory
does not grow with their number, but for a few hundred bytes of facts an image.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from famcli.evaluation.metrics.box import SIDE
from famcli.evaluation.protocols import BOX_RULES
from famcli.report.charts import WIDTH, charts
from famcli.report.parts import open_parts, part_maps
from famcli.report.pictures import BLOCK, Gallery, as_base64, select
from famcli.results import tables
from famcli.results.images import ERROR_TYPES
from famcli.results.io import IMAGES_NAME, read_images, write_pieces
from famcli.results.schema import METRICS, Results
from famcli.version import __version__

GALLERY = 5000  # images; so many stay below 25 MB
PARTS_SHOWN = 6  # rows in the section of parts; the others are in the large views
SCRIPTS = ("pictures.js", "gallery.js", "view.js", "page.js")

# No character of HTML: controls, halves of surrogate pairs (odd bytes of a file name), and what Unicode reserves.
_NOT_HTML = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


class Written(NamedTuple):
    """What came of a report: numbers of images, and the photos that cannot be read, each with the reason."""

    shown: int
    scored: int
    missing: list[tuple[str, str]]


def write_report(
    results: Results,
    folder: Path,
    out: Path,
    *,
    gallery: int = GALLERY,
    images: Path | None = None,
    seed: int = 0,
    parts: bool = True,
    model: str | None = None,
    device: str = "auto",
    workers: int = 2,
    on_image: Callable[[], object] = lambda: None,
) -> Written:
    """Write the report of a results folder; an existing file is replaced.

    Args:
        results: Of the folder.
        folder: The results folder; its per-image results are read twice.
        out: The HTML file.
        gallery: Show at most so many images.
        images: Photos are below this folder by name; ``None`` for where they were when they were scored.
        seed: Of the random images.
        parts: Compute part maps.
        model: Where the model is now, for its parts, if not where it was.
        device: For the part maps.
        workers: Threads that read photos.
        on_image: Called after each photo.

    Raises:
        DataError: The per-image results are damaged or not those of the results, or not one photo can be read.
        FamError: ``model`` is not the model that was evaluated.
    """
    selection = select(read_images(folder / IMAGES_NAME), results, gallery, seed)
    shown = Gallery(results, folder / IMAGES_NAME, selection, images, workers, on_image)
    engine, no_parts = open_parts(results, model, device) if parts else (None, "Part maps were not asked for.")
    level, style, script = (
        results.bootstrap.get("level"),
        template_file("page.css"),
        "\n".join(map(template_file, SCRIPTS)),
    )
    context = {
        "policy": policy(style, script),
        "version": __version__,
        "style": Markup(style),  # noqa: S704  (our own files)
        "script": Markup(script),  # noqa: S704
        "results": results,
        "metrics": METRICS,
        "tables": tables,
        "cell": tables.Cell.from_number,
        "interval": f"; below, the {100 * level:g} % bootstrap interval over images" if level else "",
        "charts": charts(results),
        "chart_width": WIDTH,
        "selection": selection,
        "seed": seed,
        "rules": BOX_RULES.get(results.protocol["name"]),
        "no_parts": no_parts,
        "pictures": shown.blocks(),
        "data": lambda: _data(results, shown, dict(part_maps(engine, shown.photos)) if engine else {}),
    }
    write_pieces(out, templates().get_template("page.html").generate(context))
    return Written(len(selection.shown), selection.total, shown.missing)


def _data(results: Results, shown: Gallery, parts: dict[int, Any]) -> dict[str, Any]:
    """What the page's script reads, after the pictures were made: rows, classes, facts of all images, parts."""
    names = results.data.get("class_names") or ()
    place = {number: i for i, number in enumerate(shown.selection.shown)}
    random = [place[number] for number in shown.selection.random]
    return {
        "block": BLOCK,
        "colours": as_base64(_colours()),
        "rows": [{"title": row.title, "map": shown.methods.index(row.method)} for row in results.rows],
        "kinds": list(ERROR_TYPES),
        "meanings": dict(ERROR_TYPES),
        "classes": names,
        "predicted": results.source.get("class_names") or names,
        "random": random,
        "view": _view(results),
        "boxRows": [i for i in range(len(results.rows)) if any(facts[-1][i] for facts in shown.facts)],
        "parts": {
            number: {
                "size": found.A.shape[1:],
                "weights": [round(float(weight), 4) for weight in found.weights],
                "maps": [as_base64(part.tobytes()) for part in np.round(255 * found.A).astype(np.uint8)],
            }
            for number, found in parts.items()
        },
        "partRows": [i for i in random if i in parts][:PARTS_SHOWN],
        "images": shown.facts,
    }


def _view(results: Results) -> list[float]:
    """The part of a photo that the maps are of, as shares of its sides: left, top, right, bottom."""
    rules = BOX_RULES.get(results.protocol["name"])
    if rules is None or not rules.cropped:
        return [0, 0, 1, 1]
    side = int(results.source.get("input_size") or SIDE)
    return list(rules.to_photo([0, 0, side, side], (1, 1), side)[0].tolist())


def templates() -> Environment:
    """Jinja with every text from data escaped, and what HTML cannot hold replaced."""
    templates = Environment(
        loader=PackageLoader("famcli.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else _NOT_HTML.sub("\ufffd", str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return templates


def template_file(name: str) -> str:
    """The text of a file of ours beside the templates."""
    return files("famcli.report").joinpath("templates", name).read_text(encoding="utf-8")


def policy(style: str, script: str = "") -> str:
    """What the page may load: its own style and script, by their hashes, and pictures in it."""
    scripts = _hash(script) if script else "'none'"
    return (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {scripts}; base-uri 'none'; "
        "form-action 'none'"
    )


def _hash(content: str) -> str:
    """What a policy calls one inline style or script."""
    return f"'sha256-{as_base64(hashlib.sha256(content.encode('utf-8')).digest())}'"


def _colours() -> bytes:
    """256 times red, green and blue: turbo, which people who do not tell red from green can read too."""
    steps = np.arange(256, dtype=np.uint8)[:, None]
    return bytes(np.ascontiguousarray(cv2.applyColorMap(steps, cv2.COLORMAP_TURBO)[..., ::-1]).tobytes())

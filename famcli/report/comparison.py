"""The report of several evaluations of the same images on one page: table, curves, and where they disagree most.

The page runs no script. A row of several seeds is drawn by its first one, and its curve is the mean over them.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from famcli.evaluation.compare import Group, compare_groups, find_groups, read_together
from famcli.report.charts import WIDTH, curves_together
from famcli.report.page import Written, policy, template_file, templates
from famcli.report.pictures import LARGE, Size, as_base64, make_pictures
from famcli.results import comparison
from famcli.results.images import BoxResult, ImageResult
from famcli.results.io import write_pieces
from famcli.version import __version__
from famcli_models.errors import DataError

GALLERY = 48  # images, if not asked for more or fewer
COLOURS, DASHES = 8, 3  # of boxes and curves, in the style sheet; each colour is used solid first


class Shown(NamedTuple):
    """An image of the page."""

    image: ImageResult  # as the first evaluation has it
    photo: str  # WebP in base64; nothing where it cannot be read
    boxes: list[tuple[str, str, BoxResult]]  # style, name of the row and its box
    low: float  # least and best IoU
    high: float


def write_comparison_report(
    folders: Sequence[str | Path],
    out: Path,
    *,
    groups: Mapping[str, Sequence[str | Path]] | None = None,
    baseline: str | Path | None = None,
    gallery: int = GALLERY,
    images: Path | None = None,
    on_image: Callable[[], object] = lambda: None,
) -> Written:
    """Write one report of several results folders; an existing file is replaced.

    Args:
        folders: See :func:`famcli.compare`, as ``groups`` and ``baseline``.
        out: The HTML file.
        groups: By name of a row.
        baseline: What the differences are to.
        gallery: Show at most so many images: those with the greatest differences of IoU between the rows.
        images: Photos are below this folder by name; ``None`` for where they were when they were scored.
        on_image: Called after each photo.

    Raises:
        FamError: See :func:`famcli.compare`; or not one photo can be read.
    """
    found = find_groups(folders, groups or {})
    compared = compare_groups(found, baseline)
    styles = [f"s{i % COLOURS} d{i // COLOURS % DASHES}" for i in range(len(found))]
    missing: list[tuple[str, str]] = []
    shown = [
        _show(image, of_rows, found, styles, images, missing, on_image)
        for image, of_rows in _most_different(found, int(compared.data["images"]), gallery)
    ]
    if len(missing) == len(shown):
        name, why = missing[0]
        raise DataError(f"not one photo can be read, first '{name}' ({why}): say where they are with --images DIR")
    curves = {group.name: curve for group in found if (curve := _mean_curve(group)) is not None}
    drawn = [style for style, group in zip(styles, found, strict=True) if group.name in curves]
    style = template_file("page.css") + template_file("comparison.css")
    context: dict[str, Any] = {
        "policy": policy(style),
        "version": __version__,
        "style": Markup(style),  # noqa: S704  (our own files)
        "compared": compared,
        "comparison": comparison,
        "legend": [(style, group.name, len(group.members)) for style, group in zip(styles, found, strict=True)],
        "several_seeds": any(len(group.members) > 1 for group in found),
        "chart": curves_together(curves, drawn) if curves else None,
        "chart_width": WIDTH,
        "shown": shown,
    }
    write_pieces(out, templates().get_template("comparison.html").generate(context))
    return Written(len(shown), int(compared.data["images"]), missing)


def _most_different(groups: Sequence[Group], count: int, most: int) -> list[tuple[ImageResult, list[BoxResult | None]]]:
    """The images with the greatest range of IoU over the rows, the greatest first, and what each row found there."""
    members = [group.members[0] for group in groups]

    def results() -> Any:
        for images in read_together([member.folder for member in members], count):
            yield images[0], [image.found.get(m.row.title) for image, m in zip(images, members, strict=True)]

    return heapq.nlargest(most, results(), key=lambda one: np.ptp(_ious(one[1])))


def _ious(found: Sequence[BoxResult | None]) -> list[float]:
    return [box.iou or 0.0 if box else 0.0 for box in found]


def _show(
    image: ImageResult,
    of_rows: Sequence[BoxResult | None],
    groups: Sequence[Group],
    styles: Sequence[str],
    folder: Path | None,
    missing: list[tuple[str, str]],
    on_image: Callable[[], object],
) -> Shown:
    path = Path(image.path) if folder is None else folder / image.name
    photo = b""
    try:
        photo, _ = make_pictures(path, Size(1, *LARGE, 1), large=False)
    except DataError as error:
        missing.append((str(path), str(error)))
    on_image()
    ious = _ious(of_rows)
    boxes = [(style, group.name, box) for style, group, box in zip(styles, groups, of_rows, strict=True) if box]
    return Shown(image, as_base64(photo), boxes, min(ious), max(ious))


def _mean_curve(group: Group) -> tuple[Sequence[float], Sequence[float]] | None:
    """Thresholds and accuracies of a row; of several seeds the mean at the thresholds that all have."""
    curves = [dict(zip(m.results.taus, m.row.curve, strict=True)) for m in group.members if m.row.curve]
    if len(curves) < len(group.members):
        return None
    taus = sorted(set.intersection(*map(set, curves)))
    return (taus, [sum(curve[tau] for curve in curves) / len(curves) for tau in taus]) if taus else None

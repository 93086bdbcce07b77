"""The images of a report: which are shown, their photos and maps made small, and their facts for the page's script."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from famcli.data.images import DECODE_MARGIN, read_picture
from famcli.inference.pipeline import Failed, run_images
from famcli.results.images import ERROR_TYPES, ImageResult
from famcli.results.io import read_images
from famcli.results.schema import Results
from famcli_models.errors import DataError

FEATURED = 12  # of the best, worst and random images: larger pictures and part maps
LARGE = (480, 60)  # side and quality of the pictures of featured images
QUEUED = 4  # photos waiting for each thread: enough to keep it busy, few enough to keep memory flat
BLOCK = 64  # images whose thumbnails share an element of the page


class Selection(NamedTuple):
    """Images of a report, by their place in the results folder."""

    total: int  # images scored
    shown: Sequence[int]  # ascending; all of them, or the best, worst and random third of what was asked for
    random: Sequence[int]  # all of shown in random order, or the random ones alone if images were left out
    featured: Sequence[int]  # the first of the best, of the worst and of the random ones, ascending


def select(images: Iterable[ImageResult], results: Results, most: int, seed: int = 0) -> Selection:
    """Choose at most so many images by the IoU of the first row; no box is worse than the worst box.

    The images are read once and not kept; those that are not of the results are refused.
    """
    first, titles = results.rows[0], {row.title for row in results.rows}
    found_ious, kinds, labels = [], Counter[str](), Counter[int]()
    for image in images:
        odd = image.found.keys() - titles
        if odd or first.title not in image.found:
            what = f"has boxes of '{min(odd)}', which" if odd else f"has no box of '{first.title}', which"
            raise DataError(f"'{image.name}' {what} does not go with results.json: are both of one run of fam eval?")
        found = image.found[first.title]
        found_ious.append(-1.0 if found.iou is None else found.iou)
        kinds[found.kind] += 1
        labels[image.label] += 1
    total, expected = len(found_ious), results.data.get("images")
    if not total or total != expected:
        raise DataError(f"{total} images in images.jsonl, {expected} in results.json: run fam eval with --out again")
    by_class = {row.label: row.images for row in results.classes}
    if (first.kinds is not None and kinds != Counter(first.kinds)) or (by_class and labels != Counter(by_class)):
        raise DataError("images.jsonl and results.json count other images: both must be of one run; run fam eval again")
    ious = np.array(found_ious)
    best, worst = np.argsort(-ious, kind="stable"), np.argsort(ious, kind="stable")  # equal ones stay in order
    random = np.random.default_rng(seed).permutation(total)
    if total > most:
        third = max(1, most // 3) if most > 2 else 0
        best, worst = best[: most - 2 * third], worst[:third]
        random = random[:third]  # of all images, so some of them may be among the best or worst
    shown = np.unique(np.concatenate([best, worst, random]))
    featured = np.unique(np.concatenate([part[:FEATURED] for part in (best, worst, random)]))
    return Selection(total, shown.tolist(), random.tolist(), featured.tolist())


class Size(NamedTuple):
    """What the pictures and maps of a report may take."""

    images: int  # of a report of at most so many images
    side: int  # longer side of a thumbnail, in pixels
    quality: int  # WebP's, 0 to 100
    map_side: int  # maps with a longer side are averaged down to it


# Chosen so that a report stays below 25 MB on ImageNet's photos; the last row is for all larger ones too.
SIZES = (
    Size(600, 288, 60, 56),
    Size(1500, 224, 50, 28),
    Size(3000, 176, 45, 16),
    Size(5000, 144, 40, 14),
)


def size_for(images: int) -> Size:
    """The size of thumbnails in a report of so many images."""
    return next((size for size in SIZES if images <= size.images), SIZES[-1])


@dataclass(slots=True)
class Gallery:
    """The images of a report while it is written."""

    results: Results
    path: Path  # of the per-image results
    selection: Selection
    folder: Path | None = None  # photos are below it by name, if they have moved since they were scored
    workers: int = 2  # threads that read photos
    on_image: Callable[[], object] = lambda: None  # called after each photo
    facts: list[list[Any]] = field(default_factory=list)  # of each image that was read
    photos: list[tuple[int, Path]] = field(default_factory=list)  # of featured images: place in the report, and file
    missing: list[tuple[str, str]] = field(default_factory=list)  # photos that cannot be read, with the reason

    @property
    def methods(self) -> list[str]:
        """Methods that may have maps, in the order of a line."""
        return list(dict.fromkeys(row.method for row in self.results.rows))

    def blocks(self) -> Iterator[tuple[str, str]]:
        """Ids and contents of blocks of lines, a line an image, and of larger pictures; the photos are read here."""
        size = size_for(len(self.selection.shown))
        shown, featured = frozenset(self.selection.shown), frozenset(self.selection.featured)
        images = (item for item in enumerate(read_images(self.path)) if item[0] in shown)

        def load(item: tuple[int, ImageResult]) -> tuple[bytes, bytes]:
            return make_pictures(self._photo(item[1]), size, large=item[0] in featured)

        queued, workers = QUEUED * self.workers, self.workers
        # There is no network between reading a photo and using it: what is loaded goes on as it is.
        made = run_images(images, load, lambda batch: batch, lambda *found: found, batch_size=queued, workers=workers)
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
            self.facts.append(_facts(image, self.results))
            maps = (_map(image.maps.get(method), size.map_side) for method in self.methods)
            lines.append(" ".join([as_base64(thumbnail) or "-", *maps]))
            if len(lines) == BLOCK:
                yield f"pictures-{blocks}", "\n".join(lines)
                lines, blocks = [], blocks + 1
            self.on_image()
        if lines:
            yield f"pictures-{blocks}", "\n".join(lines)
        if len(self.missing) == len(self.facts):
            name, why = self.missing[0]
            raise DataError(f"not one photo can be read, first '{name}' ({why}): say where they are with --images DIR")

    def _photo(self, image: ImageResult) -> Path:
        return Path(image.path) if self.folder is None else self.folder / image.name


def make_pictures(path: Path, size: Size, *, large: bool) -> tuple[bytes, bytes]:
    """The thumbnail of a photo in WebP, and a larger picture, if asked for."""
    picture = read_picture(path, at_least=DECODE_MARGIN * (LARGE[0] if large else size.side)).image
    return _webp(picture, size.side, size.quality), _webp(picture, *LARGE) if large else b""


def _webp(picture: Image.Image, side: int, quality: int) -> bytes:
    small = picture.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=quality)
    return buffer.getvalue()


def _map(values: np.ndarray | None, most: int) -> str:
    """A map as ``h,w,bytes`` with the bytes in base64; ``-`` where there is none."""
    if values is None:
        return "-"
    (h, w), content = map_bytes(values, most)
    return f"{h},{w},{as_base64(content)}"


def map_bytes(values: np.ndarray, most: int) -> tuple[tuple[int, int], bytes]:
    """A map ``(h, w)`` uint8 averaged down to a longest side of ``most``: its new size, and its bytes row by row."""
    h, w = values.shape
    if max(h, w) > most:
        scale = most / max(h, w)
        h, w = max(1, round(h * scale)), max(1, round(w * scale))
        values = np.asarray(cv2.resize(values, (w, h), interpolation=cv2.INTER_AREA))
    return (h, w), values.tobytes()


def _facts(image: ImageResult, results: Results) -> list[Any]:
    """What filters, captions and boxes need, as the page's script takes it apart."""
    kinds, found = list(ERROR_TYPES), [image.found.get(row.title) for row in results.rows]
    boxes = [
        one and [one.box and _rounded(one.box), _round(one.iou, 4), kinds.index(one.kind), _round(one.score, 3)]
        for one in found
    ]
    truth = [_rounded(box) for box in image.truth]
    classes = [[label, round(probability, 3)] for label, probability in image.classes]
    return [image.name, image.label, image.width, image.height, truth, classes, image.rank, boxes]


def _rounded(box: Sequence[float]) -> list[float]:
    """Corners to a tenth of a pixel; whole numbers without a point, which is half of the page's data."""
    return [int(value) if value == int(value) else round(value, 1) for value in box]


def _round(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def as_base64(content: bytes) -> str:
    """Bytes as text."""
    return base64.b64encode(content).decode("ascii")

"""Which images a report shows, and their photos and maps made small."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from famcli.data.images import DECODE_MARGIN, read_picture
from famcli.results.images import ImageResult
from famcli.results.schema import Results
from famcli_models.errors import DataError

FEATURED = 12  # of the best, worst and random images: larger pictures and part maps
LARGE = (480, 60)  # side and quality of the pictures of featured images


@dataclass(frozen=True, slots=True)
class Selection:
    """Images of a report, by their place in the results folder.

    Attributes:
        total: Number of images scored.
        shown: Ascending; all of them, or the best, worst and random third of what was asked for.
        random: All of ``shown`` in random order, or the random ones alone if images were left out.
        featured: The first of the best, of the worst and of the random ones, ascending.
    """

    total: int
    shown: Sequence[int]
    random: Sequence[int]
    featured: Sequence[int]


def select(images: Iterable[ImageResult], results: Results, most: int, seed: int = 0) -> Selection:
    """Choose at most so many images by the IoU of the first row; no box is worse than the worst box.

    The images are read once and not kept.

    Raises:
        DataError: The images are not those of the results.
    """
    first, titles = results.rows[0], {row.title for row in results.rows}
    ious = []
    kinds: Counter[str] = Counter()
    labels: Counter[int] = Counter()
    for image in images:
        odd = image.found.keys() - titles
        if odd or first.title not in image.found:
            what = f"has boxes of '{min(odd)}', which" if odd else f"has no box of '{first.title}', which"
            msg = f"'{image.name}' {what} does not go with results.json: are both of one run of fam eval?"
            raise DataError(msg)
        found = image.found[first.title]
        ious.append(-1.0 if found.iou is None else found.iou)
        kinds[found.kind] += 1
        labels[image.label] += 1
    expected = results.data.get("images")
    if not ious or (expected is not None and expected != len(ious)):
        msg = f"{len(ious)} images in images.jsonl, {expected} in results.json: run fam eval with --out again"
        raise DataError(msg)
    by_class = {row.label: row.images for row in results.classes}
    if (first.kinds is not None and kinds != Counter(first.kinds)) or (by_class and labels != Counter(by_class)):
        msg = "images.jsonl and results.json count other images: both must be of one run of fam eval; run it again"
        raise DataError(msg)
    return _choose(np.array(ious), most, seed)


def _choose(ious: np.ndarray, most: int, seed: int) -> Selection:
    best, worst = np.argsort(-ious, kind="stable"), np.argsort(ious, kind="stable")  # equal ones stay in order
    random = np.random.default_rng(seed).permutation(len(ious))
    if len(ious) > most:
        third = max(1, most // 3) if most > 2 else 0
        best, worst = best[: most - 2 * third], worst[:third]
        random = random[:third]  # of all images, so some of them may be among the best or worst
    shown = np.unique(np.concatenate([best, worst, random]))
    featured = np.unique(np.concatenate([part[:FEATURED] for part in (best, worst, random)]))
    return Selection(len(ious), shown.tolist(), random.tolist(), featured.tolist())


class Size(NamedTuple):
    """What the pictures and maps of a report of at most so many images may take.

    Attributes:
        images: So many.
        side: Longer side of a thumbnail, in pixels.
        quality: WebP's, 0 to 100.
        map_side: Maps with a longer side are averaged down to it.
    """

    images: int
    side: int
    quality: int
    map_side: int


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


def make_pictures(path: Path, size: Size, *, large: bool) -> tuple[bytes, bytes]:
    """The thumbnail of a photo in WebP, and a larger picture, if asked for.

    Raises:
        DataError: The photo cannot be read.
    """
    picture = read_picture(path, at_least=DECODE_MARGIN * (LARGE[0] if large else size.side)).image
    return _webp(picture, size.side, size.quality), _webp(picture, *LARGE) if large else b""


def _webp(picture: Image.Image, side: int, quality: int) -> bytes:
    small = picture.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=quality)
    return buffer.getvalue()


def map_bytes(values: np.ndarray, most: int) -> tuple[tuple[int, int], bytes]:
    """A map ``(h, w)`` uint8 averaged down to a longest side of ``most``: its new size, and its bytes row by row."""
    h, w = values.shape
    if max(h, w) > most:
        scale = most / max(h, w)
        h, w = max(1, round(h * scale)), max(1, round(w * scale))
        values = np.asarray(cv2.resize(values, (w, h), interpolation=cv2.INTER_AREA))
    return (h, w), values.tobytes()


def as_base64(content: bytes) -> str:
    """Bytes as text."""
    return base64.b64encode(content).decode("ascii")

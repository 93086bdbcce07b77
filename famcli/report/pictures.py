"""Photos to small pictures inside the page, made in threads while the page is written."""

from __future__ import annotations

import base64
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from PIL import Image

from famcli.data.images import DECODE_MARGIN, read_picture
from famcli.results.images import ImageResult
from famcli_models.errors import DataError

QUEUED = 4  # pictures waiting for each thread: enough to keep it busy, few enough to keep memory flat
LARGE = (480, 60)  # side and quality of the pictures of featured images

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Size:
    """What the pictures and maps of a report may take.

    Attributes:
        images: For reports of at most so many images.
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


@dataclass(frozen=True, slots=True)
class Shot:
    """Pictures of one record.

    Attributes:
        thumbnail: WebP; empty if the photo cannot be read.
        large: WebP, of featured images; empty otherwise.
        problem: Why the photo cannot be read.
    """

    thumbnail: bytes = b""
    large: bytes = b""
    problem: str = ""


def shoot(path: Path, size: Size, *, large: bool) -> Shot:
    """Read one photo and make its pictures; a photo that cannot be read is a problem and not an error."""
    try:
        picture = read_picture(path, at_least=DECODE_MARGIN * (LARGE[0] if large else size.side)).image
    except DataError as error:
        return Shot(problem=str(error))
    return Shot(_webp(picture, size.side, size.quality), _webp(picture, *LARGE) if large else b"")


def _webp(picture: Image.Image, side: int, quality: int) -> bytes:
    small = picture.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=quality)
    return buffer.getvalue()


def map_bytes(values: np.ndarray, most: int) -> tuple[tuple[int, int], bytes]:
    """A map as the page takes it.

    Args:
        values: ``(h, w)`` uint8.
        most: The longest side that is kept; larger maps are averaged down.

    Returns:
        ``(h, w)`` and as many bytes, row by row.
    """
    h, w = values.shape
    if max(h, w) > most:
        scale = most / max(h, w)
        h, w = max(1, round(h * scale)), max(1, round(w * scale))
        values = np.asarray(cv2.resize(values, (w, h), interpolation=cv2.INTER_AREA))
    return (h, w), values.tobytes()


def as_base64(content: bytes) -> str:
    """Bytes as text."""
    return base64.b64encode(content).decode("ascii")


def in_threads(work: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[tuple[T, R]]:
    """Each item with what ``work`` makes of it, in order; only a few are in memory at a time."""
    waiting: deque[tuple[T, Future[R]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) >= QUEUED * workers:
                first, done = waiting.popleft()
                yield first, done.result()
        for first, done in waiting:
            yield first, done.result()


def photo_of(record: ImageResult, images: Path | None) -> Path:
    """Where a record's photo is: where it was scored, or below ``images`` by name."""
    return Path(record.path) if images is None else images / record.name

"""One line of JSON for each scored image, ``images.jsonl``: what a report shows beside the numbers.

The page "Results" of the documentation says what each key means. The file is written and read line by line, so that
memory does not grow with the number of images; a line and a map are bounded, so that a strange file cannot fill it.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from famcli.data.sample import MAX_CLASSES, MAX_PIXEL
from famcli.evaluation.errortypes import KINDS
from famcli.results.schema import (
    Check,
    MismatchError,
    mapping,
    mismatch,
    number,
    one_of,
    optional,
    parse,
    record,
    sequence,
    text,
    whole,
)
from famcli_models.errors import DataError, ShapeError
from famcli_models.files import write_atomic

FILE_NAME = "images.jsonl"
MAX_LINE = 8 * 2**20  # bytes
MAX_MAP = 512  # values on a side
MAX_SHOWN_CLASSES = 5

_SLACK = 1e-6  # what a share computed in float32 may exceed 1 by

Box = tuple[float, float, float, float]
ByteMap = npt.NDArray[np.uint8]


def byte_map(M: npt.ArrayLike) -> ByteMap:
    """A map as records keep it; it loses what lies between two steps of 1/255.

    Args:
        M: ``(h, w)`` values; those outside of [0, 1] are cut to it.

    Returns:
        ``(h, w)`` bytes, 255 for 1.

    Raises:
        ShapeError: It is not two-dimensional, larger than 512 on a side, or has a value that is not finite.
    """
    array = np.asarray(M, dtype=np.float64)
    if array.ndim != 2 or not 1 <= min(array.shape) <= max(array.shape) <= MAX_MAP or not np.isfinite(array).all():
        msg = f"a map of shape {array.shape} cannot be stored; expected finite values, 1 to {MAX_MAP} on each side"
        raise ShapeError(msg)
    return np.rint(array.clip(0, 1) * 255).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Found:
    """What one way of making boxes found.

    Attributes:
        box: Half-open xyxy in original pixels; ``None`` without a box.
        iou: Best IoU with a truth box, in [0, 1]; ``None`` without a box.
        score: Score of the box as a detection; ``None`` if it has none.
        kind: A name of :data:`famcli.evaluation.errortypes.KINDS`.
    """

    box: Box | None
    iou: float | None
    score: float | None
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """One scored image.

    Attributes:
        name: What the data set calls it.
        path: Where the photo was, absolute.
        label: Its class.
        width: Of the original image, EXIF orientation applied, in pixels.
        height: Likewise.
        truth: Half-open xyxy in original pixels.
        classes: The most probable classes, best first, at most five: index and probability.
        rank: Place of the right class, 0 for the best; ``None`` where classes do not apply.
        found: By title of a row of the result.
        maps: By method ``(h, w)`` bytes, see :func:`byte_map`, at the network's own resolution; none where there is
            no map, or none is kept. They do not count when records are compared.
    """

    name: str
    path: str
    label: int
    width: int
    height: int
    truth: tuple[Box, ...]
    classes: tuple[tuple[int, float], ...] = ()
    rank: int | None = None
    found: Mapping[str, Found] = field(default_factory=dict)
    maps: Mapping[str, ByteMap] = field(default_factory=dict, compare=False)


def write_records(path: Path, records: Iterable[ImageRecord]) -> int:
    """Write records as they come; the file is whole or not there.

    Returns:
        Number of records.

    Raises:
        DataError: A record holds a number that is not finite, or the file cannot be written.
    """
    count = 0

    def fill(temporary: Path) -> None:
        nonlocal count
        # A name with bytes that are no text becomes \udcXX, which is what JSON calls it.
        with temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            for count, entry in enumerate(records, 1):  # noqa: B007  (counts)
                file.write(_line(entry))

    try:
        write_atomic(path, fill)
    except OSError as error:
        msg = f"cannot write '{path}': {error.strerror or error}; choose another --out"
        raise DataError(msg) from error
    return count


def _line(entry: ImageRecord) -> str:
    document = {
        "name": entry.name,
        "path": entry.path,
        "label": entry.label,
        "width": entry.width,
        "height": entry.height,
        "truth": entry.truth,
        "classes": entry.classes,
        "rank": entry.rank,
        "found": {
            title: {"box": f.box, "iou": f.iou, "score": f.score, "kind": f.kind} for title, f in entry.found.items()
        },
        "maps": {
            method: {"size": M.shape, "data": base64.b64encode(M.tobytes()).decode("ascii")}
            for method, M in entry.maps.items()
        },
    }
    try:
        return json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError as error:
        msg = f"the record of image '{entry.name}' holds a number that is not finite and cannot be written"
        raise DataError(msg) from error


def read_records(path: Path) -> Iterator[ImageRecord]:
    """Read records one at a time.

    Raises:
        DataError: The file is absent, or a line is damaged or not what ``fam eval`` writes.
    """
    try:
        with path.open("rb") as file:
            number_of = 0
            while line := file.readline(MAX_LINE + 1):
                number_of += 1
                yield _read(line, f"line {number_of} of '{path}'")
    except FileNotFoundError as error:
        msg = f"'{path}' does not exist; write it with fam eval --out {path.parent}"
        raise DataError(msg) from error
    except OSError as error:
        msg = f"cannot read '{path}': {error.strerror or error}"
        raise DataError(msg) from error


def _read(line: bytes, where: str) -> ImageRecord:
    if len(line) > MAX_LINE:
        msg = f"{where} is longer than {MAX_LINE >> 20} MiB, which no image needs; write the file again with fam eval"
        raise DataError(msg)
    try:
        document = parse(line)
    except ValueError as error:
        cut = "" if line.endswith(b"\n") else ", and its end is missing"
        msg = f"{where} is no JSON{cut}; write the file again with fam eval"
        raise DataError(msg) from error
    try:
        found: ImageRecord = _RECORD(document, "")
    except MismatchError as error:
        msg = f"{where} is no record of an image: {error}"
        raise DataError(msg) from error
    return found


def _box(value: Any, where: str) -> Box:
    x0, y0, x1, y1 = _corners(value, where)
    if x0 > x1 or y0 > y1:
        raise mismatch(value, where, "a box x0, y0, x1, y1 with x0 <= x1 and y0 <= y1")
    return x0, y0, x1, y1


def _pair(value: Any, where: str) -> tuple[int, float]:
    if not isinstance(value, list) or len(value) != 2:
        raise mismatch(value, where, "a class and its probability")
    return _class(value[0], f"{where}[0]"), _share(value[1], f"{where}[1]")


def _found(value: Any, where: str) -> Found:
    found: Found = _FOUND(value, where)
    if len({found.box is None, found.iou is None, found.kind == "empty"}) > 1:
        raise mismatch(value, where, "either a box with an iou, or neither of them and of the kind 'empty'")
    return found


def _map(value: Any, where: str) -> ByteMap:
    (h, w), encoded = _MAP(value, where)
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise mismatch(encoded, f"{where}.data", "base64") from error
    if len(data) != h * w:
        raise mismatch(len(data), f"{where}.data", f"{h * w} bytes")
    return np.frombuffer(data, np.uint8).reshape(h, w)


def _map_parts(size: tuple[int, int], data: str) -> tuple[tuple[int, int], str]:
    return size, data


_corners = sequence(number(-MAX_PIXEL, MAX_PIXEL), 4, 4)
_class = whole(0, MAX_CLASSES)
_share = number(0, 1 + _SLACK)
_side = whole(1, MAX_MAP)
_FOUND: Check = record(
    Found, {"box": optional(_box), "iou": optional(_share), "score": optional(number()), "kind": one_of(KINDS)}
)
_MAP: Check = record(_map_parts, {"size": sequence(_side, 2, 2), "data": text})
_RECORD: Check = record(
    ImageRecord,
    {
        "name": text,
        "path": text,
        "label": _class,
        "width": whole(1, MAX_PIXEL),
        "height": whole(1, MAX_PIXEL),
        "truth": sequence(_box),
        "classes": sequence(_pair, 0, MAX_SHOWN_CLASSES),
        "rank": optional(_class),
        "found": mapping(_found),
        "maps": mapping(_map),
    },
)

"""Sizes of image files from their headers; pixels are decoded only in PNGs, whose EXIF may lie behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from PIL import Image

from famcli.data.images import FORMATS, TURNED, orientation_of
from famcli_models.errors import DataError

AHEAD = 512  # files in flight: enough to keep a network disk busy, few enough for any memory


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of an image says."""

    size_hw: tuple[int, int]  # EXIF orientation applied
    orientation: int = 1  # EXIF's, 1 to 8; 1 is upright


def read_header(path: Path) -> Header:
    """Size and orientation of an image file.

    Raises:
        DataError: It is no image that can be read; the message is the reason alone, without the path.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            orientation = 1 if image.format == "TIFF" else orientation_of(image)  # Pillow turns TIFF itself
            return Header((width, height) if orientation in TURNED else (height, width), orientation)
    except FileNotFoundError as error:
        raise DataError("no such file") from error
    except Exception as error:  # Pillow raises whatever a damaged byte leads to
        msg = f"not an image that can be read ({str(error).partition(' <')[0] or type(error).__name__})"
        raise DataError(msg) from error


def read_size(path: Path) -> tuple[int, int]:
    """``(h, w)`` of an image file, EXIF orientation applied; raises as :func:`read_header`."""
    return read_header(path).size_hw


def read_headers(
    paths: Iterable[Path], workers: int = 8, step: Callable[[], object] = lambda: None
) -> Iterator[Header | DataError]:
    """Headers of many files in order, or the error where a file cannot be read; ``step`` is called after each.

    The paths are read lazily, a few hundred ahead, so that memory stays flat.
    """
    source = iter(paths)
    with ThreadPoolExecutor(workers, thread_name_prefix="fam") as pool:
        while chunk := list(islice(source, AHEAD)):
            for result in pool.map(_header_or_error, chunk):
                step()
                yield result


def _header_or_error(path: Path) -> Header | DataError:
    try:
        return read_header(path)
    except DataError as error:
        return error

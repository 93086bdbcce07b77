"""Reads image files to RGB pictures, EXIF orientation applied; what is wrong with a file is said in one sentence."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from famcli.data.foreign import HEAD, describe
from famcli.data.sources import Member, open_local, read_bytes, scheme_of
from famcli_models.errors import DataError, FamError, ShapeError

# Loaded here, once: Pillow's own loading on first use is not safe between threads.
for _plugin in ("Jpeg", "Png", "WebP", "Bmp", "Tiff"):
    import_module(f"PIL.{_plugin}ImagePlugin")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF")  # JPEG includes MPO, the multi-picture files of many phones
EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff"})
MAX_PIXELS = 178_956_970  # Pillow's own limit for a decompression bomb: 13,377 pixels squared
# JPEGs may be decoded small while both sides keep this many times the network's input, which then differs by 0.8 of 255
# levels in the mean (docs/guides/predict.md, "Speed").
DECODE_MARGIN = 2
AHEAD = 512  # files in flight: enough to keep a network disk busy, few enough for any memory
TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height
T = TypeVar("T")
# A file or URL, a member of a tar, the bytes of a file, a Pillow image, or RGB (h, w, 3) uint8.
Source = str | Path | Member | bytes | Image.Image | np.ndarray
_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (FileNotFoundError, "no such file"),
    (PermissionError, "no permission to read it"),
    (IsADirectoryError, "it is a folder, not an image"),
)


def is_image(name: str) -> bool:
    """Whether a file name has the extension of a format that is read, and is not hidden."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS and not name.startswith(".")


class Picture(NamedTuple):
    """A decoded image."""

    image: Image.Image  # RGB, orientation applied; smaller than the original if ``at_least`` allowed it
    size_hw: tuple[int, int]  # (h, w) of the original, orientation applied


def read_picture(source: Source, at_least: int | None = None) -> Picture:
    """Decode an image (its first frame); the message of a ``DataError`` is the reason alone, without the path.

    The format is recognised by content and not by name; transparent pixels are shown on white, 16-bit and floating
    point values are scaled to 8 bits. A JPEG may be decoded at a half, quarter or eighth of its size while both sides
    stay ``at_least`` so many pixels; large photographs decode several times faster.
    """
    _check_kind(source)
    with _reasons():
        if isinstance(source, np.ndarray):
            return _array_picture(source)
        if isinstance(source, Member) or (isinstance(source, str) and scheme_of(source)):
            source = read_bytes(source)
        return _upright_picture(source) if isinstance(source, Image.Image) else _decode(source, at_least)


def read_file(source: str | Path | Member) -> bytes:
    """The bytes of an image file, of a URL or of a member of a tar; raises as :func:`read_picture`."""
    with _reasons():
        return read_bytes(source)


@contextmanager
def _reasons() -> Iterator[None]:
    """Any error inside becomes one with the reason in a few words."""
    try:
        yield
    except FamError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(_too_large("its header")) from error
    except Exception as error:  # Pillow's decoders raise whatever a damaged byte leads to
        damaged = f"damaged image ({str(error) or type(error).__name__})"
        raise DataError(next((why for kind, why in _REASONS if isinstance(error, kind)), damaged)) from error


def _check_kind(source: object) -> None:
    if not isinstance(source, (str, Path, Member, bytes, Image.Image, np.ndarray)):
        given = f"a {type(source).__name__} is no image"
        raise DataError(f"{given}: give a path, a Pillow image, an RGB array (h, w, 3) uint8, or the bytes of a file")


def _decode(source: str | Path | bytes, at_least: int | None) -> Picture:
    with BytesIO(source) if isinstance(source, bytes) else open_local(source) as file, _open(file) as image:
        full = image.size
        if full[0] * full[1] > MAX_PIXELS:
            raise DataError(_too_large(f"{full[0]}x{full[1]}"))
        if at_least is not None:
            image.draft("RGB", (at_least, at_least))
        # Pillow turns TIFF itself, on opening or on loading, and never decodes it small.
        return _upright_picture(image, None if image.format == "TIFF" else full)


def _open(file: BinaryIO) -> Image.Image:
    """An image whose header is read; of something else is said what it is."""
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        file.seek(0)
        head = file.read(HEAD)
        what = describe(head)
        known = "not a JPEG, PNG, WebP, BMP or TIFF image" + (f", but {what}" if what else "")
        raise DataError(known if head else "the file is empty") from error


def _too_large(what: str) -> str:
    return f"too large ({what}; at most {MAX_PIXELS / 1e6:.0f} million pixels); make it smaller first"


def orientation_of(image: Image.Image) -> int:
    """EXIF orientation of an opened image, 1 to 8; 1, upright, if the EXIF has none or is damaged."""
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
        return int(orientation) if orientation in range(1, 9) else 1
    except Exception:  # noqa: BLE001  (Pillow raises whatever a damaged byte leads to; the pixels may be whole)
        return 1


def _upright_picture(image: Image.Image, full: tuple[int, int] | None = None) -> Picture:
    """An opened Pillow image in any mode, its EXIF orientation applied; ``full`` is its ``(w, h)`` if larger."""
    if 0 in image.size:
        raise ShapeError(f"the image has no pixels ({image.width}x{image.height})")
    image.load()  # TIFFs are turned by it, and the EXIF of a PNG may lie behind the pixels
    orientation = orientation_of(image)
    width, height = full or image.size
    upright = image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image
    return Picture(_to_rgb(upright), (width, height) if orientation in TURNED else (height, width))


def _array_picture(array: np.ndarray) -> Picture:
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or array.size == 0:
        raise ShapeError(f"the image is {array.dtype} of shape {array.shape}; expected uint8 (h, w, 3), RGB")
    return Picture(Image.fromarray(array), (array.shape[0], array.shape[1]))


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode to RGB; alpha on white, deep values scaled."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return Image.fromarray(_to_8_bit(np.asarray(image))).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bit(values: np.ndarray) -> np.ndarray:
    """Deep gray values to uint8: floats up to 1 by 255, others by the range of 8 or 16 bits that holds them."""
    values = np.nan_to_num(values.astype(np.float64))
    top = values.max(initial=0)
    full = 1 if top <= 1 and not np.all(values == np.round(values)) else 255 if top <= 255 else max(65535, top)
    return (values.clip(0) * (255 / full)).round().astype(np.uint8)


class Header(NamedTuple):
    """What the header of an image says."""

    size_hw: tuple[int, int]  # EXIF orientation applied
    orientation: int = 1  # EXIF's, 1 to 8; 1 is upright


def read_header(path: Path) -> Header:
    """Size and orientation of an image file."""
    try:
        with open_local(path) as file, _open(file) as image:
            width, height = image.size
            orientation = 1 if image.format == "TIFF" else orientation_of(image)  # Pillow turns TIFF itself
            return Header((width, height) if orientation in TURNED else (height, width), orientation)
    except DataError:
        raise
    except Exception as error:  # Pillow raises whatever a damaged byte leads to
        why = str(error).partition(" <")[0] or type(error).__name__
        raise DataError(f"not an image that can be read ({why})") from error


def read_size(path: Path) -> tuple[int, int]:
    """``(h, w)`` of an image file, EXIF orientation applied; raises as :func:`read_header`."""
    return read_header(path).size_hw


def read_headers(paths: Iterable[Path], step: Callable[[], object] = lambda: None) -> Iterator[Header | DataError]:
    """Headers of many files in order, or the error where a file cannot be read; ``step`` is called after each."""

    def header_or_error(path: Path) -> Header | DataError:
        try:
            return read_header(path)
        except DataError as error:
            return error

    for header in on_threads(header_or_error, paths, 8):
        step()
        yield header


def on_threads(function: Callable[[Path], T], paths: Iterable[Path], workers: int) -> Iterator[T]:
    """Results for many files, in order; a few hundred ahead, so that memory stays flat."""
    left = iter(paths)
    with ThreadPoolExecutor(workers, thread_name_prefix="fam") as pool:
        while chunk := list(islice(left, AHEAD)):
            yield from pool.map(function, chunk)

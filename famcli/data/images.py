"""Reads image files to RGB pictures, EXIF orientation applied; what is wrong with a file is said in one sentence."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib import import_module
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from famcli.data.depth import (
    AUTO_RANGE,
    DeepImage,
    ValueRange,
    is_deep,
    lower_bytes,
    parts,
    upper_bytes_suffice,
)
from famcli.data.foreign import HEAD, describe
from famcli.data.formats import (
    CUT_SHORT,
    NO_END,
    PNG,
    Scans,
    check_layout,
    check_png,
    lacks_rows,
    rawmode_of,
    replace_rawmode,
    said_by_libtiff,
    take_words_of_libtiff,
    why_unopened,
)
from famcli.data.memory import memory_here
from famcli.data.sources import Member, open_local, read_bytes, scheme_of
from famcli_models.errors import DataError, FamError, ShapeError, short

# Loaded here, once: Pillow's own loading on first use is not safe between threads.
for _plugin in ("Jpeg", "Png", "WebP", "Bmp", "Tiff"):
    import_module(f"PIL.{_plugin}ImagePlugin")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF")  # JPEG includes MPO, the multi-picture files of many phones
EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff"})
MAX_PIXELS = 178_956_970  # Pillow's own limit for a decompression bomb: 13,377 pixels squared
MAX_SIDE = 1 << 16  # pixels, more than any JPEG has: to resize a longer side takes more memory than its pixels
RGB_BYTES = 4  # of a pixel in Pillow
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
    remark: str | None = None  # what the file lacks, though all pixels could be read


def read_picture(source: Source, at_least: int | None = None, value_range: ValueRange = AUTO_RANGE) -> Picture:
    """Decode an image (its first frame); the message of a ``DataError`` is the reason alone, without the path.

    The format is recognised by content and not by name; transparent pixels are shown on white, 16-bit and floating
    point values are scaled to 8 bits, as :mod:`famcli.data.depth` says. A JPEG may be decoded at a half, quarter or
    eighth of its size while both sides stay ``at_least`` so many pixels; large photographs decode several times faster.
    """
    with open_picture(source, at_least, value_range) as picture:
        return picture


@contextmanager
def open_picture(
    source: Source, at_least: int | None = None, value_range: ValueRange = AUTO_RANGE
) -> Iterator[Picture]:
    """Decode an image as :func:`read_picture`; until the context ends, others wait for the memory that it takes."""
    _check_kind(source)
    with ExitStack() as taken:
        with _reasons():
            picture = _picture(source, at_least, value_range, taken)
        yield picture


def _picture(source: Source, at_least: int | None, value_range: ValueRange, taken: ExitStack) -> Picture:
    if isinstance(source, np.ndarray):
        return _array_picture(source)
    if isinstance(source, Image.Image):
        return _upright_picture(source, value_range)
    if isinstance(source, Member) or (isinstance(source, str) and scheme_of(source)):
        source = read_bytes(source)
    with BytesIO(source) if isinstance(source, bytes) else open_local(source) as file:
        return _decode(file, at_least, value_range, taken)


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
    except MemoryError as error:
        raise DataError("too large (there is not enough memory to decode it); make it smaller first") from error
    except Exception as error:  # Pillow's decoders raise whatever a damaged byte leads to
        damaged = f"damaged image ({said_by_libtiff() or short(str(error)) or type(error).__name__})"
        raise DataError(next((why for kind, why in _REASONS if isinstance(error, kind)), damaged)) from error


def _check_kind(source: object) -> None:
    if not isinstance(source, (str, Path, Member, bytes, Image.Image, np.ndarray)):
        given = f"a {type(source).__name__} is no image"
        raise DataError(f"{given}: give a path, a Pillow image, an RGB array (h, w, 3) uint8, or the bytes of a file")


def _decode(file: BinaryIO, at_least: int | None, value_range: ValueRange, taken: ExitStack) -> Picture:
    take_words_of_libtiff()
    remark = check_png(file) if file.read(len(PNG)) == PNG else None
    with _open(file) as image:
        (width, height), format_name = image.size, image.format
        if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
            raise DataError(_too_large(f"{width}x{height}"))
        check_layout(image)
        scans = _scans(file, width * height) if format_name in ("JPEG", "MPO") else None
        deep = None if scans else lower_bytes(rawmode_of(image))
        if at_least is not None:
            image.draft("RGB", (at_least, at_least))
        size = _decoded_bytes(image, (width, height), scans, deep is not None)
        taken.enter_context(memory_here().take(size, f"{width}x{height} {format_name} of mode {image.mode}"))
        # Pillow turns TIFF itself, on opening or on loading, and never decodes it small.
        full = None if format_name == "TIFF" else (width, height)
        if scans is not None and not scans.ended:
            return _without_end(scans, len(image.layer), at_least, full)  # type: ignore[attr-defined]
        image.load()
        if format_name == "PNG" and lacks_rows(file, image):
            raise DataError(CUT_SHORT)
        if deep is not None:
            image = _with_lower_bytes(image, file, deep, value_range)  # noqa: PLW2901
        return _upright_picture(image, value_range, full)._replace(remark=remark)


def _scans(file: BinaryIO, pixels: int) -> Scans:
    file.seek(0)
    scans = Scans.from_bytes(file.read())
    scans.check(pixels)
    return scans


def _without_end(scans: Scans, layers: int, at_least: int | None, full: tuple[int, int] | None) -> Picture:
    """A JPEG without its end marker, if nothing else is missing: then no pixel depends on what follows."""
    if not scans.hold_all(layers):
        raise DataError(CUT_SHORT)
    ways = (_upright_picture(_drafted(content, at_least), AUTO_RANGE, full) for content in scans.endings())
    picture = next(ways)
    if any(other.image != picture.image for other in ways):
        raise DataError(CUT_SHORT)
    return picture._replace(remark=NO_END)


def _drafted(content: bytes, at_least: int | None) -> Image.Image:
    image = Image.open(BytesIO(content), formats=FORMATS)
    if at_least is not None:
        image.draft("RGB", (at_least, at_least))
    return image


def _with_lower_bytes(image: Image.Image, file: BinaryIO, rawmode: str, value_range: ValueRange) -> Image.Image:
    """Colours of 16 bits, of which Pillow reads the upper bytes, as the range shows them; often these are enough."""
    if upper_bytes_suffice(image, value_range):
        return image
    with _open(file) as low:
        for index in range(len(low.tile)):  # type: ignore[attr-defined]
            replace_rawmode(low, index, rawmode)
        low.load()
        if rawmode == "RGBA":  # of gray and alpha both bytes
            gray, alpha = low.getchannel(1), low.getchannel(3)
            return DeepImage(image, Image.merge("RGBA", (gray, gray, gray, alpha))).to_8_bits(value_range)
        return DeepImage(image, low).to_8_bits(value_range)


def _decoded_bytes(image: Image.Image, full: tuple[int, int], scans: Scans | None, deep: bool) -> int:
    """The most memory that an opened image takes on its way to RGB, as measured; after ``draft`` it may be small."""
    pixels, bands = image.width * image.height, len(image.getbands())
    own = 1 if image.mode in ("1", "L", "P") else 2 if image.mode.startswith("I;16") else 4
    plain = image.mode == "RGB" and "transparency" not in image.info
    copies = (not plain) + (orientation_of(image) > 1) + 2 * deep
    size = pixels * (own + RGB_BYTES * copies)
    if scans is not None and len(scans.places) > 1:
        size += 2 * bands * full[0] * full[1]  # the coefficients of all scans
    if scans is not None and not scans.ended:
        size *= 3  # one picture, another to compare, and what is decoded
    if image.format == "WEBP":
        size += 3 * RGB_BYTES * pixels  # canvases of its animations
    elif image.format == "TIFF":
        size += _strip_bytes(image)
    return size


def _strip_bytes(image: Image.Image) -> int:
    """Bytes of a strip or tile of a TIFF, which libtiff decodes at once."""
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    width, height = tags.get(322, image.width), tags.get(323, min(tags.get(278, image.height), image.height))
    return int(width * height * sum(tags.get(258, (1,))) // 8)


def _open(file: BinaryIO) -> Image.Image:
    """An image whose header is read; of something else is said what it is."""
    file.seek(0)
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        if layout := why_unopened(file):
            raise DataError(layout) from error
        file.seek(0)
        head = file.read(HEAD)
        what = describe(head)
        known = "not a JPEG, PNG, WebP, BMP or TIFF image" + (f", but {what}" if what else "")
        raise DataError(known if head else "the file is empty") from error


def _too_large(what: str) -> str:
    most = f"at most {MAX_PIXELS / 1e6:.0f} million pixels, and {MAX_SIDE:,} a side"
    return f"too large ({what}; {most}); make it smaller first"


def orientation_of(image: Image.Image) -> int:
    """EXIF orientation of an opened image, 1 to 8; 1, upright, if the EXIF has none or is damaged."""
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
        return int(orientation) if orientation in range(1, 9) else 1
    except Exception:  # noqa: BLE001  (Pillow raises whatever a damaged byte leads to; the pixels may be whole)
        return 1


def _upright_picture(image: Image.Image, value_range: ValueRange, full: tuple[int, int] | None = None) -> Picture:
    """An opened Pillow image in any mode, its EXIF orientation applied; ``full`` is its ``(w, h)`` if larger."""
    if 0 in image.size:
        raise ShapeError(f"the image has no pixels ({image.width}x{image.height})")
    image.load()  # TIFFs are turned by it, and the EXIF of a PNG may lie behind the pixels
    orientation = orientation_of(image)
    width, height = full or image.size
    rgb = _to_rgb(image, value_range)
    upright = rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb
    return Picture(upright, (width, height) if orientation in TURNED else (height, width))


def _array_picture(array: np.ndarray) -> Picture:
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or array.size == 0:
        raise ShapeError(f"the image is {array.dtype} of shape {array.shape}; expected uint8 (h, w, 3), RGB")
    return Picture(Image.fromarray(array), (array.shape[0], array.shape[1]))


def _to_rgb(image: Image.Image, value_range: ValueRange) -> Image.Image:
    """Any Pillow mode to RGB; alpha on white, deep values scaled."""
    if is_deep(image):
        image = DeepImage.from_gray(image).to_8_bits(value_range)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return _on_white(image)
    if image.mode == "LAB":
        raise DataError("its colours are CIE L*a*b*, which is not supported: convert it to RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    """Transparent pixels on white, part by part: whole, it takes five times the memory."""
    rgb = Image.new("RGB", image.size)
    for box in parts(image.size):
        part = image.crop(box).convert("RGBA")
        rgb.paste(Image.alpha_composite(Image.new("RGBA", part.size, "white"), part).convert("RGB"), box)
    return rgb


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

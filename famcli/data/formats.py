"""What has to be known of an image file and Pillow does not check: chunks of a PNG, scans of a JPEG, layouts."""

from __future__ import annotations

import ctypes
import os
import re
import struct
import threading
import zlib
from functools import cache
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image, _imaging
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from famcli_models.errors import DataError, short

PNG = b"\x89PNG\r\n\x1a\n"
MAX_SCANS = 64  # of a JPEG: encoders write about ten, and each costs a pass over all of the picture
MAX_SCANNED = 2_200_000_000  # pixels of all scans: twelve scans of the largest picture
END = b"\xff\xd9"  # of a JPEG
NO_END = "its end marker is missing, but all pixels are there"
CUT_SHORT = "damaged image (it is cut short)"
_SCAN = re.compile(rb"\xff\xda")
_BLOCK = 1 << 20  # bytes read at once
_BIG_ENDIAN = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "F;32BF": "F;32NF"}  # of libtiff's values, which are native


def check_png(file: BinaryIO) -> str | None:
    """Read a PNG through: a chunk that is cut short or has a wrong checksum is an error; a missing end is a remark."""
    file.seek(len(PNG))
    pixels = False
    while len(head := file.read(8)) == 8:
        left, kind = struct.unpack(">I4s", head)
        checksum, pixels = zlib.crc32(kind), pixels or kind == b"IDAT"
        while left and (block := file.read(min(left, _BLOCK))):
            checksum, left = zlib.crc32(block, checksum), left - len(block)
        stored = file.read(4)
        if len(stored) < 4 and kind != b"IEND":
            raise DataError(CUT_SHORT)
        if len(stored) == 4 and int.from_bytes(stored, "big") != checksum:
            raise DataError(f"damaged image (the checksum of its {short(repr(kind)[2:-1])} chunk is wrong)")
        if kind == b"IEND":
            return None
    if not pixels:
        raise DataError(CUT_SHORT)
    return NO_END


def lacks_rows(file: BinaryIO, image: Image.Image) -> bool:
    """Whether the rows of a loaded PNG end before the last one, which Pillow leaves black then and does not say."""
    last = image.crop((0, image.height - 1, image.width, image.height))
    if image.info.get("interlace") or np.asarray(last).any():
        return False
    file.seek(24)
    bits, colour = file.read(2)
    missing = image.height * (1 + (image.width * bits * {2: 3, 4: 2, 6: 4}.get(colour, 1) + 7) // 8)
    inflate = zlib.decompressobj()
    file.seek(len(PNG))
    while missing > 0 and len(head := file.read(8)) == 8:
        left, kind = struct.unpack(">I4s", head)
        while kind == b"IDAT" and missing > 0 and (block := file.read(min(left, _BLOCK))):
            left -= len(block)
            while block and missing > 0:
                missing -= len(inflate.decompress(block, _BLOCK))
                block = inflate.unconsumed_tail
        file.seek(left + 4, os.SEEK_CUR)
    return missing > len(inflate.flush())


class Scans(NamedTuple):
    """The scans of a JPEG, as far as its first picture goes."""

    data: bytes
    places: list[int]
    ended: bool

    @classmethod
    def from_bytes(cls, data: bytes) -> Scans:
        """Find them: behind the segments of the header no marker is a value of something else."""
        at = 2
        while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
            filled = data[at + 1] == 0xFF
            at += 1 if filled else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        end = data.find(END, at)
        places = [match.start() for match in _SCAN.finditer(data, at, len(data) if end < 0 else end)]
        return cls(data, places, end >= 0)

    def check(self, pixels: int) -> None:
        """Refuse what takes minutes to decode."""
        most = min(MAX_SCANS, MAX_SCANNED // pixels)
        if len(self.places) > most:
            raise DataError(f"too many scans ({len(self.places)}; at most {most} for its size): save it again")

    def hold_all(self, layers: int) -> bool:
        """Whether they hold every coefficient of so many layers to the last bit."""
        missing = {}  # bits of a coefficient of a layer
        for at in self.places:
            count = self.data[at + 4] if at + 4 < len(self.data) else 0
            band = self.data[at + 5 + 2 * count : at + 8 + 2 * count]
            if len(band) == 3:
                layer_ids = self.data[at + 5 : at + 5 + 2 * count : 2]
                missing.update({(layer, k): band[2] & 15 for layer in layer_ids for k in range(band[0], band[1] + 1)})
        return len(missing) == 64 * layers and not any(missing.values())

    def endings(self) -> list[bytes]:
        """The file with ends that only a decoder that misses pixels reads differently."""
        return [self.data + fill * 64 + END for fill in (b"", b"\x55", b"\xfe")]


def why_unopened(file: BinaryIO) -> str | None:
    """Why Pillow does not open a file that begins as an image does; ``None`` if it does not."""
    file.seek(0)
    head = file.read(16)
    for name in ("JPEG", "PNG", "WEBP", "BMP", "TIFF"):
        factory, accept = Image.OPEN[name]
        if accept is None or not accept(head):
            continue
        try:
            file.seek(0)
            factory(file, "")
        except Exception as error:  # noqa: BLE001  (it raises whatever a damaged byte leads to)
            reason = str(error) or type(error).__name__
            layout = _tiff_layout(file) if name == "TIFF" else ""
            return f"a {name} that is damaged or of a layout that is not supported ({short(layout or reason)})"
    return None


def _tiff_layout(file: BinaryIO) -> str:
    """Bits, kind and order of the values of a TIFF, as far as they can be read."""
    try:
        file.seek(0)
        head = file.read(8)
        tags = ImageFileDirectory_v2(head + (file.read(8) if head[2] == 43 else b""))
        file.seek(tags.next)
        tags.load(file)
        bits, kinds = tags.get(258, (1,)), {1: "unsigned", 2: "signed", 3: "floating point"}
        kind = kinds.get(tags.get(339, (1,))[0], "other")
        return f"{len(bits)} {kind} values of {max(bits)} bits a pixel, photometric {tags.get(262)}"
    except Exception:  # noqa: BLE001
        return ""


def check_layout(image: Image.Image) -> None:
    """Refuse a TIFF whose values Pillow reads wrongly, and put right what it only takes in the wrong order of bytes."""
    tags: Any = getattr(image, "tag_v2", None)
    if tags is None:
        return
    bits, formats, separate = tags.get(258, (1,)), tags.get(339, (1,)), tags.get(284) == 2
    if (max(bits) == 8 and 2 in formats) or (max(bits) > 8 and len(bits) > 1 and separate):
        what = "planes of more than 8 bits" if separate else "signed values of 8 bits"
        raise DataError(f"a TIFF of a layout that is not supported ({what}): convert it to PNG")
    for i, tile in enumerate(image.tile):  # type: ignore[attr-defined]
        if tile[0] == "libtiff" and tile[3][0] in _BIG_ENDIAN:
            replace_rawmode(image, i, _BIG_ENDIAN[tile[3][0]])


def rawmode_of(image: Image.Image) -> str:
    """How Pillow reads the values of an opened image, for example ``RGB;16B``; empty if it is loaded."""
    tiles: Any = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    return str(arguments if isinstance(arguments, str) else arguments[0] if arguments else "")


def replace_rawmode(image: Image.Image, index: int, rawmode: str) -> None:
    """Have a tile of an opened image read in another way."""
    tiles: Any = image.tile  # type: ignore[attr-defined]
    codec, extents, offset, arguments = tiles[index]
    given = rawmode if isinstance(arguments, str) else (rawmode, *arguments[1:])
    made = type(tiles[index])
    tiles[index] = (codec, extents, offset, given) if made is tuple else made(codec, extents, offset, given)


class _Said(threading.local):
    """What libtiff has said in this thread."""

    text = ""


_said = _Said()


def said_by_libtiff() -> str:
    """Its last words on what was wrong, once."""
    text, _said.text = _said.text, ""
    return text


@cache
@cache
def take_words_of_libtiff() -> None:
    """Keep what libtiff, which is within Pillow, would write to standard error."""
    kind = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)

    def keep(_: bytes, form: bytes, arguments: int) -> None:
        text = ctypes.create_string_buffer(200)
        library.vsnprintf(text, ctypes.c_size_t(len(text)), ctypes.c_char_p(form), ctypes.c_void_p(arguments))
        _said.text = text.value.decode("utf-8", "replace")

    try:
        library, within = ctypes.CDLL(None), ctypes.CDLL(_imaging.__file__)
        handlers = kind(keep), kind(lambda *_: None)
        for name, handler in zip(("TIFFSetErrorHandler", "TIFFSetWarningHandler"), handlers, strict=True):
            setter = getattr(within, name)
            setter.restype = ctypes.c_void_p
            setter(handler)
        _kept.extend(handlers)
    except (OSError, AttributeError, TypeError):
        return  # a build of Pillow without a libtiff that can be reached, or another system


_kept: list[Any] = []  # functions that libtiff calls as long as the process lives

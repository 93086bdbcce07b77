"""Malformed images of every format, from a seed."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image
from runner import SECONDS, Case

IN_A_FOLDER = 8  # images of a case, beside one that is good
BOMBS = 0.05  # of the cases
PNG = b"\x89PNG\r\n\x1a\n"


class Made(bytes):
    """The bytes of a file, and whether it can be read: ``True``, ``False``, or ``None`` where either is right."""

    suffix: str
    good: bool | None = None

    @classmethod
    def of(cls, suffix: str, content: bytes, good: bool | None = None) -> Made:
        made = cls(content)
        made.suffix, made.good = suffix, good
        return made


@cache
def whole() -> list[Made]:
    """Good files: of every format, compression and mode."""
    values = np.random.default_rng(0).integers(0, 255, (9, 12, 3), np.uint8)
    scene = Image.fromarray(values).resize((96, 72))
    deep = np.asarray(scene.convert("L")).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    made = []
    for form, suffix, image, options in (
        ("JPEG", "jpg", scene, {"exif": exif}),
        ("JPEG", "jpg", scene, {"progressive": True, "subsampling": 0}),
        ("JPEG", "jpg", scene.convert("CMYK"), {"restart_marker_blocks": 2}),
        ("PNG", "png", scene, {"exif": exif}),
        ("PNG", "png", scene.convert("P"), {"transparency": 3}),
        ("PNG", "png", Image.fromarray(deep * 16), {"dpi": (72, 72)}),
        ("PNG", "png", scene.convert("LA"), {}),
        ("WEBP", "webp", scene, {"exif": exif}),
        ("WEBP", "webp", scene.convert("RGBA"), {"lossless": True}),
        ("WEBP", "webp", scene, {"save_all": True, "append_images": [scene.rotate(90)]}),
        ("BMP", "bmp", scene, {}),
        ("BMP", "bmp", scene.convert("P"), {}),
        ("TIFF", "tif", scene, {}),
        ("TIFF", "tif", scene, {"compression": "tiff_lzw"}),
        ("TIFF", "tif", scene, {"compression": "jpeg"}),
        ("TIFF", "tif", scene.convert("1"), {"compression": "group4"}),
        ("TIFF", "tif", Image.fromarray(deep.astype(np.float32)), {"compression": "tiff_adobe_deflate"}),
        ("TIFF", "tif", Image.fromarray(deep.astype(np.int32) - 9), {"compression": "packbits"}),
    ):
        file = io.BytesIO()
        image.save(file, form, **options)
        made.append(Made.of(suffix, file.getvalue(), good=True))
    return made


def flipped(rng: random.Random) -> Made:
    """Some bytes are others."""
    given = rng.choice(whole())
    content = bytearray(given)
    for _ in range(rng.choice((1, 1, 2, 8, 40))):
        reach = min(len(content), rng.choice((40, 400, 10**6)))  # most that matters is at the beginning
        content[rng.randrange(reach)] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
    return Made.of(given.suffix, bytes(content))


def cut(rng: random.Random) -> Made:
    """The end is missing."""
    given = rng.choice(whole())
    return Made.of(given.suffix, given[: int(len(given) * rng.uniform(0, 0.8))], good=False)


def stuffed(rng: random.Random) -> Made:
    """Bytes of it or of another file, or noise, lie within it."""
    given, other = rng.choice(whole()), rng.choice(whole())
    at, length = rng.randrange(len(given)), rng.choice((1, 3, 64, 5000))
    inserted = rng.choice((rng.randbytes(length), bytes(length), other[:length], given[at : at + length]))
    return Made.of(given.suffix, given[:at] + inserted + given[at + rng.choice((0, length)) :])


def headed(rng: random.Random) -> Made:
    """A right beginning, and noise behind it."""
    given = rng.choice(whole())
    return Made.of(given.suffix, given[: rng.choice((4, 8, 16, 30, 60))] + rng.randbytes(rng.randrange(3000)))


def png(width: int, height: int, bits: int, colour: int, pixels: bytes, *more: tuple[bytes, bytes]) -> bytes:
    """A PNG of compressed rows, with right checksums."""
    header = struct.pack(">IIBBBBB", width & 0xFFFFFFFF, height & 0xFFFFFFFF, bits, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), *more, (b"IDAT", pixels), (b"IEND", b""))
    return PNG + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def sized(rng: random.Random) -> Made:
    """A PNG of few bytes that says that it is of any size."""
    sides = [rng.choice((0, 1, 100, 60_000, 65_537, 150_000_000, 2**31 - 1, 2**32 - 1)) for _ in range(2)]
    bits, colour = rng.choice(((1, 0), (8, 2), (16, 0), (16, 6), (8, 3), (7, 2), (8, 9)))
    good = None if sides[0] * sides[1] <= 10_000 else False  # a few pixels may be there
    text = (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(rng.choice((10, 10**7)))))
    return Made.of("png", png(*sides, bits, colour, zlib.compress(bytes(50)), *rng.choice(((), (text,)))), good=good)


def bomb(rng: random.Random) -> Made:
    """A PNG of few bytes and as many pixels as it says."""
    side = rng.choice((3000, 8000, 13_300))
    bits, colour, channels = rng.choice(((1, 0, 1), (16, 0, 1), (8, 6, 4)))
    squeezer = zlib.compressobj(9)
    row = bytes(1 + (side * bits * channels + 7) // 8)
    pixels = b"".join(squeezer.compress(row) for _ in range(side)) + squeezer.flush()
    return Made.of("png", png(side, side, bits, colour, pixels))


def scanned(rng: random.Random) -> Made:
    """A JPEG whose scans come again and again."""
    given = whole()[1]
    scan = given[given.rindex(b"\xff\xda") : -2]
    number = rng.choice((5, 100, 3000))
    return Made.of("jpg", given[:-2] + scan * number + given[-2:], good=number < 50)


def tagged(rng: random.Random) -> Made:
    """A TIFF one or two of whose tags say something else."""
    given = rng.choice([made for made in whole() if made.suffix == "tif"])
    content = bytearray(given)
    (directory,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, directory)
    for _ in range(rng.choice((1, 2))):
        entry = directory + 2 + 12 * rng.randrange(entries)
        form, offset = rng.choice((("<H", 0), ("<H", 2), ("<I", 4), ("<I", 8)))  # tag, type, count, value
        value = rng.choice((0, 1, 2, 3, 5, 7, 16, 32, 255, 65535, 2**31, 2**32 - 1, rng.randrange(2**32)))
        struct.pack_into(form, content, entry + offset, value % 2 ** (8 * struct.calcsize(form)))
    return Made.of("tif", bytes(content))


def unlikely(rng: random.Random) -> Made:
    """Deep values of which some or all stand for nothing; they can be read."""
    values = np.random.default_rng(rng.randrange(1 << 32)).random((60, 80)).astype(np.float32)
    values *= np.float32(rng.choice((1, 255, 65535, 0.01)))
    odd = [rng.choice((np.nan, np.inf, -np.inf, -9999, 3.4e38, 1.02, 0)) for _ in range(3)]
    values[: rng.choice((1, 1, 30, 60)), : rng.choice((1, 20, 80))] = odd[0]
    values[-1, :2] = odd[1:]
    file = io.BytesIO()
    Image.fromarray(values).save(file, "TIFF")
    return Made.of("tif", file.getvalue(), good=True)


# The malformations, the frequent ones several times.
MALFORMATIONS = (*[flipped, cut, stuffed, headed] * 4, *[sized, tagged] * 3, unlikely, unlikely, scanned)


def images(rng: random.Random, new_folder: Callable[[], Path], checkpoint: Path) -> Iterator[Case]:
    """Predictions of folders of malformed images, with a good one among them; one in a while is a bomb."""
    for number in count():
        folder = new_folder()
        (folder / "right.png").write_bytes(whole()[3])
        makers = rng.choices(MALFORMATIONS, k=IN_A_FOLDER) + [bomb] * (rng.random() < BOMBS)
        named, silent = [], ["right.png"]
        for place, make in enumerate(makers):
            made = make(rng)
            name = f"{make.__name__}{place}.{made.suffix}"
            (folder / name).write_bytes(made)
            if made.good is not None:
                (silent if made.good else named).append(name)
        options = rng.choice(([], ["--memory", "64MiB"], ["--range", "0,1"]))
        argv = ["predict", ".", "--model", str(checkpoint), *options]
        codes = (1,) if named else (0, 1)
        seconds = SECONDS * (3 if bomb in makers else 1)  # on a busy machine: it takes 5 s of a core
        known = {"codes": codes, "named": tuple(named), "silent": tuple(silent), "seconds": seconds}
        yield Case(f"images {number}", str(folder), argv, **known)

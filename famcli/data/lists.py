"""Lists of file names as other programs write them, on standard input or in a file."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator
from typing import BinaryIO

from famcli.data.foreign import is_picture
from famcli_models.errors import DataError

LONGEST = 1 << 16  # bytes of a name or line: no file system has paths nearly as long
MOST = 20_000_000  # names; a million take 150 MB
_MARK = codecs.BOM_UTF8
_CONTROLS = bytes({*range(1, 32)} - {*b"\t\n\r"})


def read_list(file: BinaryIO, origin: str) -> Iterator[str]:
    """The names of a list, or the lines of a table, empty ones too.

    Names are bytes, decoded as those of files are, whatever their encoding; lists in UTF-16 are taken too. Names end
    with a line, or with NUL as ``find -print0`` writes them, which need not be said: no name holds a NUL.

    Raises:
        DataError: It is no list: one of its lines is longer than any name, or it begins as an image or another binary
            file does. It has more than ``MOST`` names.
    """
    rest, separator, count = b"", b"", 0
    decoder: codecs.IncrementalDecoder | None = None
    while chunk := file.read(LONGEST):
        if not separator:
            if is_picture(chunk):
                raise DataError(f"{origin} is an image and no list of names: give the path of the image")
            # Odd names have a few of these, but what may be endless, such as /dev/urandom, has a tenth.
            if len(chunk) == LONGEST and len(chunk) - len(chunk.translate(None, _CONTROLS)) > LONGEST // 20:
                raise DataError(f"{origin} is binary and no list of names")
            encoding = _encoding(chunk)
            decoder = codecs.getincrementaldecoder(encoding)() if encoding else None
            separator = b"\n" if decoder or b"\0" not in chunk else b"\0"
        try:
            text = chunk if decoder is None else decoder.decode(chunk).encode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise DataError(f"{origin} is no list of names: it begins as UTF-16 does and is none") from error
        *names, rest = (rest + text).split(separator)
        if len(chunk) == LONGEST and not any(names):
            raise DataError(f"{origin} is no list of names: none ends within {LONGEST:,} bytes")
        if (count := count + len(names)) > MOST:
            raise DataError(f"{origin} has more than {MOST:,} names: share them among several runs")
        yield from (_name(name, separator) for name in names)
    if rest:
        yield _name(rest, separator)


def _name(name: bytes, separator: bytes) -> str:
    name = name.removeprefix(_MARK)
    return os.fsdecode(name.rstrip(b"\r") if separator == b"\n" else name)


def _encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32 by the mark of a list, UTF-16 too if each other byte is NUL; else ``None``."""
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if len(head) < 8:  # a few names of one letter that end with NUL
        return None
    return "utf-16-le" if not any(head[1::2]) else "utf-16-be" if not any(head[::2]) else None

"""Files whose pixels are whole and whose frame is not, files that only look whole, and those that take too long."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from famcli.data.images import read_picture
from famcli_models.errors import DataError

SCENE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 10, 3), np.uint8)).resize((160, 120))


def saved(form: str, image: Image.Image = SCENE, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


WHOLE = {
    "baseline": saved("JPEG"),
    "progressive": saved("JPEG", progressive=True),
    "gray": saved("JPEG", SCENE.convert("L")),
    "CMYK": saved("JPEG", SCENE.convert("CMYK")),
    "restarts": saved("JPEG", restart_marker_blocks=3),
}


@pytest.mark.parametrize("content", WHOLE.values(), ids=WHOLE)
def test_jpeg_without_its_end_marker(content: bytes) -> None:
    """A JPEG that lacks its last two bytes is read and said so; one that lacks more is damaged."""
    assert read_picture(content).remark is None
    found = read_picture(content[:-2])
    assert found.remark == "its end marker is missing, but all pixels are there"
    assert found.image == read_picture(content).image
    assert read_picture(content[:-2], at_least=20).remark == found.remark
    assert read_picture(content[:-2] + bytes(100)).remark == found.remark
    for missing in (4, 6, 20, 300, len(content) // 2):
        with pytest.raises(DataError, match="damaged"):
            read_picture(content[:-missing])


def test_progressive_jpeg_without_its_last_scan() -> None:
    """Without the end marker nothing but the scans says whether they are all there."""
    content = saved("JPEG", progressive=True)
    with pytest.raises(DataError, match="cut short"):
        read_picture(content[: content.rindex(b"\xff\xda")])


def test_png_without_its_end() -> None:
    """A PNG that lacks its last chunk is read and said so; one that lacks pixels is damaged."""
    content = saved("PNG")
    for missing in (12, 11, 6):
        assert read_picture(content[:-missing]).remark == "its end marker is missing, but all pixels are there"
    with pytest.raises(DataError, match=r"damaged image \(it is cut short\)"):
        read_picture(content[:-14])


def test_png_without_its_last_rows() -> None:
    """A PNG whose rows end too early is damaged, though checksums are right; one of black rows is not."""
    scene = np.asarray(SCENE).copy()
    scene[60:] = 0
    rgb, deep = Image.fromarray(scene), Image.fromarray(scene[..., 0].astype(np.uint16))
    for image in (rgb, deep, rgb.convert("1")):
        content = saved("PNG", image)
        assert read_picture(content).size_hw == (120, 160)
        header = bytearray(content[16:29])
        header[7] = 121
        more = content[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + content[33:]
        with pytest.raises(DataError, match="damaged image"):
            read_picture(more)


@pytest.mark.parametrize("kind", [b"IHDR", b"pHYs", b"IDAT", b"IEND"])
def test_png_with_a_wrong_checksum(kind: bytes) -> None:
    """Whatever the chunk, a wrong checksum is damage."""
    content = bytearray(saved("PNG", dpi=(72, 72)))
    at = content.index(kind)
    content[at + 4 + int.from_bytes(content[at - 4 : at], "big")] ^= 1
    with pytest.raises(DataError, match=rf"damaged image \(the checksum of its {kind.decode()} chunk is wrong\)"):
        read_picture(bytes(content))


def with_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes many times."""
    content = saved("JPEG", progressive=True)
    scan = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + scan * count + content[-2:]


def test_jpeg_of_many_scans() -> None:
    """A JPEG of a thousand scans is refused at once; what encoders write is read."""
    began = time.monotonic()
    with pytest.raises(DataError, match=r"too many scans \(\d+; at most 64 for its size\)"):
        read_picture(with_scans(1000))
    assert time.monotonic() - began < 1
    assert read_picture(with_scans(20)).size_hw == (120, 160)


@pytest.mark.filterwarnings("ignore")  # of Pillow: it may be a bomb
def test_a_side_that_is_too_long() -> None:
    """An image of one row and more columns than any camera has is refused before it is decoded."""
    row = zlib.compress(b"\0" + bytes(150_000_000 // 8))
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in (
        (b"IHDR", (150_000_000).to_bytes(4, "big") + (1).to_bytes(4, "big") + bytes((1, 0, 0, 0, 0))),
        (b"IDAT", row),
        (b"IEND", b""),
    ):
        content += len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
    with pytest.raises(DataError, match=r"too large \(150000000x1; .*65,536 a side"):
        read_picture(content)


def test_jpeg_of_12_bits() -> None:
    """A JPEG of a kind that is not supported is not called something else."""
    content = bytearray(saved("JPEG"))
    content[content.index(b"\xff\xc0") + 4] = 12
    with pytest.raises(DataError, match=r"a JPEG that is damaged or of a layout .*12-bit"):
        read_picture(bytes(content))


def test_libtiff_does_not_write_by_itself(tmp_path: Path) -> None:
    """What libtiff says of a damaged file is in the message, and nowhere else on standard error."""
    content = bytearray(saved("TIFF", compression="tiff_adobe_deflate"))
    content[20:200] = os.urandom(180)
    (tmp_path / "x.tif").write_bytes(content)
    code = "import sys; from famcli.data.images import read_picture; read_picture(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "x.tif"], capture_output=True, text=True, check=False)
    assert "DataError: damaged image (Decoding error at scanline 0" in done.stderr.splitlines()[-1]
    assert not [line for line in done.stderr.splitlines() if line.startswith("ZIPDecode")]

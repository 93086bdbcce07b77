"""Archives that nobody vouches for: extracting them and predicting from them ends with a result or one sentence."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from runner import Case, Runner

from famcli.data.public.extract import extract
from famcli_models.errors import DataError

ABSOLUTE = "/tmp/fam-absolute.png"  # noqa: S108  (where a member wants to go)
NAMES = ("../up.png", ABSOLUTE, "a/../../up.png", "./ok.png", "", ".", "..", "\udcff.png", "a\nb.png")
NAMES += ("x" * 300 + ".png", "n/" * 150 + "n.png", "=cmd.png", "\x1b[31m.png", "C:\\up.png", "-rf.png", "a//b.png")
TYPES = (tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, b"9")
PACKERS: tuple[Callable[[bytes], bytes], ...] = (bytes, gzip.compress, bz2.compress, lzma.compress)


def _png(rng: random.Random) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 9, 3), rng.randrange(256), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _tar(rng: random.Random) -> bytes:
    """Good members, and among them one of an odd name, type or attribute."""
    buffer = io.BytesIO()
    form = rng.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT))
    with tarfile.open(fileobj=buffer, mode="w", format=form, errors="surrogateescape") as tar:
        for i in range(rng.randint(1, 4)):
            content = _png(rng)
            info = tarfile.TarInfo(f"good/{i}.png")
            if rng.random() < 0.6:
                info.name = rng.choice(NAMES)
            if rng.random() < 0.4:
                info.type, info.linkname = rng.choice(TYPES), rng.choice(NAMES)
            info.size = len(content) if info.isreg() else 0
            if form == tarfile.PAX_FORMAT and rng.random() < 0.5:
                keys = ("path", "size", "GNU.sparse.map", "GNU.sparse.numblocks", "GNU.sparse.offset", "hdrcharset")
                value = rng.choice(("abc", "-1", "9" * 5000, "1,2,3", str(2**70), "x" * 2_000_000, "a=b"))
                info.pax_headers = {
                    rng.choice(keys): value,
                    "GNU.sparse.major": rng.choice("01"),
                    "GNU.sparse.minor": "0",
                }
            try:
                tar.addfile(info, io.BytesIO(content))
            except ValueError:  # a name too long for the form
                continue
    return buffer.getvalue()


def _archive(rng: random.Random) -> bytes:
    """A tar, perhaps with bytes changed, cut off or longer, packed in one way or another."""
    data = bytearray(_tar(rng))
    for _ in range(rng.choice((0, 0, 1, 20))):
        data[rng.randrange(len(data))] = rng.randrange(256)
    packed = bytearray(rng.choice(PACKERS)(bytes(data)))
    kind = rng.randrange(6)
    if kind == 0:
        del packed[rng.randrange(len(packed)) :]
    elif kind == 1:
        packed[rng.randrange(len(packed))] ^= 1 << rng.randrange(8)
    elif kind == 2:
        packed += rng.randbytes(1000)
    return bytes(packed)


@pytest.mark.parametrize("count", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_extraction(rng: random.Random, new_folder: Callable[[], Path], count: int) -> None:
    """An archive is extracted below its folder, or refused with a sentence of a bounded length, in little time."""
    for number in range(count):
        folder = new_folder()
        archive = folder.parent.parent / f"{number}.archive"
        archive.write_bytes(_archive(rng))
        began = time.monotonic()
        try:
            extract(archive, folder, lambda name: name, 1 << 30)
        except DataError as error:
            assert len(str(error)) < 1000  # noqa: PT017
        assert time.monotonic() - began < 20
        assert [path.name for path in folder.parent.iterdir()] == [folder.name]
        assert not [path for path in folder.rglob("*") if path.is_symlink() or not (path.is_file() or path.is_dir())]
    assert not Path(ABSOLUTE).exists()


@pytest.mark.parametrize("count", [4, pytest.param(40, marks=pytest.mark.slow)])
def test_prediction(runner: Runner, rng: random.Random, new_folder: Callable[[], Path], count: int) -> None:
    """The images of a tar are predicted, and what is wrong with it is said."""

    def cases():
        for number in range(count):
            folder = new_folder()
            (folder / "a.tar").write_bytes(_archive(rng))
            yield Case(f"archive {number}", str(folder), ["predict", "a.tar", "--out", "o.json"], codes=(0, 1))

    assert runner.check(cases()) == count


def test_a_bomb_of_attributes(tmp_path: Path) -> None:
    """A header of 2 GB in a small archive is refused before it is read."""
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 2 << 30
    packer = lzma.LZMACompressor(preset=0)
    parts = [packer.compress(header.tobuf())]
    parts += [packer.compress(b"\0" * (1 << 20)) for _ in range(8)]  # enough for what would begin to read it
    (tmp_path / "bomb.tar.xz").write_bytes(b"".join([*parts, packer.flush()]))
    with pytest.raises(DataError, match="a header has 2,147,483,648 bytes of names or attributes"):
        extract(tmp_path / "bomb.tar.xz", tmp_path / "out", lambda name: name, 1 << 30)

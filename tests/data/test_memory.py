"""The memory that decoded images share."""

from __future__ import annotations

import io
import multiprocessing
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest
from PIL import Image

from famcli.data.images import open_picture, read_picture
from famcli.data.memory import Memory, memory_here, parse_size, set_memory
from famcli_models.errors import ConfigError, DataError


@pytest.fixture
def little() -> object:
    """8 MiB for all images."""
    before = memory_here()
    set_memory(Memory(8 << 20))
    yield memory_here()
    set_memory(before)


def test_an_image_takes_memory_while_it_is_used(little: Memory) -> None:
    """What is decoded takes its pixels until the context ends; what is too large is refused with both sizes."""
    image = Image.new("RGB", (1000, 1000))
    file = io.BytesIO()
    image.save(file, "PNG")
    with open_picture(file.getvalue()):
        assert 4_000_000 <= sum(little.taken) <= 8_000_000
    assert sum(little.taken) == 0
    little.limit = 3 << 20
    with pytest.raises(DataError, match=r"1000x1000 PNG of mode RGB takes 4 MiB to decode, of 3 MiB\); .*--memory"):
        read_picture(file.getvalue())
    assert sum(little.taken) == 0


@pytest.mark.parametrize("context", [None, multiprocessing.get_context("spawn")])
def test_others_wait(context: object) -> None:
    """Who finds too little free waits until it is, and what a place has taken can be given back for it."""
    memory, order = Memory(10, context, 2), []  # type: ignore[arg-type]

    def second() -> None:
        with memory.take(6, "x"):
            order.append("second")

    thread = threading.Thread(target=second, daemon=True)
    with memory.take(6, "x"):
        thread.start()
        thread.join(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    memory.taken[1] = 9  # of a process that died
    waiting = threading.Thread(target=second, daemon=True)
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    memory.taken[1] = 0
    waiting.join()


def test_sizes() -> None:
    """Sizes with and without a unit; what is none, or far too little, is refused."""
    assert [parse_size(text) for text in ("2GiB", "500M", "1.5 gb", "4194304")] == [2**31, 500 << 20, 3 << 29, 4 << 20]
    for text in ("", "1", "-1GiB", "1e9", "nan", "9" * 5000, "2 parsecs", "100PiB"):
        with pytest.raises(ConfigError, match="no amount of memory"):
            parse_size(text)


def claimed(path: Path, width: int, height: int, depth: int, colour: int) -> Path:
    """A PNG of few bytes whose pixels are all 0, and many."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    row = b"\0" * (1 + (width * depth * channels + 7) // 8)
    squeezer = zlib.compressobj(9)
    pixels = b"".join(squeezer.compress(row) for _ in range(height)) + squeezer.flush()
    chunks = (b"IHDR", width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((depth, colour, 0, 0, 0)))
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, data in (chunks, (b"IDAT", pixels), (b"IEND", b"")):
            file.write(len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big"))
    return path


PEAK = """
import sys
from pathlib import Path
from famcli.data.images import open_picture
from famcli.data.memory import memory_here

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) << 10

before = status("VmRSS")
with open_picture(sys.argv[1]):
    print(sum(memory_here().taken), status("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is Linux's")
@pytest.mark.parametrize(("depth", "colour"), [(1, 0), (16, 0), (8, 6), (16, 6)])
def test_the_estimate_is_no_less_than_the_peak(tmp_path: Path, depth: int, colour: int) -> None:
    """A process decodes a large image within the memory that it is said to take."""
    path = claimed(tmp_path / "x.png", 4000, 4000, depth, colour)
    done = subprocess.run([sys.executable, "-c", PEAK, path], capture_output=True, text=True, check=True)
    taken, peak = map(int, done.stdout.split())
    assert 0.5 * taken <= peak <= 1.05 * taken + (32 << 20)

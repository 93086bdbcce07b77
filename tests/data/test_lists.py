"""Lists of names on standard input and in files."""

from __future__ import annotations

import io
import os

import pytest
from hypothesis import given, strategies as st

from famcli.data import lists
from famcli.data.lists import LONGEST, read_list
from famcli_models.errors import DataError

NAMES = ["1.jpg", "käse [2].jpg", "x/3.png"]


@pytest.mark.parametrize(
    "content",
    [
        "\n".join(NAMES).encode(),
        "".join(f"{name}\r\n" for name in NAMES).encode("utf-8-sig"),
        "\ufeff1.jpg\n\ufeffkäse [2].jpg\nx/3.png\n".encode(),  # several files, one after the other
        "".join(f"{name}\n" for name in NAMES).encode("utf-16"),
        "".join(f"{name}\n" for name in NAMES).encode("utf-32"),
        "".join(f"{name}\r\n" for name in NAMES).encode("utf-16-le"),
        "\r\n".join(NAMES).encode("utf-16-be"),
        "".join(f"{name}\0" for name in NAMES).encode(),
    ],
)
def test_forms(content: bytes) -> None:
    """Lines with any ends and marks, UTF-16, and names that end with NUL are the same list."""
    if b"k\0" in content and not content.startswith((b"\xff", b"\xfe")):  # UTF-16 without a mark has no other letters
        content = content.replace(b"\xe4", b"a")
        assert list(read_list(io.BytesIO(content), "x")) == [name.replace("ä", "a") for name in NAMES]
    else:
        assert list(read_list(io.BytesIO(content), "x")) == NAMES


@given(st.lists(st.binary(min_size=1, max_size=9).filter(lambda name: not {0, 10, 0xEF} & {*name}), min_size=1))
def test_any_names(names: list[bytes]) -> None:
    """Whatever bytes names are of, those in a list that ends with NUL or lines are found again."""
    for end in (b"\0", b"\n"):
        content = b"".join(name.rstrip(b"\r") + end for name in names)
        content = b"./a/1.jpg" + end + content  # what begins as UTF-16 or an image does is one
        found = [os.fsencode(name) for name in read_list(io.BytesIO(content), "x")]
        assert found == content.removesuffix(end).split(end)


def test_names_are_bytes() -> None:
    """Names that are no UTF-8 are those of files all the same, and with NUL behind them may have line ends."""
    assert list(map(os.fsencode, read_list(io.BytesIO(b"\xe9.jpg\n\n2.jpg"), "x"))) == [b"\xe9.jpg", b"", b"2.jpg"]
    assert list(read_list(io.BytesIO(b"a\nb\r.jpg\0c.jpg\0"), "x")) == ["a\nb\r.jpg", "c.jpg"]
    assert list(read_list(io.BytesIO(b""), "x")) == []


def test_long_lists() -> None:
    """A list is read piece by piece, and a name that two pieces share is whole."""
    names = [f"{i:0{i % 90}}.jpg" for i in range(5000)]
    for form in ("utf-8", "utf-16"):
        assert list(read_list(io.BytesIO("\n".join(names).encode(form)), "x")) == names


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (bytes(2 * LONGEST), "none ends within 65,536 bytes"),
        (b"x" * 2 * LONGEST, "none ends within 65,536 bytes"),
        (b"a.jpg\n" + b"x" * 3 * LONGEST, "none ends within 65,536 bytes"),
        (b"\xff\xd8\xff\xe0" + bytes(100), "an image and no list"),
        (bytes(range(256)) * 1000, "binary and no list"),
        (b"y\n" * 2000, "more than 1,000 names"),
        (b"\xff\xfea\0\0\xd8a\0", "UTF-16"),
    ],
)
def test_what_is_no_list(monkeypatch: pytest.MonkeyPatch, content: bytes, why: str) -> None:
    """What never ends, an image and damaged UTF-16 are refused."""
    monkeypatch.setattr(lists, "MOST", 1000)
    with pytest.raises(DataError, match=f"^standard input (is|has) .*{why}"):
        list(read_list(io.BytesIO(content), "standard input"))

"""Images at URLs and in tars."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from PIL import Image

from famcli.data import sources
from famcli.data.images import read_file, read_picture
from famcli.data.listing import Listing, list_images
from famcli.data.sources import Member, read_bytes, read_tar, scheme_of
from famcli_models.errors import DataError


@pytest.fixture
def png(picture: Callable[..., Any]) -> bytes:
    """The bytes of a picture."""
    file = io.BytesIO()
    Image.fromarray(picture()).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def make_tar(tmp_path: Path, png: bytes) -> Callable[..., Path]:
    """A function that makes a tar of members of these names."""

    def make(*names: str, name: str = "a.tar", mode: Any = "w", **header: Any) -> Path:
        with tarfile.open(tmp_path / name, mode) as tar:
            for member in names:
                info = tarfile.TarInfo(member)
                info.size = len(png)
                for key, value in header.items():
                    setattr(info, key, value)
                tar.addfile(info, io.BytesIO(png))
        return tmp_path / name

    return make


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_member_is_the_picture(make_tar: Callable[..., Path], picture: Callable[..., Any], scheme: str) -> None:
    """A tar's image is read by its place in a file or at a URL, also by a process that it was sent to."""
    listing = list_images([f"{scheme}{make_tar('b.png', 'a.png')}"]).with_members()
    assert listing.names == ("a.tar/a.png", "a.tar/b.png")
    for place in (0, 1):
        source = pickle.loads(pickle.dumps(listing.source(place)))  # noqa: S301  (our own)
        assert np.array_equal(np.asarray(read_picture(source).image), picture())
        assert read_file(source) == read_bytes(source)


def members(listing: Listing) -> list[str]:
    return list(listing.with_members().names)


def test_what_a_tar_gives(make_tar: Callable[..., Path]) -> None:
    """Images alone, none that is hidden or a picture of an earlier run, sorted, of equal names the last."""
    tar = make_tar("./b.jpg", "a.json", "a.JPG", "x/a.png", ".b.png", ".x/c.png", "x/b.overlay.jpg", "x-1.png", "a.JPG")
    assert members(list_images([str(tar)])) == ["a.tar/a.JPG", "a.tar/b.jpg", "a.tar/x-1.png", "a.tar/x/a.png"]
    offsets = [member[1] for member in read_tar(str(tar)) if member[0] == "a.JPG"]
    source = list_images([str(tar)]).with_members().source(0)
    assert isinstance(source, Member)
    assert source.offset == max(offsets)


def test_tars_among_files(make_tar: Callable[..., Path], png: bytes, tmp_path: Path) -> None:
    """Names of tars sort among those of files as what is in them does, and a part of a list has whole tars."""
    make_tar("1.png", "2.png", name="b.tar")
    (tmp_path / "b.tar.png").write_bytes(png)
    (tmp_path / "b.png").write_bytes(png)
    listing = list_images([str(tmp_path / "*")])
    names = ["b.png", "b.tar.png", "b.tar/1.png", "b.tar/2.png"]
    assert members(listing) == names
    assert [*members(listing.share(slice(0, 2))), *members(listing.share(slice(2, 3)))] == names
    assert (listing.has_tars, list_images([str(tmp_path)]).has_tars) == (True, False)  # a folder gives images


@pytest.mark.parametrize("name", ["../up.png", "/root.png", "x/../../up.png"])
def test_names_that_leave_the_tar(make_tar: Callable[..., Path], name: str) -> None:
    """A tar is not trusted: names become those of files beside the results."""
    listing = list_images([str(make_tar("good.png", name))]).with_members()
    assert list(listing.names) == ["a.tar/", "a.tar/good.png"]
    assert "a member's name leaves the tar" in listing.refused["a.tar/"]


def test_links_and_sizes(make_tar: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Links are left out, and what is too large is not read."""
    assert list(read_tar(str(make_tar("a.png", type=tarfile.SYMTYPE, linkname="/etc/passwd", size=0)))) == []
    tar = make_tar("a.png")
    source = list_images([str(tar)]).with_members().source(0)
    monkeypatch.setattr(sources, "MAX_BYTES", 10)
    for place in (source, f"file://{tar}"):
        with pytest.raises(DataError, match=r"too large \(more than 10 bytes\)"):
            read_picture(place)


@pytest.mark.parametrize(
    ("start", "junk", "reason"),
    [
        (700, b"", "unexpected end of data"),
        (0, b"junk" * 200, "not a tar"),
        (0, b"", "not a tar"),
        ("second", b"junk" * 2000, "damaged or cut short"),
        ("second", b"", "damaged or cut short"),
    ],
)
def test_damaged_tars(make_tar: Callable[..., Path], start: int | str, junk: bytes, reason: str) -> None:
    """A tar that is cut short, or has junk from a place on, is damaged; tarfile takes some of that for its end."""
    tar = make_tar("a.png", "b.png")
    second = next(offset for name, offset, _ in read_tar(str(tar)) if name == "b.png") - tarfile.BLOCKSIZE
    tar.write_bytes(tar.read_bytes()[: second if isinstance(start, str) else start] + junk)
    with pytest.raises(DataError, match=reason):
        list(read_tar(str(tar)))


@pytest.mark.parametrize("place", ["{}", "file://{}"])
def test_compressed_tars(make_tar: Callable[..., Path], place: str) -> None:
    """They are refused, as no image can be read by its place."""
    with pytest.raises(DataError, match="is compressed, and no image can be read by its place"):
        list_images([place.format(make_tar("a.png", name="a.tar.gz", mode="w:gz"))])


@pytest.fixture
def bucket(png: bytes) -> str:
    """A URL with pictures."""
    fs = fsspec.filesystem("memory")
    fs.rm("/", recursive=True)
    for name in ("p/a.png", "p/sub/b.png", "p/sub-x.png", "p/notes.txt", "p/.hidden.png", "q/c.png", "p/d.overlay.jpg"):
        fs.pipe_file(f"/{name}", png)
    return "memory://"


@pytest.mark.parametrize(
    ("inputs", "root", "names"),
    [
        (["p"], "/p", ("a.png", "sub-x.png", "sub/b.png")),
        (["p/", "p/a.png"], "/p", ("a.png", "sub-x.png", "sub/b.png")),
        (["p/*.png"], "/p", (".hidden.png", "a.png", "sub-x.png")),
        (["q", "p/sub"], "/", ("p/sub/b.png", "q/c.png")),
        (["q/gone.png"], "/q", ("gone.png",)),
    ],
)
def test_urls(bucket: str, inputs: list[str], root: str, names: tuple[str, ...]) -> None:
    """Files, folders and patterns are taken at URLs as they are here, and read there."""
    listing = list_images([bucket + item for item in inputs])
    assert (listing.root, listing.names) == (bucket + root, names)
    for place, name in enumerate(names):
        if "gone" in name:
            with pytest.raises(DataError, match="no such file"):
                read_picture(listing.source(place))
        else:
            assert read_picture(listing.source(place)).size_hw == (40, 60)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["s3://bucket/x"], r"s3:// URLs need a package that is not installed here: pip install s3fs"),
        (["what://x"], "'what://x' cannot be opened: Protocol not known: what"),
        (["memory://p", "q"], r"one file system, and these are in 2: local files, memory://"),
        (["memory://p::file://q"], "chain of URLs"),
        (["memory://q/*.gif"], "no images in"),
    ],
)
def test_urls_that_cannot_be_read(bucket: str, inputs: list[str], message: str) -> None:
    """One sentence says why."""
    with pytest.raises(DataError, match=message):
        list_images(inputs)


@pytest.mark.parametrize(
    ("place", "scheme"), [("s3://a/b", "s3"), ("C:/x", ""), ("a/b", ""), (Path("s3://a"), ""), (b"s3://", "")]
)
def test_schemes(place: object, scheme: str) -> None:
    """A URL is a string with a scheme of two letters or more."""
    assert scheme_of(place) == scheme

"""What the user typed, as a list of image files."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from famcli.data.listing import Names, list_images
from famcli_models.errors import DataError

ALL = ("a.PNG", "b.jpg", "sub/c.tif", "sub/deep/d.webp")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures (empty files: nothing is read here) in folders, some of them hidden."""
    others = ("photos/notes.txt", "photos/.hidden.jpg", "photos/.cache/e.jpg", "more/f.bmp")
    for name in (*(f"photos/{name}" for name in ALL), *others):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        (["photos"], ALL),  # at every depth, sorted; hidden ones and other files are left out
        (["photos/"], ALL),
        (["./photos"], ALL),
        (["photos/b.jpg"], ("b.jpg",)),
        (["photos", "more"], ("more/f.bmp", *(f"photos/{n}" for n in ALL))),  # relative to what holds both
        (["photos/b.jpg", "photos/b.jpg", "photos"], ALL),  # each once
        (["photos/sub/../b.jpg", "photos/b.jpg"], ("b.jpg",)),
        (["photos/b.jpg", "photos/sub/c.tif", "photos/a.PNG"], ALL[:3]),  # whatever the order typed
        (["photos/*.jpg"], ("b.jpg",)),  # a pattern that the shell left alone
        (["photos/**/*.*"], ("a.PNG", "b.jpg", "notes.txt", *ALL[2:])),
        ([os.path.join("photos", ".", "sub", "..", "sub")], ("c.tif", "deep/d.webp")),
        (["photos/b.jpg", "photos/gone.jpg"], ("b.jpg", "gone.jpg")),  # reading it will say that it is not there
        (["photos/notes.txt"], ("notes.txt",)),  # who names a file means it
        (["photos/.hidden.jpg"], (".hidden.jpg",)),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_inputs(tree: Path, inputs: list[str], names: tuple[str, ...]) -> None:
    """Files, folders and patterns become sorted names relative to one folder."""
    listing = list_images(inputs)
    assert listing.names == names
    assert all(listing.path(name) == listing.root / name for name in names)


def test_the_folder_given(tree: Path) -> None:
    """Names are relative to the folder given, or to the deepest that holds all inputs; its path is absolute."""
    assert list_images(["photos"]).root == tree / "photos"
    assert list_images(["photos", "more"]).root == tree
    assert list_images(["photos/b.jpg"]).path("b.jpg") == tree / "photos" / "b.jpg"


def test_a_file_whose_name_looks_like_a_pattern(tree: Path) -> None:
    """An existing file is itself, brackets or not."""
    (tree / "photos" / "x[1].jpg").touch()
    assert list_images(["photos/x[1].jpg"]).names == ("x[1].jpg",)


def test_stdin(tree: Path) -> None:
    """`-` takes names and folders, no patterns; it may stand among others, and is not read otherwise."""
    assert list_images(["-"], ["photos/b.jpg", "", "photos/sub", "photos/a.PNG"]).names == ALL
    assert list_images(["-"], ["photos/*.jpg", "photos/b.jpg"]).names == ("*.jpg", "b.jpg")
    assert list_images(["photos/b.jpg", "-"], ["more/f.bmp"]).names == ("more/f.bmp", "photos/b.jpg")
    assert list_images(["photos/b.jpg"], ["more/f.bmp"]).names == ("b.jpg",)


@pytest.mark.parametrize(
    ("item", "names"),
    [
        ("img[1].jpg", ("img[1].jpg",)),  # not there, and no img1.jpg: reading it will say so
        ("p [2020]/*.jpg", ("a1.jpg", "x[1].jpg")),
        ("p [2020]/x[1]*", ("x[1].jpg",)),
        ("p [2020]/[ab]*.jpg", ("a1.jpg",)),  # nothing has these brackets in its name
        ("p [2020]/[!a]*.jpg", ("x[1].jpg",)),
        ("p [202?]/?1.jpg", ("a1.jpg",)),
        ("p*/a?.jpg", ("a1.jpg",)),
        ("**/a1.jpg", ("a1.jpg",)),
        ("**", ("img1.jpg", "p [2020]/a1.jpg", "p [2020]/x[1].jpg")),
    ],
)
def test_brackets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, item: str, names: tuple[str, ...]) -> None:
    """Brackets are names before they are patterns, and make no pattern alone."""
    (tmp_path / "p [2020]").mkdir()
    for name in ("img1.jpg", "p [2020]/a1.jpg", "p [2020]/x[1].jpg", "p [2020]/.a1.jpg"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert list_images([item]).names == names


@pytest.mark.parametrize(
    ("item", "lost"),
    [
        ("photos/*.gif", "it matches no file"),
        ("img[1]/*.jpg", "it matches no file"),
        ("pho*", "it matches no file but folders; for the images in them give 'pho*/**/*'"),
        ("", "the name is empty"),
        ("locked", "the folder cannot be searched: File name too long"),
    ],
)
def test_what_is_lost(tree: Path, monkeypatch: pytest.MonkeyPatch, item: str, lost: str) -> None:
    """An input that gives no image is named with the reason, and is an error if it is alone."""
    (tree / "img1").mkdir()
    (tree / "img1" / "a.jpg").touch()
    (tree / "locked" / "in").mkdir(parents=True)
    scandir = os.scandir

    def refuse(folder: str) -> object:
        if os.path.basename(folder) == "locked":
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        return scandir(folder)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", refuse)
        listing = list_images([item, "more"])
        with pytest.raises(DataError, match=re.escape(lost)):
            list_images([item])
    assert [name.rpartition("/")[2] for name in listing.names] == ["f.bmp"]
    assert list(listing.lost.values()) == [lost]
    with pytest.raises(DataError, match=re.escape(lost)):
        listing.check_whole()


def test_what_is_left_out(tree: Path) -> None:
    """Links, files of other types and pictures of earlier runs are counted, once each."""
    for name in ("x.jfif", "y.AVIF", "z", "b.jpg.overlay.jpg", "b.jpg.mask.png"):
        (tree / "photos" / name).touch()
    for name, target in {"linked": "../more", "up": "..", "self": ".", "round": "round", "gone": "nowhere"}.items():
        (tree / "photos" / name).symlink_to(target)
    os.mkfifo(tree / "photos" / "sub" / "pipe")
    (tree / "photos" / "ov").mkdir()
    assert list_images(["photos", "photos/sub"], exclude=[Path("photos/ov")]).remarks == (
        "links to folders not followed: 2 (linked, up); give a folder itself to search it",
        "links in a circle or to nothing: 3 (gone, round, self)",
        "files of other types left out: 5 (no suffix: 2, .avif: 1, .jfif: 1, .txt: 1)",
        "overlays and masks of earlier runs left out: 2",
        "folders that this run writes to left out: 1 (ov)",
    )
    followed = list_images(["photos"], follow_links=True)
    assert followed.names == (*ALL[:2], "linked/f.bmp", *ALL[2:], "up/more/f.bmp")
    assert followed.remarks[0] == "links in a circle or to nothing: 4 (gone, round, self, up/photos)"
    assert list_images(["photos/**/b.*"]).remarks == (
        "links to folders not followed: 3 (photos/linked, photos/self, photos/up); give a folder itself to search it",
        "overlays and masks of earlier runs left out: 2",
    )


def test_folders_that_a_pattern_matches(tree: Path) -> None:
    """A pattern takes files alone; a folder that it matches is named, unless what is in it matches too."""
    assert list_images(["photos/*"]).remarks == ("folders that match a pattern not searched: 1 (photos/sub)",)
    assert list_images(["photos/**/*"]).remarks == ()


def test_overlays_into_the_folder_of_a_pattern(tree: Path) -> None:
    """A folder that holds the inputs is no folder of results to leave out, but the results in it are."""
    (tree / "photos" / "b.jpg.overlay.jpg").touch()
    assert list_images(["photos/*.jpg"], exclude=[Path("photos")]).names == ("b.jpg",)
    assert list_images(["photos/*/*.tif"], exclude=[Path("photos"), Path(".")]).names == ("c.tif",)


def test_deep_folders(tmp_path: Path) -> None:
    """Folders may be nested deeper than Python's stack."""
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        for _ in range(1200):
            os.mkdir("d")
            os.chdir("d")
        Path("deep.jpg").touch()
    finally:
        os.chdir(here)
    (tmp_path / "top.jpg").touch()
    for item in (tmp_path, tmp_path / "**" / "*"):
        assert list_images([str(item)]).names == (1200 * "d/" + "deep.jpg", "top.jpg")
    subprocess.run(["rm", "-r", tmp_path / "d"], check=True)  # Python's own is recursive


def test_links_from_each_folder_to_each(tmp_path: Path) -> None:
    """Of folders that all link to each other not every path is followed."""
    for name in "abcdefghij":
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.jpg").touch()
        for other in "abcdefghij":
            (tmp_path / name / f"to-{other}").symlink_to(tmp_path / other)
    listing = list_images([str(tmp_path)], follow_links=True)
    assert {f"{name}/x.jpg" for name in "abcdefghij"} <= set(listing.names)
    assert len(listing.names) < 1000


@pytest.mark.parametrize(
    ("inputs", "typed"),
    [
        (["photos/gone.jpg"], "photos/gone.jpg"),
        (["./photos/gone.jpg", "photos/b.jpg"], "photos/gone.jpg"),
        (["../{}/photos/gone.jpg"], "photos/gone.jpg"),
        (["/photos/gone.jpg"], "/photos/gone.jpg"),
        (["gone.jpg"], "gone.jpg"),
        (["photos", "more/gone.jpg"], "more/gone.jpg"),  # below what holds both
    ],
)
def test_names_as_typed(tree: Path, inputs: list[str], typed: str) -> None:
    """A message has the name of a file as it was typed, though it is shorter in the results."""
    listing = list_images([item.format(tree.name) for item in inputs])
    name = next(name for name in listing.names if name.endswith("gone.jpg"))
    assert listing.as_typed(name) == typed


@pytest.mark.parametrize("inputs", ["photos", "photos/**/*"])
def test_output_folders_are_left_out(tree: Path, inputs: str) -> None:
    """Overlays of the run before are no input, whether below a folder that is searched or matched by a pattern."""
    (tree / "photos" / "overlays").mkdir()
    for name in ("a.PNG.overlay.jpg", "other.jpg"):
        (tree / "photos" / "overlays" / name).touch()
    names = list_images([inputs], exclude=[Path("photos/overlays")]).names
    assert set(names) - {"notes.txt"} == set(ALL)


@pytest.mark.parametrize("inputs", [["empty"], ["photos/*.gif"], ["-"]])
def test_nothing_found(tree: Path, inputs: list[str]) -> None:
    """No image at all is an error that repeats what was typed and says what is searched for."""
    (tree / "empty").mkdir()
    with pytest.raises(DataError, match=r"no images in '.*\.jpg"):
        list_images(inputs)


def test_links_to_folders_are_not_followed(tree: Path) -> None:
    """A link that leads back up does not loop."""
    (tree / "photos" / "loop").symlink_to(tree / "photos", target_is_directory=True)
    assert list_images(["photos"]).names == ALL


NAMES = st.lists(st.text(st.characters(codec=None, exclude_characters="\0"), max_size=6))


@given(NAMES)
def test_packed_names(texts: list[str]) -> None:
    """Packed names are the sorted set of any texts, half characters included, and are found by bisection."""
    expected = sorted(set(texts))
    names = Names(sorted(texts))
    assert (list(names), len(names)) == (expected, len(expected))
    assert [names.find(name) for name in expected] == list(range(len(expected)))
    assert all(name in names for name in texts)
    assert names.find("zzzzzzz") is None
    for part in (slice(1, 3), slice(0, 0), slice(2, None)):
        assert list(names[part]) == expected[part]
        assert list(names[1:][part]) == expected[1:][part]
    assert (names[:-1] == names) == (not expected)


def test_names_sort_as_strings(tmp_path: Path) -> None:
    """What is in a folder comes where its path does, whatever stands before the slash in the code table."""
    names = ["a!/x.jpg", "a-b.jpg", "a.jpg", "a/x.jpg", "a/x/y.jpg", "a0/x.jpg", "é/x.jpg", "b.jpg"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(list_images([str(tmp_path)]).names) == sorted(names)


def test_memory(tmp_path: Path) -> None:
    """A listed name takes its bytes and few more, while it is listed too."""
    count, length = 20_000, 60
    lines = (str(tmp_path / f"{i:0{length}}.jpg") for i in range(count))
    list_images(["-"], ["warm.jpg"])
    tracemalloc.start()
    listing = list_images(["-"], lines)
    now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(listing.names) == count
    assert now / count < length + 4 + 16
    assert peak / count < 57 + len(str(tmp_path)) + 2 * length


def test_loops_of_links(tmp_path: Path) -> None:
    """Links that lead into each other are followed once around."""
    for folder, other in (("a", "b"), ("b", "a")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.jpg").touch()
        (tmp_path / folder / "to").symlink_to(tmp_path / other, target_is_directory=True)
    names = list_images([str(tmp_path / "a")], follow_links=True).names
    assert names == ("to/x.jpg", "x.jpg")

"""Archives that try to leave their folder, and extractions that were interrupted."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from famcli.data.public.extract import LEDGER, extract, extract_nested, read_members
from famcli_models.errors import DataError

Member = tuple[tarfile.TarInfo, bytes]


def entry(name: str, content: bytes = b"content", **fields: object) -> Member:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def packed(*members: Member, mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def make_tar(path: Path, members: list[Member], mode: str = "w") -> Path:
    path.write_bytes(packed(*members, mode=mode))
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def same(name: str) -> str:
    return name


LIMIT = 1 << 30


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar(tmp_path: Path, mode: str) -> None:
    """Plain files of a tar, however compressed, arrive with their content; the name of the archive says nothing."""
    path = make_tar(tmp_path / "archive.tar.gz", [entry("./a/b.txt", b"one"), entry("c", b"")], mode)
    steps: list[int] = []
    for _ in range(2):  # progress is one a file, written or passed over
        extract(path, tmp_path / "out", same, LIMIT, lambda: steps.append(1))
    assert tree(tmp_path / "out") == {"a/b.txt": b"one", "c": b""}
    assert len(steps) == 4


def test_place(tmp_path: Path) -> None:
    """The caller says where a member goes, and which are left out."""
    path = make_tar(tmp_path / "a.tar", [entry("top/a"), entry("top/b")])
    extract(path, tmp_path / "out", lambda name: "x/new" if name == "top/a" else None, LIMIT)
    assert list(tree(tmp_path / "out")) == ["x/new"]


REFUSED = {
    "parent": entry("../evil"),
    "hidden parent": entry("a/../../evil"),
    "symlink": entry("evil", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "hard link": entry("evil", b"", type=tarfile.LNKTYPE, linkname="good"),
    "character device": entry("evil", b"", type=tarfile.CHRTYPE),
    "block device": entry("evil", b"", type=tarfile.BLKTYPE),
    "pipe": entry("evil", b"", type=tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("bad", REFUSED.values(), ids=REFUSED)
def test_refused_members(tmp_path: Path, bad: tuple[tarfile.TarInfo, bytes]) -> None:
    """Whatever would leave the folder, or is no plain file, is refused by name, and nothing appears elsewhere."""
    path = make_tar(tmp_path / "a.tar", [entry("good"), bad, entry("later")])
    with pytest.raises(DataError, match="is refused") as caught:
        extract(path, tmp_path / "in" / "out", same, LIMIT)
    assert bad[0].name in str(caught.value)
    assert tree(tmp_path / "in") == {"out/good": b"content"}
    assert not (tmp_path / "evil").exists()


def test_absolute_names(tmp_path: Path) -> None:
    """A leading slash means the folder, not the root of the disk."""
    evil = tmp_path / "evil"
    extract(make_tar(tmp_path / "a.tar", [entry(str(evil))]), tmp_path / "out", same, LIMIT)
    assert not evil.exists()
    assert list(tree(tmp_path / "out")) == [str(evil)[1:]]


def test_links_that_are_there(tmp_path: Path) -> None:
    """Neither the caller nor a link that is there, to a folder or a file, can send a member out of the folder."""
    path = make_tar(tmp_path / "a.tar", [entry("good")])
    (tmp_path / "precious").write_text("mine...")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "folder").symlink_to(tmp_path)
    (tmp_path / "out" / "good").symlink_to(tmp_path / "precious")
    for place in ("../good", "folder/good", "good"):
        with pytest.raises(DataError, match="outside"):
            extract(path, tmp_path / "out", lambda _, place=place: place, LIMIT)
    assert (tmp_path / "precious").read_text() == "mine..."


def test_bombs(tmp_path: Path) -> None:
    """An archive of more bytes or files than it can have is refused before they are written; nothing counts as 512."""
    path = make_tar(tmp_path / "a.tar", [entry("a", b"12345678"), entry("b", bytes(1 << 20))], "w:gz")
    with pytest.raises(DataError, match=r"it unpacks to more than 0.0 GB"):
        extract(path, tmp_path / "out", same, 1 << 20)
    assert list(tree(tmp_path / "out")) == ["a"]
    many = make_tar(tmp_path / "b.tar", [entry(str(i), b"") for i in range(5)])
    with pytest.raises(DataError, match="it unpacks to more than"):
        extract(many, tmp_path / "many", same, 2000)
    with pytest.raises(DataError, match="it unpacks to more than"):
        list(read_members(many, lambda _: True, 2000))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", ""])
def test_cut_off(tmp_path: Path, mode: str) -> None:
    """An archive that ends early, or is none, is said to be damaged, and no file is half there."""
    noise = bytes(i * i % 251 for i in range(50_000))
    content = packed(entry("a", b"first"), entry("b", noise), mode=mode) if mode else b"<html>please log in</html>"
    (tmp_path / "a.tar").write_bytes(content[: len(content) // 3] if mode else content)
    with pytest.raises(DataError, match="damaged or cut off"):
        extract(tmp_path / "a.tar", tmp_path / "out", same, LIMIT)
    assert set(tree(tmp_path / "out")) <= {"a"}


def test_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is an error in words, and no temporary file is left."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(DataError, match="No space left on device; the same command goes on"):
        extract(make_tar(tmp_path / "a.tar", [entry("a")]), tmp_path / "out", same, LIMIT)
    assert tree(tmp_path / "out") == {}


def test_a_python_without_the_filter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that cannot extract safely extracts nothing."""
    monkeypatch.delattr(tarfile, "data_filter")
    with pytest.raises(DataError, match="update it to 3.10.12"):
        extract(make_tar(tmp_path / "a.tar", [entry("a")]), tmp_path / "out", same, LIMIT)


def test_goes_on(tmp_path: Path) -> None:
    """Files that are there with their size are passed over; missing and short ones are written."""
    path = make_tar(tmp_path / "a.tar", [entry("a", b"aaaa"), entry("b", b"bbbb"), entry("c", b"cccc")])
    out = tmp_path / "out"
    extract(path, out, same, LIMIT)
    before = (out / "a").stat().st_mtime_ns
    (out / "b").write_bytes(b"b")
    (out / "c").unlink()
    extract(path, out, same, LIMIT)
    assert tree(out) == {"a": b"aaaa", "b": b"bbbb", "c": b"cccc"}
    assert (out / "a").stat().st_mtime_ns == before


def nested(tmp_path: Path) -> Path:
    inner = {f"n0000000{i}": packed(entry(f"n0000000{i}_1.JPEG"), entry(f"n0000000{i}_2.JPEG")) for i in range(3)}
    return make_tar(tmp_path / "train.tar", [entry(f"{name}.tar", content) for name, content in inner.items()])


def place(name: str) -> str | None:
    return name.removesuffix(".tar") if name.endswith(".tar") else None


def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the members that are read from here on."""
    names: list[str] = []
    real = tarfile.TarFile.extractfile

    def spy(self: tarfile.TarFile, member: tarfile.TarInfo) -> object:
        names.append(member.name)
        return real(self, member)

    monkeypatch.setattr(tarfile.TarFile, "extractfile", spy)
    return names


def test_tar_of_tars(tmp_path: Path) -> None:
    """Each inner tar gets its folder, and no inner tar is written to disk."""
    steps: list[int] = []
    extract_nested(nested(tmp_path), tmp_path / "out", place, LIMIT, steps.append)
    names = [f"n0000000{i}/n0000000{i}_{j}.JPEG" for i in range(3) for j in (1, 2)]
    assert [n for n in tree(tmp_path / "out") if not n.startswith(".")] == names
    assert steps == [2, 2, 2]


def test_tar_of_tars_goes_on_by_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finished classes are not read again, unless a file of theirs was deleted."""
    archive, out = nested(tmp_path), tmp_path / "out"
    extract_nested(archive, out, place, LIMIT)
    (out / "n00000001" / "n00000001_2.JPEG").unlink()
    names = opened(monkeypatch)
    extract_nested(archive, out, place, LIMIT)
    assert names == ["n00000001.tar", "n00000001_2.JPEG"]
    assert len(list(out.glob("*/*.JPEG"))) == 6


def test_a_ledger_of_another_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was noted of inner tars of another size does not count, nor do lines that make no sense."""
    out = tmp_path / "out"
    out.mkdir()
    (out / f"{LEDGER}-train.tar.txt").write_text("n00000000.tar\t1\t0\nnonsense\n\n")
    names = opened(monkeypatch)
    extract_nested(nested(tmp_path), out, place, LIMIT)
    assert len(names) == 3 + 6


@pytest.mark.parametrize("inside", [True, False], ids=["inner", "outer"])
def test_tar_of_tars_refuses(tmp_path: Path, inside: bool) -> None:
    """Neither the outer nor an inner tar may leave the folder."""
    good = packed(entry("evil"))
    bad = entry("n00000000.tar", packed(entry("../../evil"))) if inside else entry("../n00000000.tar", good)
    with pytest.raises(DataError, match="is refused"):
        extract_nested(make_tar(tmp_path / "train.tar", [bad]), tmp_path / "in" / "out", place, LIMIT)
    assert not list(tmp_path.rglob("evil"))


def test_inner_tar_cut_off(tmp_path: Path) -> None:
    """An inner tar that ends early is not noted as finished."""
    half = packed(entry("a.JPEG", b"x" * 3000))[:1500]
    archive = make_tar(tmp_path / "train.tar", [entry("n00000000.tar", half)])
    with pytest.raises(DataError, match="damaged or cut off"):
        extract_nested(archive, tmp_path / "out", place, LIMIT)
    assert not list((tmp_path / "out").glob(f"{LEDGER}*"))


def test_read_members(tmp_path: Path) -> None:
    """Small members are read without writing anything; a link is refused here too."""
    path = make_tar(tmp_path / "a.tgz", [entry("val/a.xml", b"<a/>"), entry("readme")], "w:gz")
    assert list(read_members(path, lambda n: n.endswith(".xml"), LIMIT)) == [("val/a.xml", b"<a/>")]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tgz"]
    with pytest.raises(DataError, match="is refused"):
        list(read_members(make_tar(tmp_path / "b.tar", [REFUSED["symlink"]]), lambda _: True, LIMIT))

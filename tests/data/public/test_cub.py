"""CUB and CUBV2 from the publisher's address to a prepared dataset, by the commands."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from famcli.data.dataset import open_dataset
from famcli.data.public.catalog import CATALOG

Fam = Callable[..., Result]
BOXES = [[[0, 0, 40, 30]], [[6, 7, 15, 17]]]  # x, y, x + w + 1, y + h + 1, cut to the image


def pack(tree: Path, archive: Path) -> bytes:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted(tree.iterdir()):
            tar.add(path, f"./{path.name}")
    return archive.read_bytes()


def use_row(monkeypatch: pytest.MonkeyPatch, name: str, **archives: dict[str, Any]) -> None:
    """Change facts of a dataset's archives; ``first`` is the first one."""
    facts = CATALOG[name]
    rows = list(facts.archives)
    for place, changes in archives.items():
        index = {"first": 0, "second": 1}[place]
        rows[index] = dataclasses.replace(rows[index], **changes)
    monkeypatch.setitem(CATALOG, name, dataclasses.replace(facts, archives=tuple(rows)))


def pinned(content: bytes, url: str | None) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return {"size": len(content), "hash": digest, "url": url, "unpacked": 1}


@pytest.fixture
def published(tmp_path: Path, cub_tree: Path, server: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """CUB's archive on a server, and the row that leads there."""
    content = pack(cub_tree, tmp_path / "CUB_200_2011.tgz")
    url: str = server.add("CUB_200_2011.tgz", content)
    use_row(monkeypatch, "cub", first=pinned(content, url))
    return url


def check_cub(root: Path) -> None:
    """The four birds are where they should be."""
    cub = open_dataset(root)
    assert cub.class_names == ("Black footed Albatross", "Laysan Albatross")
    assert cub.fullsup == "cubv2"
    assert cub.splits() == ["train-weaksup", "test"]
    train, test = cub.samples("train-weaksup"), cub.samples("test", with_boxes=True)
    assert [s.label for s in train] == [s.label for s in test] == [0, 1]
    assert [s.boxes.tolist() for s in test] == BOXES
    assert [s.size_hw for s in test] == [(30, 40), (20, 25)]
    assert all(s.path.is_file() for s in (*train, *test))


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}


def test_one_command(fam: Fam, published: str, home: Path) -> None:
    """`fam data download cub --accept-terms` ends with a dataset that a name opens; stdout is its folder."""
    result = fam("data", "download", "cub", "--accept-terms")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{home / 'cub'}\n"
    check_cub(Path("cub"))
    assert "as published" in result.stderr
    assert "train-weaksup 2 images, test 2 images with 2 boxes" in result.stderr
    assert "test has 2 images, the publisher's has 5,794" in result.stderr
    assert "fam data download cubv2" in result.stderr
    assert not (home / "cub" / "CUB_200_2011" / "parts").exists()
    assert not (home / "cub" / "metadata" / "train-weaksup" / "localization.txt").exists()


def test_twice_changes_nothing(fam: Fam, published: str, home: Path, server: Any) -> None:
    """Downloading and preparing again asks nothing, reads nothing, and touches no file; the message says so."""
    fam("data", "download", "cub", "--accept-terms")
    before, asked = state(home), len(server.requests)
    for command in (("download", "cub", "--accept-terms"), ("prepare", "cub")):
        result = fam("data", *command)
        assert result.exit_code == 0
        assert "nothing has changed" in result.stderr
    assert state(home) == before
    assert len(server.requests) == asked


def test_a_deleted_image_comes_back(fam: Fam, published: str, home: Path) -> None:
    """A prepared dataset that lost an image is prepared anew, with the same lists as before."""
    fam("data", "download", "cub", "--accept-terms")
    lists = {p: p.read_bytes() for p in (home / "cub" / "metadata").rglob("*.txt")}
    lost = home / "cub" / "CUB_200_2011" / "images" / "001.Black_footed_Albatross" / "A_0001.jpg"
    lost.unlink()
    result = fam("data", "prepare", "cub")
    assert lost.is_file()
    assert "is prepared" in result.stderr
    assert {p: p.read_bytes() for p in lists} == lists


def test_archives_deleted_to_save_room(fam: Fam, published: str, home: Path, server: Any) -> None:
    """A prepared dataset whose archive is gone is not downloaded again, and is not prepared from nothing."""
    fam("data", "download", "cub", "--accept-terms")
    shutil.rmtree(home / "cub" / "downloads")
    asked = len(server.requests)
    result = fam("data", "download", "cub", "--accept-terms")
    assert result.exit_code == 0
    assert result.stdout == f"{home / 'cub'}\n"
    assert "is prepared already" in result.stderr
    assert json.loads(fam("data", "download", "cub", "--json").stdout)["prepared"]["root"] == str(home / "cub")
    assert len(server.requests) == asked
    assert "its downloads are gone" in fam("data", "prepare", "cub").stderr
    check_cub(Path("cub"))


def test_terms(fam: Fam, published: str, server: Any) -> None:
    """Without --accept-terms nothing is asked of the server; terms, their page and the option are named."""
    result = fam("data", "download", "cub")
    assert result.exit_code == 1
    assert all(t in result.stderr for t in ("non-commercial", CATALOG["cub"].terms_page, "--accept-terms"))
    assert server.requests == []


def test_dry_run(fam: Fam, published: str, home: Path, server: Any) -> None:
    """--dry-run prints files, sizes, addresses, targets and free disk, and does nothing."""
    result = fam("data", "download", "cub", "--dry-run")
    assert result.exit_code == 0
    assert published in result.stdout
    assert str(home / "cub" / "downloads" / "CUB_200_2011.tgz") in result.stdout
    assert "free at" in result.stderr
    plan = json.loads(fam("data", "download", "cub", "--dry-run", "--json").stdout)
    assert plan["files"][0]["todo"] == "download"
    assert plan["bytes_left"] == plan["files"][0]["bytes"]
    assert plan["must_accept"]
    assert server.requests == []
    assert not home.exists()


def test_no_room(fam: Fam, published: str, monkeypatch: pytest.MonkeyPatch, server: Any) -> None:
    """A disk too small for archive and images is refused before the download, with what is free and needed."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1000))  # type: ignore[attr-defined]
    result = fam("data", "download", "cub", "--accept-terms")
    assert result.exit_code == 1
    assert "has 1 kB free, but" in result.stderr
    assert "are needed" in result.stderr
    assert server.requests == []


def test_without_preparing(fam: Fam, published: str, tmp_path: Path) -> None:
    """--no-prepare stops after the download and names the next command, which then works."""
    result = fam("data", "download", "cub", "--accept-terms", "--no-prepare", "--to", tmp_path / "d", "--json")
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert answer["prepared"] is None
    assert answer["files"][0]["new"]
    assert f"next: fam data prepare cub --from {tmp_path / 'd'}" in result.stderr
    result = fam("data", "prepare", "cub", "--from", tmp_path / "d", "--out", tmp_path / "o")
    assert result.stdout == f"{tmp_path / 'o'}\n"
    check_cub(tmp_path / "o")


def test_interrupted_download(fam: Fam, published: str, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C during the download is exit 130 and names the command that goes on."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("famcli.data.public.download.requests.get", interrupted)
    result = fam("data", "download", "cub", "--accept-terms")
    assert result.exit_code == 130
    assert "to go on: fam data download cub --accept-terms" in result.stderr


def test_interrupted_preparation(fam: Fam, published: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while lists are written leaves no dataset, and the same command completes it."""
    fam("data", "download", "cub", "--accept-terms", "--no-prepare")

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("famcli.data.images.read_header", interrupted)
        result = fam("data", "prepare", "cub")
    assert result.exit_code == 130
    assert "to go on: fam data prepare cub" in result.stderr
    assert not (home / "cub" / "dataset.json").exists()
    assert fam("data", "prepare", "cub").exit_code == 0
    check_cub(Path("cub"))


def test_segmentations(
    fam: Fam, published: str, tmp_path: Path, home: Path, server: Any, monkeypatch: pytest.MonkeyPatch, jpeg: Any
) -> None:
    """The optional masks come by --only, and a later preparation puts them beside the images."""
    jpeg(tmp_path / "masks" / "segmentations" / "001.Black_footed_Albatross" / "A_0001.png")
    content = pack(tmp_path / "masks", tmp_path / "segmentations.tgz")
    use_row(monkeypatch, "cub", second=pinned(content, server.add("segmentations.tgz", content)))
    result = fam("data", "download", "cub", "--only", "segmentations", "--accept-terms")
    assert result.exit_code == 0
    assert "next: fam data prepare cub" in result.stderr
    assert fam("data", "download", "cub", "--accept-terms").exit_code == 0
    assert (home / "cub" / "segmentations" / "001.Black_footed_Albatross" / "A_0001.png").is_file()


def test_segmentations_later(
    fam: Fam, published: str, tmp_path: Path, home: Path, server: Any, monkeypatch: pytest.MonkeyPatch, jpeg: Any
) -> None:
    """Masks that come after the preparation are put in place by the next one, and so is one that was lost."""
    jpeg(tmp_path / "masks" / "segmentations" / "001.Black_footed_Albatross" / "A_0001.png")
    content = pack(tmp_path / "masks", tmp_path / "segmentations.tgz")
    use_row(monkeypatch, "cub", second=pinned(content, server.add("segmentations.tgz", content)))
    assert fam("data", "download", "cub", "--accept-terms").exit_code == 0
    assert fam("data", "download", "cub", "--only", "segmentations", "--accept-terms", "--no-prepare").exit_code == 0
    mask = home / "cub" / "segmentations" / "001.Black_footed_Albatross" / "A_0001.png"
    assert fam("data", "prepare", "cub").exit_code == 0
    assert mask.is_file()
    mask.unlink()
    assert fam("data", "prepare", "cub").exit_code == 0
    assert mask.is_file()
    assert "nothing has changed" in fam("data", "prepare", "cub").stderr


def test_unknown_file(fam: Fam, published: str) -> None:
    """An unknown --only is an error that lists the files."""
    result = fam("data", "download", "cub", "--only", "segmentation")
    assert result.exit_code == 1
    assert "did you mean" in result.stderr


@pytest.mark.parametrize("inner", [".", "CUB_200_2011"], ids=["above", "inside"])
def test_extracted_tree(fam: Fam, cub_tree: Path, home: Path, inner: str) -> None:
    """An extracted tree is read where it is: no image is copied."""
    assert fam("data", "prepare", "cub", "--from", cub_tree / inner).exit_code == 0
    check_cub(Path("cub"))
    assert open_dataset("cub").images == cub_tree / "CUB_200_2011" / "images"
    assert not list((home / "cub").rglob("*.jpg"))


def test_wrong_archive(fam: Fam, published: str, tmp_path: Path) -> None:
    """An archive that is not the publisher's is refused by both hashes."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "CUB_200_2011.tgz").write_bytes(b"something else")
    result = fam("data", "prepare", "cub", "--from", folder)
    assert result.exit_code == 1
    assert "not the publisher's file" in result.stderr


def test_nothing_there(fam: Fam, home: Path, tmp_path: Path) -> None:
    """Without any files the commands say what to do."""
    result = fam("data", "prepare", "cub")
    assert result.exit_code == 1
    assert "fam data download cub" in result.stderr
    (tmp_path / "empty").mkdir()
    result = fam("data", "prepare", "cub", "--from", tmp_path / "empty")
    assert "missing: CUB_200_2011.tgz, or the folder CUB_200_2011/" in result.stderr
    assert "--from" in fam("data", "prepare", "cub", "--from", tmp_path / "nowhere").stderr

"""ILSVRC and ImageNetV2 from archives or extracted trees to prepared datasets, by the commands."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from famcli.data.catalog import CATALOG
from famcli.data.dataset import open_dataset

Fam = Callable[..., Result]
WNIDS = ("n01440764", "n01443537", "n01484850")
NAMES = ("tench", "goldfish", "great white shark")
LABELS = [2, 0, 1]
BOXES = [[[1, 2, 21, 19]], [[0, 0, 11, 11], [12, 3, 40, 30]], [[5, 5, 25, 20]]]


def tar_of(folder: Path, path: Path, mode: str = "w", under: str = ".") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for item in sorted(folder.iterdir()):
            tar.add(item, f"{under}/{item.name}" if under != "." else item.name)
    return path


@pytest.fixture
def archives(ilsvrc_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The four archives in the official layout, and rows with their MD5."""
    folder = tmp_path / "archives"
    folder.mkdir()
    with tarfile.open(folder / "ILSVRC2012_img_train.tar", "w") as outer:
        for wnid in WNIDS:
            inner = tar_of(ilsvrc_tree / "train" / wnid, tmp_path / f"{wnid}.tar").read_bytes()
            info = tarfile.TarInfo(f"{wnid}.tar")
            info.size = len(inner)
            outer.addfile(info, io.BytesIO(inner))
    tar_of(ilsvrc_tree / "val", folder / "ILSVRC2012_img_val.tar")
    kit = ilsvrc_tree / "ILSVRC2012_devkit_t12"
    tar_of(kit, folder / "ILSVRC2012_devkit_t12.tar.gz", "w:gz", under=kit.name)
    tar_of(ilsvrc_tree / "bbox" / "val", folder / "ILSVRC2012_bbox_val_v3.tgz", "w:gz", under="val")
    pin(monkeypatch, "ilsvrc", folder)
    return folder


def pin(monkeypatch: pytest.MonkeyPatch, name: str, folder: Path) -> None:
    """Rows with the size and the MD5 of the files of a folder."""
    rows = []
    for row in CATALOG[name].archives:
        content = (folder / row.name).read_bytes() if (folder / row.name).is_file() else None
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() if content else row.md5
        size = len(content) if content else row.size
        rows.append(dataclasses.replace(row, md5=md5, sha256=None, size=size, unpacked=1))
    monkeypatch.setitem(CATALOG, name, dataclasses.replace(CATALOG[name], archives=tuple(rows)))


def check_ilsvrc(root: Path, *, train: bool = True, names: bool = True) -> None:
    """The three classes are where they should be."""
    data = open_dataset(root)
    assert data.class_names == (NAMES if names else WNIDS)
    assert data.fullsup == "imagenetv2"
    test = data.samples("test", with_boxes=True)
    assert [s.label for s in test] == LABELS
    assert [s.boxes.tolist() for s in test] == BOXES
    assert [s.size_hw for s in test] == [(30, 40), (30, 40), (20, 25)]
    assert all(s.path.is_file() for s in test)
    assert data.splits() == (["train-weaksup", "test"] if train else ["test"])
    if train:
        samples = data.samples("train-weaksup")
        assert [s.name for s in samples] == [f"train/{w}/{w}_{i}.JPEG" for w in WNIDS for i in (1, 2)]
        assert [s.label for s in samples] == [0, 0, 1, 1, 2, 2]
        assert all(s.path.is_file() for s in samples)


def test_archives(fam: Fam, archives: Path, home: Path) -> None:
    """The original archives become a dataset; ILSVRC2012_ID is translated, all boxes of an image are kept."""
    result = fam("data", "prepare", "ilsvrc", "--from", archives)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{home / 'ilsvrc'}\n"
    check_ilsvrc(Path("ilsvrc"))
    assert sorted(p.name for p in archives.iterdir()) == sorted(p.name for p in archives.glob("ILSVRC*"))
    assert "train-weaksup 6 images, test 3 images with 4 boxes" in result.stderr
    before = {str(p): p.stat().st_mtime_ns for p in (home / "ilsvrc").rglob("*")}
    again = fam("data", "prepare", "ilsvrc", "--from", archives)
    assert "nothing has changed" in again.stderr
    assert {str(p): p.stat().st_mtime_ns for p in (home / "ilsvrc").rglob("*")} == before


def test_archives_in_place(fam: Fam, archives: Path, home: Path) -> None:
    """Archives put into the download folder need no --from, and `download` goes on to prepare them."""
    shutil.copytree(archives, home / "ilsvrc" / "downloads")
    result = fam("data", "download", "ilsvrc")
    assert result.exit_code == 0, result.stderr
    check_ilsvrc(Path("ilsvrc"))


def test_download_needs_a_login(fam: Fam, home: Path) -> None:
    """`fam data download ilsvrc` names every file, what it holds and the page, and is exit 1."""
    result = fam("data", "download", "ilsvrc")
    assert result.exit_code == 1
    for row in CATALOG["ilsvrc"].archives:
        assert (row.name in result.stderr) == row.required
    assert "after a login at https://image-net.org/" in result.stderr
    assert "fam data prepare ilsvrc --from DIR" in result.stderr


def test_interrupted_extraction(fam: Fam, archives: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An extraction that was stopped leaves no dataset, and goes on with the class where it was."""
    from famcli.data import archives as module

    real, count = module._write, 0

    def stop_at_four(*arguments: Any) -> None:
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_write", stop_at_four)
        result = fam("data", "prepare", "ilsvrc", "--from", archives)
    assert result.exit_code == 130
    assert f"to go on: fam data prepare ilsvrc --from {archives}" in result.stderr
    assert not (home / "ilsvrc" / "dataset.json").exists()
    count = -100
    monkeypatch.setattr(module, "_write", stop_at_four)
    assert fam("data", "prepare", "ilsvrc", "--from", archives).exit_code == 0
    assert count == -100 + 3 + 3  # three images of train and three of val were missing
    check_ilsvrc(Path("ilsvrc"))


def test_extracted_tree(fam: Fam, ilsvrc_tree: Path, home: Path) -> None:
    """An extracted tree with flat val/, devkit and XML is read where it is."""
    assert fam("data", "prepare", "ilsvrc", "--from", ilsvrc_tree).exit_code == 0
    check_ilsvrc(Path("ilsvrc"))
    assert open_dataset("ilsvrc").images == ilsvrc_tree
    assert not list((home / "ilsvrc").rglob("*.JPEG"))


def by_class(tree: Path) -> None:
    for i, label in enumerate(LABELS, 1):
        image = tree / "val" / f"ILSVRC2012_val_{i:08d}.JPEG"
        (tree / "val" / WNIDS[label]).mkdir(exist_ok=True)
        image.rename(tree / "val" / WNIDS[label] / image.name)


def test_val_by_class(fam: Fam, ilsvrc_tree: Path, home: Path) -> None:
    """val/ by class needs no devkit: folders are labels; without a list of words the ids are the names."""
    by_class(ilsvrc_tree)
    shutil.rmtree(ilsvrc_tree / "ILSVRC2012_devkit_t12")
    assert fam("data", "prepare", "ilsvrc", "--from", ilsvrc_tree).exit_code == 0
    check_ilsvrc(Path("ilsvrc"), names=False)


def test_kaggle(fam: Fam, ilsvrc_tree: Path, home: Path, tmp_path: Path) -> None:
    """Kaggle's tree, with its own places of images, XML and words, is read; labels come from the XML."""
    top = tmp_path / "kaggle"
    images, xml = top / "ILSVRC" / "Data" / "CLS-LOC", top / "ILSVRC" / "Annotations" / "CLS-LOC"
    images.mkdir(parents=True)
    xml.mkdir(parents=True)
    for part in ("train", "val"):
        (ilsvrc_tree / part).rename(images / part)
    (ilsvrc_tree / "bbox" / "val").rename(xml / "val")
    words = "".join(f"{w} {n}, something else\n" for w, n in zip(WNIDS, NAMES, strict=True))
    (top / "LOC_synset_mapping.txt").write_text(words)
    assert fam("data", "prepare", "ilsvrc", "--from", top).exit_code == 0
    check_ilsvrc(Path("ilsvrc"))


def test_benchmark_lists(fam: Fam, ilsvrc_tree: Path, home: Path) -> None:
    """wsolevaluation's lists stand in for devkit and XML."""
    shutil.rmtree(ilsvrc_tree / "ILSVRC2012_devkit_t12")
    shutil.rmtree(ilsvrc_tree / "bbox")
    lists = ilsvrc_tree / "metadata" / "ILSVRC" / "test"
    lists.mkdir(parents=True)
    names = [f"val/ILSVRC2012_val_{i:08d}.JPEG" for i in (1, 2, 3)]
    (lists / "class_labels.txt").write_text("\n".join(f"{n},{c}" for n, c in zip(names, LABELS, strict=True)))
    rows = [(n, *b) for n, boxes in zip(names, BOXES, strict=True) for b in boxes]
    (lists / "localization.txt").write_text("\n".join(f"{n},{a},{b},{c - 1},{d - 1}" for n, a, b, c, d in rows))
    result = fam("data", "prepare", "ilsvrc", "--from", ilsvrc_tree)
    assert result.exit_code == 0, result.stderr
    check_ilsvrc(Path("ilsvrc"), names=False)


def test_list_of_wnids(fam: Fam, ilsvrc_tree: Path, home: Path) -> None:
    """A list of WordNet ids, a line an image in order, is a source of labels."""
    shutil.rmtree(ilsvrc_tree / "ILSVRC2012_devkit_t12")
    lines = "".join(f"{WNIDS[label]}\n" for label in LABELS)
    (ilsvrc_tree / "imagenet_2012_validation_synset_labels.txt").write_text(lines)
    assert fam("data", "prepare", "ilsvrc", "--from", ilsvrc_tree).exit_code == 0
    check_ilsvrc(Path("ilsvrc"), names=False)


def test_without_train(fam: Fam, ilsvrc_tree: Path, home: Path) -> None:
    """--without-train prepares the test split from the small files alone."""
    shutil.rmtree(ilsvrc_tree / "train")
    assert fam("data", "prepare", "ilsvrc", "--from", ilsvrc_tree).exit_code == 1
    assert fam("data", "prepare", "ilsvrc", "--from", ilsvrc_tree, "--without-train").exit_code == 0
    check_ilsvrc(Path("ilsvrc"), train=False)


@pytest.mark.parametrize(
    ("gone", "named"),
    [
        ("train", "training images (ILSVRC2012_img_train.tar"),
        ("val", "validation images (ILSVRC2012_img_val.tar"),
        ("bbox", "boxes (ILSVRC2012_bbox_val_v3.tgz"),
    ],
)
def test_missing(fam: Fam, ilsvrc_tree: Path, home: Path, gone: str, named: str) -> None:
    """Each part that is missing is named with its archive and the page to get it."""
    shutil.rmtree(ilsvrc_tree / gone)
    result = fam("data", "prepare", "ilsvrc", "--from", ilsvrc_tree)
    assert result.exit_code == 1
    assert named in result.stderr
    assert "https://image-net.org/" in result.stderr
    assert "a login is needed" in result.stderr
    assert result.stderr.count("\n") == 1


def test_missing_labels(fam: Fam, ilsvrc_tree: Path, home: Path) -> None:
    """A flat val/ with boxes that name no classes needs labels from somewhere."""
    shutil.rmtree(ilsvrc_tree / "ILSVRC2012_devkit_t12")
    shutil.rmtree(ilsvrc_tree / "bbox")
    (ilsvrc_tree / "localization.txt").write_text("val/ILSVRC2012_val_00000001.JPEG,1,2,3,4")
    result = fam("data", "prepare", "ilsvrc", "--from", ilsvrc_tree)
    assert "labels of the validation images (ILSVRC2012_devkit_t12.tar.gz" in result.stderr


def test_one_part_extracted(fam: Fam, archives: Path, ilsvrc_tree: Path, home: Path) -> None:
    """An extracted train/ beside val.tar is told the option that brings both together, which then works."""
    (ilsvrc_tree / "train").rename(archives / "train")
    (archives / "ILSVRC2012_img_train.tar").unlink()
    result = fam("data", "prepare", "ilsvrc", "--from", archives)
    assert result.exit_code == 1
    assert f"--out '{archives}'" in result.stderr
    result = fam("data", "prepare", "ilsvrc", "--from", archives, "--out", archives)
    assert result.exit_code == 0, result.stderr
    check_ilsvrc(archives)


def test_a_broken_archive(fam: Fam, archives: Path, home: Path) -> None:
    """An archive whose hash is wrong is refused before anything is extracted."""
    with (archives / "ILSVRC2012_img_val.tar").open("r+b") as file:
        file.write(b"!")
    result = fam("data", "prepare", "ilsvrc", "--from", archives)
    assert result.exit_code == 1
    assert "its md5 is" in result.stderr
    assert not (home / "ilsvrc" / "val").exists()


def test_labels_of_other_data(fam: Fam, ilsvrc_tree: Path, home: Path) -> None:
    """Labels in another order than the boxes' classes do not become a dataset."""
    truth = ilsvrc_tree / "ILSVRC2012_devkit_t12" / "data" / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("".join(reversed(truth.read_text().splitlines(keepends=True))))
    result = fam("data", "prepare", "ilsvrc", "--from", ilsvrc_tree)
    assert result.exit_code == 1
    assert "differ for 2 of 3 images" in result.stderr


def test_damaged_devkit(fam: Fam, ilsvrc_tree: Path, home: Path) -> None:
    """A meta.mat that cannot be read, or ids it does not have, are errors in words."""
    data = ilsvrc_tree / "ILSVRC2012_devkit_t12" / "data"
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n99\n3\n")
    result = fam("data", "prepare", "ilsvrc", "--from", ilsvrc_tree)
    assert "no ILSVRC2012_ID of meta.mat" in result.stderr
    (data / "meta.mat").write_bytes(b"MATLAB 5.0 nonsense")
    result = fam("data", "prepare", "ilsvrc", "--from", ilsvrc_tree)
    assert result.exit_code == 1
    assert "cannot read meta.mat" in result.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<annotation>", "is no annotation"),
        ("<annotation></annotation>", "has no object"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "defines entities"),
        ("<annotation><object><bndbox><xmin>x</xmin></bndbox></object></annotation>", "is no annotation"),
    ],
)
def test_damaged_xml(fam: Fam, ilsvrc_tree: Path, home: Path, text: str, words: str) -> None:
    """An XML file that is damaged, empty or clever is named."""
    (ilsvrc_tree / "bbox" / "val" / "ILSVRC2012_val_00000002.xml").write_text(text)
    result = fam("data", "prepare", "ilsvrc", "--from", ilsvrc_tree)
    assert result.exit_code == 1
    assert words in result.stderr
    assert "ILSVRC2012_val_00000002.xml" in result.stderr


def test_an_image_without_a_box(fam: Fam, ilsvrc_tree: Path, home: Path) -> None:
    """Every test image needs a box."""
    (ilsvrc_tree / "bbox" / "val" / "ILSVRC2012_val_00000002.xml").unlink()
    result = fam("data", "prepare", "ilsvrc", "--from", ilsvrc_tree)
    assert "1 of 3 validation images" in result.stderr
    assert "have no box, such as ILSVRC2012_val_00000002" in result.stderr


def test_only_for_ilsvrc(fam: Fam, home: Path) -> None:
    """Options of own data and of ILSVRC are wrong usage elsewhere."""
    assert fam("data", "prepare", "cub", "--without-train").exit_code == 2
    assert fam("data", "prepare", "cub", "--format", "coco").exit_code == 2


@pytest.fixture
def v2_tree(tmp_path: Path, jpeg: Any) -> Path:
    """ImageNetV2 of classes 0, 2 and 10, in the layout of its archive."""
    top = tmp_path / "v2" / "imagenetv2-threshold0.7-format-val"
    for label in (0, 2, 10):
        jpeg(top / str(label) / f"{label:040x}.jpeg", seed=label)
    return top.parent


def v2_lists(folder: Path, names: dict[int, str] | None = None) -> None:
    """wsolevaluation's boxes of :func:`v2_tree`, its classes in the order of text."""
    lists = folder / "metadata" / "ILSVRC" / "val"
    lists.mkdir(parents=True)
    files = {label: (names or {}).get(label, f"{label:040x}.jpeg") for label in (0, 10, 2)}
    rows = [f"val2/{label}/{name},{label},1,20,20" for label, name in files.items()] + [
        f"val2/10/{files[10]},0,0,39,29"
    ]
    (lists / "localization.txt").write_text("\n".join(rows))


def check_v2(root: Path) -> None:
    """Three images with their numeric classes."""
    samples = open_dataset(root).samples("train-fullsup", with_boxes=True)
    assert [s.label for s in samples] == [0, 2, 10]
    assert [len(s.boxes) for s in samples] == [1, 1, 2]
    assert samples[1].boxes.tolist() == [[2, 1, 21, 21]]
    assert all(s.path.is_file() for s in samples)


def test_imagenetv2_one_command(
    fam: Fam, v2_tree: Path, home: Path, tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images and boxes of ImageNetV2 come by one command, without a question about terms."""
    archive = tar_of(v2_tree, tmp_path / "v2.tar.gz").read_bytes()  # the real one is no gzip either
    v2_lists(tmp_path)
    lists = (tmp_path / "metadata" / "ILSVRC" / "val" / "localization.txt").read_bytes()
    rows = CATALOG["imagenetv2"].archives
    sha256 = hashlib.sha256(archive).hexdigest()
    images = dataclasses.replace(rows[0], url=server.add("a", archive), size=len(archive), sha256=sha256, unpacked=1)
    new = (images, dataclasses.replace(rows[1], url=server.add("b", lists)))
    monkeypatch.setitem(CATALOG, "imagenetv2", dataclasses.replace(CATALOG["imagenetv2"], archives=new))
    result = fam("data", "download", "imagenetv2")
    assert result.exit_code == 0, result.stderr
    check_v2(Path("imagenetv2"))
    assert open_dataset("imagenetv2").samples("train-fullsup")[0].name.startswith("val2/0/")
    assert "not pinned" in result.stderr


def test_imagenetv2_tree(fam: Fam, v2_tree: Path, ilsvrc_tree: Path, home: Path) -> None:
    """An extracted ImageNetV2 is read where it is, and ilsvrc's train-fullsup is found beside it."""
    v2_lists(v2_tree)
    assert fam("data", "prepare", "imagenetv2", "--from", v2_tree).exit_code == 0
    check_v2(Path("imagenetv2"))
    assert fam("data", "prepare", "ilsvrc", "--from", ilsvrc_tree).exit_code == 0
    assert len(open_dataset("ilsvrc").samples("train-fullsup", with_boxes=True)) == 3


def test_imagenetv2_old_names(fam: Fam, v2_tree: Path, home: Path) -> None:
    """Boxes of the files' old names need wsolevaluation's mapping, and say so."""
    v2_lists(v2_tree, {0: "0.jpeg", 2: "0.jpeg", 10: "0.jpeg"})
    result = fam("data", "prepare", "imagenetv2", "--from", v2_tree)
    assert result.exit_code == 1
    assert "has no box for 3 of 3 images" in result.stderr
    assert "mapping.txt" in result.stderr
    lines = "".join(f"{label}/0.jpeg, {label}/{label:040x}.jpeg\n" for label in (0, 2, 10))
    (v2_tree / "metadata" / "ILSVRC" / "val" / "mapping.txt").write_text(lines)
    assert fam("data", "prepare", "imagenetv2", "--from", v2_tree).exit_code == 0
    check_v2(Path("imagenetv2"))


def test_imagenetv2_missing(fam: Fam, tmp_path: Path, home: Path) -> None:
    """Both parts that are missing are named."""
    result = fam("data", "prepare", "imagenetv2", "--from", tmp_path)
    assert "imagenetv2-threshold0.7.tar.gz" in result.stderr
    assert "metadata/ILSVRC/val/localization.txt" in result.stderr


def test_list(fam: Fam, home: Path, archives: Path, ilsvrc_tree: Path, jpeg: Any, tmp_path: Path) -> None:
    """`fam data list` shows each dataset with its splits, terms and how far it is, own ones too."""
    table = fam("data", "list").stdout
    assert all(word in table for word in (*CATALOG, "train-weaksup 5,994", "non-commercial", "by hand"))
    assert table.count("| absent") == len(CATALOG)
    shutil.copytree(archives, home / "ilsvrc" / "downloads")
    (home / "cub" / "downloads").mkdir(parents=True)
    (home / "cub" / "downloads" / "CUB_200_2011.tgz.part").write_bytes(b"x")
    for name in ("cat/1.jpg", "dog/2.jpg"):
        jpeg(tmp_path / "own" / name)
    assert fam("data", "prepare", "pets", "--from", tmp_path / "own").exit_code == 0
    answer = json.loads(fam("data", "list", "--json").stdout)
    states = {row["name"]: row["state"] for row in answer["datasets"]}
    assert states == {
        "cub": "partly downloaded",
        "cubv2": "absent",
        "ilsvrc": "downloaded",
        "imagenetv2": "absent",
        "pets": "prepared",
    }
    assert answer["home"] == str(home)


def test_own_data(fam: Fam, home: Path, jpeg: Any, tmp_path: Path) -> None:
    """Own photographs by class get a name, stay where they are, and are prepared again when there are more."""
    for name in ("cat/1.jpg", "dog/2.jpg"):
        jpeg(tmp_path / "own" / name)
    result = fam("data", "prepare", "pets", "--from", tmp_path / "own", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["changed"]
    pets = open_dataset("pets")
    assert pets.class_names == ("cat", "dog")
    assert pets.images == tmp_path / "own"
    assert not json.loads(fam("data", "prepare", "pets", "--from", tmp_path / "own", "--json").stdout)["changed"]
    jpeg(tmp_path / "own" / "cow" / "3.jpg")
    assert json.loads(fam("data", "prepare", "pets", "--from", tmp_path / "own", "--json").stdout)["changed"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("imagenet",), "did you mean"),
        (("pets",), "for your own data add --from"),
        (("../pets", "--from", "."), "cannot be the name"),
    ],
)
def test_names(fam: Fam, home: Path, arguments: tuple[str, ...], words: str) -> None:
    """A name that is neither known nor given data, or that is a path, is an error."""
    result = fam("data", "prepare", *arguments)
    assert result.exit_code == 1
    assert words in result.stderr


def test_a_million_images(tmp_path: Path) -> None:
    """Samples of the training images are made while they are written: none is kept."""
    import tracemalloc

    from famcli.data.dataset import Sample, write_dataset
    from famcli.data.sample import NO_BOXES

    where = Path("x")
    samples = (Sample(f"train/n/{i}.JPEG", where, i % 1000, NO_BOXES) for i in range(50_000))
    tracemalloc.start()
    write_dataset(tmp_path / "d", name="d", images=tmp_path, class_names=(), splits={"train-weaksup": samples})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20

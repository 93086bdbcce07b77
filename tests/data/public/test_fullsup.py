"""ImageNetV2 from its archive or an extracted tree to a prepared dataset, by the commands."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from famcli.data.dataset import open_dataset

Fam = Callable[..., Result]


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
    fam: Fam, v2_tree: Path, home: Path, tmp_path: Path, server: Any, publish: Callable[..., None]
) -> None:
    """Images and boxes of ImageNetV2 come by one command, without a question about terms."""
    with tarfile.open(tmp_path / "v2.tar.gz", "w") as tar:  # the real one is no gzip either
        tar.add(v2_tree, ".")
    archive = (tmp_path / "v2.tar.gz").read_bytes()
    v2_lists(tmp_path)
    lists = (tmp_path / "metadata" / "ILSVRC" / "val" / "localization.txt").read_bytes()
    publish("imagenetv2", "imagenetv2-threshold0.7.tar.gz", archive, url=server.add("a", archive))
    publish("imagenetv2", "metadata/ILSVRC/val/localization.txt", url=server.add("b", lists))
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


def test_imagenetv2_missing(fam: Fam, v2_tree: Path, tmp_path: Path, home: Path) -> None:
    """Both parts that are missing are named, and so is a mapping in another encoding."""
    result = fam("data", "prepare", "imagenetv2", "--from", tmp_path)
    assert "imagenetv2-threshold0.7.tar.gz" in result.stderr
    assert "metadata/ILSVRC/val/localization.txt" in result.stderr
    v2_lists(v2_tree)
    (v2_tree / "mapping.txt").write_bytes(b"0/\xff.jpeg, 0/0.jpeg\n")
    result = fam("data", "prepare", "imagenetv2", "--from", v2_tree)
    assert result.exit_code == 1
    assert "mapping.txt' is not UTF-8 text" in result.stderr

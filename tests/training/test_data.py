"""What a run learns from and is judged by."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from famcli.data.dataset import open_dataset
from famcli.data.sample import FULLSUP, TEST, Sample
from famcli.training.data import BY_LOSS, anchored, gather
from famcli.training.recipe import RunConfig
from famcli_models.errors import ConfigError, DataError, UnknownNameError

Make = Callable[..., Path]
ALL = {"train_weaksup": [0, 1, 2, 3], "train_fullsup": [4, 5], "test": [6, 7]}


def test_the_splits_of_the_paper(make_splits: Make) -> None:
    """Training is on train-weaksup without boxes, judging on train-fullsup with them, if there is such a split."""
    root = make_splits(**ALL)
    material = gather(RunConfig(data=(str(root),)))
    assert [sample.name for sample in material.samples] == ["0.png", "1.png", "2.png", "3.png"]
    assert not any(len(sample.boxes) for sample in material.samples)
    assert [sample.name for sample in material.judged] == ["4.png", "5.png"]
    assert all(len(sample.boxes) == 1 for sample in material.judged)
    assert (material.select, material.on_test, material.names) == (FULLSUP, False, ("tiny",))
    assert (material.class_names, material.num_classes) == (("red", "green"), 2)


@pytest.mark.parametrize("select", ["auto", "loss"])
def test_without_boxes_the_loss_decides(make_splits: Make, select: str) -> None:
    """Nothing is judged where no dataset has train-fullsup, or where that is asked for."""
    root = make_splits(**(ALL if select == "loss" else {"train_weaksup": [0, 1], "test": [6]}))
    material = gather(RunConfig(data=(str(root),), select=select))
    assert (material.select, list(material.judged), material.on_test) == (BY_LOSS, [], False)


@pytest.mark.parametrize(
    ("split", "select"), [("train", "val"), ("TRAIN", "Validation"), ("train-weaksup", "train-fullsup")]
)
def test_other_names_of_the_splits(make_splits: Make, split: str, select: str) -> None:
    """Splits may be called what others call them."""
    material = gather(RunConfig(data=(str(make_splits(**ALL)),), split=split, select=select))
    assert (len(material.samples), len(material.judged), material.select) == (4, 2, FULLSUP)


@pytest.mark.parametrize("fields", [{"split": "test"}, {"select": "test"}, {"select": "TESTING"}])
def test_the_test_split_must_be_meant(make_splits: Make, fields: dict[str, str]) -> None:
    """Training on the test split or selecting by it needs saying so, and is known ever after."""
    data = (str(make_splits(**ALL)),)
    with pytest.raises(ConfigError, match="--i-know-this-is-test"):
        gather(RunConfig(data=data, **fields))
    material = gather(RunConfig(data=data, i_know_this_is_test=True, **fields))
    assert material.on_test
    assert [s.name for s in (material.samples if "split" in fields else material.judged)] == ["6.png", "7.png"]
    assert not gather(RunConfig(data=data, i_know_this_is_test=True)).on_test
    assert TEST in open_dataset(data[0]).splits()


def test_several_datasets_are_joined(make_splits: Make) -> None:
    """Samples follow each other in the order the datasets are named in; those with boxes judge."""
    first = make_splits("a", train_weaksup=[0, 1])
    second = make_splits("b", classes=(), train_weaksup=[2, 3], train_fullsup=[4])
    material = gather(RunConfig(data=(str(first), str(second))))
    assert [sample.name for sample in material.samples] == ["0.png", "1.png", "2.png", "3.png"]
    assert [sample.name for sample in material.judged] == ["4.png"]
    assert (material.names, material.class_names) == (("a", "b"), ("red", "green"))


def test_class_names_that_disagree(make_splits: Make) -> None:
    """Label 0 cannot mean two things."""
    first = make_splits("a", train_weaksup=[0])
    second = make_splits("b", classes=("green", "red"), train_weaksup=[1])
    with pytest.raises(DataError, match="'a' and 'b' name their classes differently"):
        gather(RunConfig(data=(str(first), str(second))))


def test_class_names_from_a_file(make_splits: Make, tmp_path: Path) -> None:
    """A file of names takes the place of the data's own."""
    (tmp_path / "names.txt").write_text("n00000001 tabby, tabby cat\nn00000002 crane\n")
    root = make_splits(train_weaksup=[0, 1])
    material = gather(RunConfig(data=(str(root),), class_names=str(tmp_path / "names.txt")))
    assert material.class_names == ("tabby", "crane")


def test_without_names_the_largest_label_counts(make_splits: Make) -> None:
    """There are as many classes as labels up to the largest."""
    assert gather(RunConfig(data=(str(make_splits(classes=(), train_weaksup=[0, 1])),))).num_classes == 2


def test_no_data() -> None:
    """Without data the message says how to name some."""
    with pytest.raises(ConfigError, match=r"no data to train on; give --data .*fam data list"):
        gather(RunConfig())


def test_a_split_that_is_not_there(make_splits: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown dataset, a split to train on and a split to select by are each named with what there is."""
    monkeypatch.setenv("FAM_DATA", str(tmp_path / "nothing"))
    data = (str(make_splits(train_weaksup=[0, 1])),)
    with pytest.raises(UnknownNameError, match="unknown dataset 'nope'"):
        gather(RunConfig(data=("nope",)))
    with pytest.raises(DataError, match="has no split 'train-fullsup'"):
        gather(RunConfig(data=data, split="train-fullsup"))
    with pytest.raises(DataError, match="'train-fullsup' to select by .*train-weaksup.* use select=loss"):
        gather(RunConfig(data=data, select="train-fullsup"))


def test_the_digest_changes_with_the_data(make_splits: Make) -> None:
    """Another image, another order and another label are other data; boxes do not matter to a training."""
    digests = [
        gather(RunConfig(data=(str(make_splits(name, train_weaksup=part)),))).digest()
        for name, part in (("a", [0, 1, 2]), ("b", [0, 1, 2]), ("c", [0, 2, 1]), ("d", [0, 1, 3]))
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_train_fullsup_without_boxes_judges_nothing(make_splits: Make) -> None:
    """Where no image of train-fullsup has a box, the loss decides."""
    root = make_splits(train_weaksup=[0, 1], train_fullsup=[2, 3])
    (root / "metadata" / FULLSUP / "localization.txt").write_text("")
    material = gather(RunConfig(data=(str(root),)))
    assert (material.select, list(material.judged)) == (BY_LOSS, [])


def test_paths_are_anchored(make_splits: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths become absolute; names of datasets and of weights stay names."""
    root = make_splits(train_weaksup=[0, 1])
    monkeypatch.chdir(root.parent)
    config = anchored(RunConfig(data=(root.name, "cub"), class_names="names.txt"))
    assert config.data == (str(root), "cub")
    assert (config.backbone_weights, config.class_names) == ("imagenet", str(root.parent / "names.txt"))


def test_images_without_labels(make_splits: Make, labelled: list[Sample], tmp_path: Path) -> None:
    """Any folder of images will do, a dataset gives its training split, and no image is there twice."""
    root = make_splits(**ALL)
    photos = tmp_path / "photos"
    shutil.copytree(labelled[0].path.parent, photos)
    material = gather(RunConfig(data=(str(root),), unlabelled=(str(photos),)))
    assert [sample.name for sample in material.unlabelled] == [sample.name for sample in labelled]
    assert material.unlabelled_names == ("photos",)
    assert material.digest() != gather(RunConfig(data=(str(root),))).digest()
    assert gather(RunConfig(data=(str(root),), unlabelled=(str(root),))).unlabelled == []


def test_names_of_teachers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A packaged name comes first, as everywhere; a folder becomes absolute, so that a run resumes from anywhere."""
    monkeypatch.chdir(tmp_path)
    for name in ("fam-mobilenetv1-ilsvrc", "run"):
        (tmp_path / name).mkdir()
    teachers = [anchored(RunConfig(teacher=name)).teacher for name in ("fam-mobilenetv1-ilsvrc", "run", "org/name", "")]
    assert teachers == ["fam-mobilenetv1-ilsvrc", str(tmp_path / "run"), "org/name", ""]

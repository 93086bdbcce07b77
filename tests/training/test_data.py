"""The images of a run: training, validation and unlabelled ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from famcli.data.sample import FULLSUP, NO_BOXES, Sample
from famcli.training.data import BY_LOSS, HELD_OUT, TrainingData, absolute_paths, hold_out, open_data
from famcli.training.recipe import RunConfig
from famcli_models.errors import ConfigError, DataError, UnknownNameError

Make = Callable[..., Path]
ALL = {"train_weaksup": [0, 1, 2, 3], "train_fullsup": [4, 5], "test": [6, 7]}


def opened(*roots: Path, **fields: Any) -> TrainingData:
    return open_data(RunConfig(data=tuple(map(str, roots)), **fields))


def names(samples: Any) -> list[str]:
    return [sample.name for sample in samples]


def test_the_splits_of_the_paper(make_splits: Make) -> None:
    """Training is on train-weaksup without boxes, validation on those images of train-fullsup that have them."""
    root = make_splits(**ALL)
    data = opened(root)
    assert names(data.samples) == ["0.png", "1.png", "2.png", "3.png"]
    assert not any(len(sample.boxes) for sample in data.samples)
    assert names(data.validation) == ["4.png", "5.png"]
    assert all(len(sample.boxes) == 1 for sample in data.validation)
    assert (data.select, data.on_test, data.names) == (FULLSUP, False, ("tiny",))
    assert (data.class_names, data.num_classes) == (("red", "green"), 2)
    for split, select in (("train", "val"), ("TRAIN", "Validation"), ("train-weaksup", "train-fullsup")):
        other = opened(root, split=split, select=select)
        assert (len(other.samples), len(other.validation), other.select) == (4, 2, FULLSUP)
    boxes = root / "metadata" / FULLSUP / "localization.txt"
    boxes.write_text(boxes.read_text().splitlines()[0] + "\n")
    data = opened(root)
    assert names(data.validation) == ["4.png"]
    assert data.remarks == ("1 images of train-fullsup have no box to validate by",)


@pytest.mark.parametrize("case", ["no boxes", "no such split", "loss"])
def test_without_boxes_the_loss_decides(make_splits: Make, case: str) -> None:
    """Without train-fullsup, or by request, there is no validation set; without boxes it has labels alone."""
    root = make_splits(**({"train_weaksup": [0, 1], "test": [6]} if case == "no such split" else ALL))
    if case == "no boxes":
        (root / "metadata" / FULLSUP / "localization.txt").write_text("")
    data = opened(root, select="loss" if case == "loss" else "auto")
    assert (data.select, data.on_test) == (HELD_OUT if case == "no boxes" else BY_LOSS, False)
    assert names(data.validation) == (["4.png", "5.png"] if case == "no boxes" else [])


@pytest.mark.parametrize("fields", [{"split": "test"}, {"select": "test"}, {"select": "TESTING"}])
def test_the_test_split_must_be_meant(make_splits: Make, fields: dict[str, str]) -> None:
    """Training on the test split or selecting by it needs saying so, and is known ever after."""
    root = make_splits(**ALL)
    with pytest.raises(ConfigError, match="--i-know-this-is-test"):
        opened(root, **fields)
    data = opened(root, i_know_this_is_test=True, **fields)
    assert data.on_test
    assert names(data.samples if "split" in fields else data.validation) == ["6.png", "7.png"]
    assert not opened(root, i_know_this_is_test=True).on_test


def test_several_datasets_are_joined(make_splits: Make) -> None:
    """Samples follow each other in the order the datasets are named in; those with boxes validate."""
    first = make_splits("a", train_weaksup=[0, 1])
    data = opened(first, make_splits("b", classes=(), train_weaksup=[2, 3], train_fullsup=[4]))
    assert names(data.samples) == ["0.png", "1.png", "2.png", "3.png"]
    assert names(data.validation) == ["4.png"]
    assert (data.names, data.class_names) == (("a", "b"), ("red", "green"))
    assert data.remarks == ("b: its 2 classes go by number, as 'a' names them",)
    with pytest.raises(DataError, match="'d' has no class names, and 1 classes to the 2 of 'a'"):
        opened(first, make_splits("d", classes=(), train_weaksup=[2]))


def test_classes_of_several_datasets(make_splits: Make) -> None:
    """They go by name, whatever the order, and labels are those of the first; other names are refused."""
    first = make_splits("a", train_weaksup=[0, 1])
    data = opened(first, make_splits("c", classes=("Green", "RED"), train_weaksup=[2, 3], train_fullsup=[4]))
    assert [sample.label for sample in [*data.samples, *data.validation]] == [0, 1, 1, 0, 1]
    assert data.remarks == ("c and a: 2 of 2 classes matched by name",)
    with pytest.raises(DataError, match=r"'a' and 'e' name their classes differently \(blue\)"):
        opened(first, make_splits("e", classes=("green", "blue"), train_weaksup=[1]))


def test_class_names(make_splits: Make, tmp_path: Path) -> None:
    """A file of names takes the place of the data's own, else labels are counted; what is not there is named."""
    (tmp_path / "names.txt").write_text("n00000001 tabby, tabby cat\nn00000002 crane\n")
    data = opened(make_splits("a", train_weaksup=[0, 1]), class_names=str(tmp_path / "names.txt"))
    assert data.class_names == ("tabby", "crane")
    (tmp_path / "names.txt").write_text("green\nred\n")
    with pytest.raises(ConfigError, match="calls label 0 'green', which the data call label 1"):
        opened(make_splits("d", train_weaksup=[0, 1]), class_names=str(tmp_path / "names.txt"))
    assert opened(make_splits("b", classes=(), train_weaksup=[0, 1])).num_classes == 2
    root = make_splits(train_weaksup=[0, 1])
    with pytest.raises(ConfigError, match=r"no data to train on; give --data .*fam data list"):
        opened()
    with pytest.raises(UnknownNameError, match="unknown dataset 'nope'"):
        opened(Path("nope"))
    with pytest.raises(DataError, match="has no split 'train-fullsup'"):
        opened(root, split="train-fullsup")
    with pytest.raises(DataError, match="'train-fullsup' to select by .*train-weaksup.* use select=loss"):
        opened(root, select="train-fullsup")


def test_the_digest_changes_with_the_data(make_splits: Make, labelled: list[Sample], tmp_path: Path) -> None:
    """Other images, orders, labels are other data; any folder has unlabelled images, and no image is there twice."""
    parts = (("a", [0, 1, 2]), ("b", [0, 1, 2]), ("c", [0, 2, 1]), ("d", [0, 1, 3]))
    digests = [opened(make_splits(name, train_weaksup=part)).digest() for name, part in parts]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    root = make_splits(**ALL)
    shutil.copytree(labelled[0].path.parent, tmp_path / "photos")
    data = opened(root, unlabelled=(str(tmp_path / "photos"),))
    assert names(data.unlabelled) == names(labelled)
    assert data.unlabelled_names == ("photos",)
    assert data.digest() != opened(root).digest()
    assert opened(root, unlabelled=(str(root),)).unlabelled == []


def test_paths_become_absolute(make_splits: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a run resumes from anywhere; names of datasets, weights and packaged models stay names."""
    root = make_splits(train_weaksup=[0, 1])
    monkeypatch.chdir(root.parent)
    config = absolute_paths(RunConfig(data=(root.name, "cub"), class_names="names.txt"))
    assert config.data == (str(root), "cub")
    assert (config.backbone_weights, config.class_names) == ("imagenet", str(root.parent / "names.txt"))
    Path("fam-mobilenetv1-ilsvrc").mkdir()
    found = absolute_paths(RunConfig(teacher=("fam-mobilenetv1-ilsvrc", root.name, "org/name")))
    assert found.teacher == ("fam-mobilenetv1-ilsvrc", str(root), "org/name")


def test_hold_out(make_splits: Make) -> None:
    """A share of each class is kept out of training where no split is for that, the same for a seed."""
    samples = [Sample(f"{i}.png", Path(f"{i}.png"), int(i >= 20), NO_BOXES) for i in range(24)]
    kept, held = hold_out(samples, 0.1, 0)
    assert [sum(s.label == label for s in held) for label in (0, 1)] == [2, 0]  # four are too few
    assert sorted(names([*kept, *held])) == sorted(names(samples))
    assert names(hold_out(samples, 0.1, 0)[1]) == names(held)
    assert names(hold_out(samples, 0.1, 1)[1]) != names(held)
    assert len(hold_out(samples[:5], 0.01, 0)[1]) == 1
    root = make_splits(train_weaksup=[0, 1, 2, 3])
    data = opened(root, hold_out=0.5)
    assert (len(data.samples), len(data.validation), data.select) == (2, 2, HELD_OUT)
    assert data.remarks == ("2 of 4 images are held out of training to validate by (about 50% of each class)",)
    assert "2 images that are not trained on" in data.selected_by
    assert opened(root, hold_out=0.1).remarks == ("no image is held out of training to validate by: no class has 5",)
    alone = make_splits("alone", ("red",), train_weaksup=[0, 2])
    assert opened(alone).remarks == ("there is one class: the model will call whatever it finds 'red'",)
    for fields in ({"hold_out": 0.5, "select": "loss"}, {}):
        assert (len(opened(root, **fields).samples), opened(root, **fields).select) == (4, BY_LOSS)

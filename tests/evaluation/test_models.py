"""The model under test and its baseline, and where they came from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from famcli.data.dataset import Dataset
from famcli.data.sample import NO_BOXES, Sample
from famcli.evaluation.models import find_models, match_classes, source
from famcli_models.errors import DataError, UnknownNameError
from famcli_models.files import sha256_file
from famcli_models.methods.cam import CAM

Make = Callable[..., Any]


def test_a_model_of_a_trained_classifier(checkpoint: Path) -> None:
    """It is alone, what is said tells how to get a baseline, and the facts are those of the checkpoint."""
    said: list[str] = []
    models = find_models(str(checkpoint), say=said.append)
    assert [(model.title, model.name) for model in models] == [("FAM", str(checkpoint))]
    assert "fam train --method cam" in said[-1]
    facts = source(models)
    assert facts["weights_sha256"] == sha256_file(checkpoint / "model.safetensors")
    assert (facts["method"], facts["backbone"], facts["input_size"]) == ("FAM", "test_efficientnet", 64)
    assert (facts["seed"], facts["tuned_on_test"], facts["revision"], facts["baseline"]) == (None, False, None, None)


def test_the_baseline_of_its_own_features(tmp_path: Path, make_model: Make) -> None:
    """With the backbone's own classifier the CAM shares the features, and can be measured alone."""
    model = make_model(classifier="frozen")
    model.provenance |= {"classifier": "pretrained", "seed": 3, "tuned_on_test": True}
    folder = tmp_path / "snapshots" / "abc"
    model.save_pretrained(folder)
    both, alone = find_models(folder), find_models(folder, "cam")
    assert [model.title for model in both] == ["FAM", "CAM"]
    assert both[0].engine.trunk is both[1].engine.trunk
    assert ([model.title for model in alone], source(alone)["method"]) == (["CAM"], "CAM")
    facts = source(both)
    assert (facts["seed"], facts["tuned_on_test"], facts["revision"], facts["baseline"]) == (3, True, "abc", None)


def test_another_model_as_baseline(tmp_path: Path, checkpoint: Path, make_model: Make) -> None:
    """It may be of any method, that of the model under test too."""
    cam = make_model(method="cam", num_classes=3)
    cam.save_pretrained(tmp_path / "cam")
    models = find_models(checkpoint, baseline=tmp_path / "cam")
    assert [model.title for model in models] == ["FAM", "CAM"]
    facts = source(models)
    assert (facts["baseline"], facts["baseline_tuned_on_test"]) == (str(tmp_path / "cam"), False)
    assert facts["baseline_weights_sha256"] == sha256_file(tmp_path / "cam" / "model.safetensors")
    same = find_models(tmp_path / "cam", baseline=tmp_path / "cam")
    assert [model.title for model in same] == ["CAM", "CAM (baseline)"]


def test_models_in_memory(make_model: Make) -> None:
    """A model is taken as it is, and so is its baseline; the result has no hash of weights."""
    fam, cam = make_model(), make_model(method="cam")
    models = find_models(fam, baseline=cam)
    assert [model.engine.model for model in models] == [fam, cam]
    assert (source(models)["name"], source(models)["weights_sha256"]) == ("FAM", None)
    assert isinstance(find_models(cam, "cam")[0].engine.model, CAM)
    with pytest.raises(UnknownNameError, match="unknown method 'cma'"):
        find_models(fam, "cma")


def dataset(labels: list[int], *names: str) -> Dataset:
    samples = [Sample(f"{i}.png", Path(f"{i}.png"), label, NO_BOXES) for i, label in enumerate(labels)]
    return Dataset("mine", Path(), Path(), names, held={"test": samples})


def matched(models: list[Any], data: Dataset) -> tuple[list[Any], list[str]]:
    """The class of each model by label, and what was said."""
    said: list[str] = []
    labels = {sample.label for sample in data.samples("test")}
    return [model.classes for model in match_classes(models, data, labels, said.append)], said


def test_classes_by_name(make_model: Make) -> None:
    """Labels become classes of each model, whose order may be another; of a class without an image nothing is asked."""
    fam, cam = make_model(), make_model(method="cam")
    cam.class_names = cam.class_names[::-1]
    classes, said = matched(find_models(fam, baseline=cam), dataset([0, 1, 1], "Rocket", "cat", "wing"))
    assert classes == [{0: 3, 1: 0}, {0: 1, 1: 4}]
    assert said == [
        f"mine and {title}: 2 of 3 classes matched by name; no image is of the others" for title in ("FAM", "CAM")
    ]


@pytest.mark.parametrize(
    ("labels", "names", "words"),
    [
        ([0, 1], ("cat", "spatula"), "1 of 2 classes of 'mine' are none of FAM: spatula; .* --other-classes"),
        ([0, 1, 2, 3], (), "no class names, and labels up to 3: its 4 classes .* which are 5; .* --other-classes"),
        ([0, 1, 2, 3, 7], (), "no class names, and labels up to 7: its 8 classes"),
        ([0], ("001", "002"), "1 of 1 classes of 'mine' are none of FAM: 001"),
        ([0, 7], ("cat", "dog"), "number 7, which has no name"),
    ],
)
def test_classes_of_others(make_model: Make, labels: list[int], names: tuple[str, ...], words: str) -> None:
    """Other names are refused, and without names another number; what to do is said."""
    with pytest.raises(DataError, match=words):
        matched(find_models(make_model()), dataset(labels, *names))


def test_classes_by_number(make_model: Make) -> None:
    """Without names as many classes are those of the model, and a baseline has to know them by their names."""
    fam, cam = make_model(), make_model(method="cam")
    cam.class_names = cam.class_names[::-1]
    classes, said = matched(find_models(fam, baseline=cam), dataset([4, 0, 1]))
    assert classes == [{i: i for i in range(5)}, {i: 4 - i for i in range(5)}]
    assert said[0] == "mine and FAM: 5 classes go by number"
    assert matched(find_models(fam), dataset([0], "1", "2", "3", "4", "5"))[1] == said[:1]

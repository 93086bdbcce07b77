"""The model under test and its baseline, and where they came from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from famcli.evaluation.models import find_models, source
from famcli_models.errors import ConfigError, UnknownNameError
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
    """It may be of any method, that of the model under test too; its classes have to be the same where they count."""
    cam = make_model(method="cam", num_classes=3)
    cam.save_pretrained(tmp_path / "cam")
    with pytest.raises(ConfigError, match="knows other classes"):
        find_models(checkpoint, baseline=tmp_path / "cam")
    models = find_models(checkpoint, baseline=tmp_path / "cam", same_classes=False)
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

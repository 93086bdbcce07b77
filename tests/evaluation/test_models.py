"""What is measured, and where it came from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from famcli.evaluation.models import Contender
from famcli_models.errors import ConfigError
from famcli_models.files import sha256_file
from famcli_models.methods.cam import CAM


def test_a_fam_of_a_trained_classifier(checkpoint: Path) -> None:
    """It is measured without a CAM, the remark says how to get one, and the facts are those of the checkpoint."""
    found = Contender.find(str(checkpoint))
    assert found.networks.cam is None
    assert found.remark is not None
    assert "fam train --method cam" in found.remark
    facts = found.facts()
    assert facts["weights_sha256"] == sha256_file(checkpoint / "model.safetensors")
    assert (facts["method"], facts["backbone"], facts["input_size"]) == ("FAM", "test_efficientnet", 64)
    assert (facts["seed"], facts["tuned_on_test"], facts["revision"]) == (None, False, None)


def test_the_cam_of_a_fam(tmp_path: Path, make_model: Callable[..., Any]) -> None:
    """With the backbone's own classifier the CAM shares the features, and can be measured alone."""
    model = make_model(classifier="frozen")
    model.provenance |= {"classifier": "pretrained", "seed": 3, "tuned_on_test": True}
    folder = tmp_path / "snapshots" / "abc"
    model.save_pretrained(folder)
    both, alone = Contender.find(str(folder)), Contender.find(str(folder), "cam")
    assert both.networks.sharing
    assert (alone.networks.fam, alone.facts()["method"]) == (None, "CAM")
    assert (both.facts()["seed"], both.facts()["tuned_on_test"], both.facts()["revision"]) == (3, True, "abc")


def test_a_rival_of_other_classes(tmp_path: Path, checkpoint: Path, make_model: Callable[..., Any]) -> None:
    """A CAM that knows other classes is refused, unless classes are not asked for; a CAM needs no rival."""
    rival = make_model(method="cam", num_classes=3)
    assert isinstance(rival, CAM)
    rival.save_pretrained(tmp_path / "rival")
    with pytest.raises(ConfigError, match="knows other classes"):
        Contender.find(str(checkpoint), cam=str(tmp_path / "rival"))
    found = Contender.find(str(checkpoint), cam=str(tmp_path / "rival"), same_classes=False)
    assert found.facts()["cam"] == str(tmp_path / "rival")
    with pytest.raises(ConfigError, match="leave it out"):
        Contender.find(str(tmp_path / "rival"), cam=str(tmp_path / "rival"))

"""load_model: a checkpoint of whichever method."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from famcli_models import CAM, FAM, load_model
from famcli_models.checkpoint import CONFIG_FILE
from famcli_models.errors import ConfigError, UnknownNameError, WeightsError
from famcli_models.methods import METHODS

Make = Callable[..., Any]


@pytest.fixture
def cam_checkpoint(make_model: Make, tmp_path: Path) -> Path:
    """Folder of a tiny CAM."""
    make_model(method="cam").save_pretrained(tmp_path / "cam")
    return tmp_path / "cam"


def test_one_list_of_methods() -> None:
    """Each method knows its own name and makes a default config of that name."""
    assert all(kind.name() == kind.config_class().method == name for name, kind in METHODS.items())  # type: ignore[call-arg]


def test_a_checkpoint_is_of_its_own_method(checkpoint: Path, cam_checkpoint: Path) -> None:
    """Without a method the config decides; a config without the field, as older ones are, is of a FAM."""
    assert type(load_model(cam_checkpoint)) is type(load_model(cam_checkpoint, "cam")) is CAM
    assert type(load_model(checkpoint)) is type(load_model(checkpoint, "fam")) is FAM


def test_an_older_checkpoint_is_a_fam(make_model: Make, tmp_path: Path) -> None:
    """Checkpoints from before there were methods load as they did."""
    make_model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / CONFIG_FILE).read_text())
    del config["model"]["method"]
    (tmp_path / CONFIG_FILE).write_text(json.dumps(config))
    assert type(load_model(tmp_path)) is FAM


def test_the_cam_of_the_packaged_model() -> None:
    """The packaged FAM kept the backbone's classifier, so it has a CAM, at 0.2."""
    cam = load_model("fam-mobilenetv1-ilsvrc", "cam")
    assert type(cam) is CAM
    assert (cam.config.tau, cam.config.num_classes, cam.training) == (0.2, 1000, False)


def test_what_cannot_be(checkpoint: Path, cam_checkpoint: Path) -> None:
    """A CAM has no foreground map of FAM, a FAM with a classifier of its own has no CAM, and there is no third."""
    with pytest.raises(ConfigError, match="a CAM has no map of FAM; leave out --method fam"):
        load_model(cam_checkpoint, "fam")
    with pytest.raises(ConfigError, match="fam train --method cam"):
        load_model(checkpoint, "cam")
    with pytest.raises(UnknownNameError, match="unknown method 'gradcam'"):
        load_model(checkpoint, "gradcam")
    with pytest.raises(UnknownNameError, match="unknown model 'nowhere'"):
        load_model("nowhere")


@pytest.mark.parametrize(
    ("model", "error"), [([], WeightsError), ({"method": []}, ConfigError), ({"method": "x"}, ConfigError)]
)
def test_damaged_configs_are_refused(cam_checkpoint: Path, model: object, error: type[Exception]) -> None:
    """A config that is no object, or of a method that is none, is one error and no traceback of another kind."""
    config = json.loads((cam_checkpoint / CONFIG_FILE).read_text())
    (cam_checkpoint / CONFIG_FILE).write_text(json.dumps({**config, "model": model}))
    with pytest.raises(error):
        load_model(cam_checkpoint)

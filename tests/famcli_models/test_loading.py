"""A checkpoint of whichever method: which one it is, and whether its config and weights belong together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from famcli_models import CAM, FAM, load_model
from famcli_models.checkpoint import CONFIG_FILE, WEIGHTS_FILE
from famcli_models.errors import ConfigError, FamError, UnknownNameError, WeightsError
from famcli_models.loading import check_checkpoint

Make = Callable[..., Any]


@pytest.fixture
def cam_checkpoint(make_model: Make, tmp_path: Path) -> Path:
    """Folder of a tiny CAM."""
    make_model(method="cam").save_pretrained(tmp_path / "cam")
    return tmp_path / "cam"


def test_a_checkpoint_is_of_its_own_method(folder: Path, cam_checkpoint: Path) -> None:
    """Without a method the config decides; a config without the field, as older ones are, is of a FAM."""
    assert type(load_model(cam_checkpoint)) is type(load_model(cam_checkpoint, "cam")) is CAM
    assert type(load_model(folder)) is type(load_model(folder, "fam")) is FAM
    config = json.loads((folder / CONFIG_FILE).read_text())
    del config["model"]["method"]
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    assert type(load_model(folder)) is FAM


def test_the_cam_of_the_packaged_model() -> None:
    """The packaged FAM kept the backbone's classifier, so it has a CAM, at 0.2."""
    cam = load_model("fam-mobilenetv1-ilsvrc", "cam")
    assert type(cam) is CAM
    assert (cam.config.tau, cam.config.num_classes, cam.training) == (0.2, 1000, False)


def test_what_cannot_be(checkpoint: Path, cam_checkpoint: Path) -> None:
    """No method or class reads what is not its own, and each message says what to do instead."""
    with pytest.raises(ConfigError, match="a CAM has no map of FAM; leave out --method fam"):
        load_model(cam_checkpoint, "fam")
    with pytest.raises(ConfigError, match="fam train --method cam"):
        load_model(checkpoint, "cam")
    with pytest.raises(UnknownNameError, match="unknown method 'gradcam'"):
        load_model(checkpoint, "gradcam")
    with pytest.raises(UnknownNameError, match="unknown model 'nowhere'"):
        load_model("nowhere")
    with pytest.raises(WeightsError, match=r"a checkpoint of 'cam', not of 'fam'; .*load_model reads it"):
        FAM.from_pretrained(cam_checkpoint)
    with pytest.raises(WeightsError, match=r"a checkpoint of 'fam', not of 'cam'; .*load_model reads it"):
        CAM.from_pretrained(checkpoint)


def test_good_checkpoints_pass(make_model: Make, checkpoint: Path, cam_checkpoint: Path, tmp_path: Path) -> None:
    """What ``save_pretrained`` writes passes, of every method and in both precisions."""
    make_model().save_pretrained(tmp_path / "half", half=True)
    for path in (checkpoint, cam_checkpoint, tmp_path / "half"):
        assert check_checkpoint(path).num_classes == 5


APART = "do not belong together"
SHAPE = "needs 'model' and 'provenance'"
CONFIGS: dict[str, tuple[dict[str, Any], type[FamError], str]] = {
    "version": ({"format_version": 2}, WeightsError, "has format_version 2; this version of fam reads 1"),
    "long version": ({"format_version": "1" * 10**6}, WeightsError, "format_version"),
    "top field": ({"auto_map": {}}, WeightsError, "unknown fields: 'auto_map'"),
    "long top field": ({"\x1b" * 10**5: 1}, WeightsError, "unknown fields"),
    "no model": ({"model": None}, WeightsError, SHAPE),
    "model": ({"model": []}, WeightsError, SHAPE),
    "names": ({"class_names": "cat"}, WeightsError, SHAPE),
    "numbers": ({"class_names": [1, 2, 3, 4, 5]}, WeightsError, SHAPE),
    "provenance": ({"provenance": "made by me"}, WeightsError, SHAPE),
    "provenances": ({"provenance": ["made", "by", "me"]}, WeightsError, SHAPE),
    "few names": ({"class_names": ["a"]}, ConfigError, "1 class names for 5 classes"),
    "no method": ({"model": {"method": "x"}}, ConfigError, "method is 'x'; it must be one of fam, cam"),
    "listed method": ({"model": {"method": []}}, ConfigError, "must be one of fam, cam"),
    "other method": ({"model": {"method": "cam"}}, ConfigError, "unknown field .* in a CAMConfig"),
    "field": ({"model": {"heads": 1}}, ConfigError, "unknown field 'heads'"),
    "long field": ({"model": {"x" * 10**6: 1}}, ConfigError, "unknown field"),
    "many fields": ({"model": dict.fromkeys("abcde", 1)}, ConfigError, "'c' and 2 more in"),
    "range": ({"model": {"num_parts": 10**9}}, ConfigError, r"num_parts is 1000000000; it must be in"),
    "digits": ({"model": {"lambda_spa": int("9" * 4000)}}, ConfigError, "lambda_spa"),
    "beyond floats": ({"model": {"lambda_spa": 10**400}}, ConfigError, "must be a finite number"),
    "mean beyond floats": ({"model": {"mean": [10**400, 0, 0]}}, ConfigError, "three finite numbers"),
    "list": ({"model": {"tau": [[[0] * 100] * 100] * 100}}, ConfigError, "tau"),
    "network": ({"model": {"backbone": "no-such"}}, UnknownNameError, "unknown backbone 'no-such'"),
    "network elsewhere": ({"model": {"backbone": "hf-hub:a/b"}}, UnknownNameError, "unknown backbone"),
    "long network": ({"model": {"backbone": "\x1b[31m" * 10**5}}, UnknownNameError, "unknown backbone"),
    "backbone": ({"model": {"backbone": "test_resnet"}}, WeightsError, APART),
    "parts": ({"model": {"num_parts": 4}}, WeightsError, f"{APART}: .*part_attention"),
    "memory": ({"model": {"memory": False}}, WeightsError, APART),
    "importance": ({"model": {"importance": False}}, WeightsError, f"{APART}: .*importance"),
    "bias": ({"model": {"value_bias": True}}, WeightsError, f"{APART}: .*object_attention.bias"),
}


@pytest.mark.parametrize(("fields", "kind", "message"), CONFIGS.values(), ids=CONFIGS)
def test_bad_configs_are_refused(
    folder: Path, change: Callable[..., None], fields: dict[str, Any], kind: type[FamError], message: str
) -> None:
    """Loading and checking refuse a wrong config in a short line that can be printed, and name what is wrong."""
    change(**fields)
    for read in (load_model, check_checkpoint):
        with pytest.raises(kind, match=message) as error:
            read(folder)
        assert len(str(error.value).replace(str(folder), "")) < 700
        assert str(error.value).isprintable()


def test_huge_networks_cost_nothing(folder: Path, change: Callable[..., None]) -> None:
    """A config that asks for the largest of everything is refused by shapes, not by memory."""
    change(class_names=["x"] * 100_000, model={"num_classes": 100_000, "backbone": "vgg16", "num_parts": 256})
    with pytest.raises(WeightsError, match=APART):
        check_checkpoint(folder)


def test_missing_surplus_and_mistyped_tensors(folder: Path) -> None:
    """A tensor too few or too many is named, and so is a counter in place of a number."""
    tensors = load_file(folder / WEIGHTS_FILE)
    few = {name: tensor for name, tensor in tensors.items() if name != "classifier.bias"}
    for wrong, first in ((few, "classifier.bias"), (tensors | {"extra": torch.zeros(1)}, "extra")):
        save_file(wrong, folder / WEIGHTS_FILE)
        with pytest.raises(WeightsError, match=f"{APART}: {first} is "):
            load_model(folder)
        with pytest.raises(WeightsError, match=f"{APART}: {first} is (missing|no tensor of the model)"):
            check_checkpoint(folder)
    save_file(tensors | {"classifier.bias": torch.zeros(5, dtype=torch.int64)}, folder / WEIGHTS_FILE)
    with pytest.raises(WeightsError, match=r"classifier\.bias is I64"):
        check_checkpoint(folder)

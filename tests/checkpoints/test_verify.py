"""A checkpoint is what it says it is, or it is said what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from famcli.checkpoints import reference as golden
from famcli.checkpoints.verify import inspect, verify_checkpoint
from famcli_models import FAM, packaged
from famcli_models.checkpoint import DEFAULT_MODEL


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint with its golden prediction, that a test may damage."""
    copy = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    golden.record(copy)
    return copy


def edit_config(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change config.json."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    edit(config)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def edit_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change model.safetensors."""
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_the_packaged_model() -> None:
    """The packaged model has the hash that config and card state, and predicts what it predicted when it was made."""
    report = inspect(packaged()[DEFAULT_MODEL])
    assert report.problems == []
    assert [check.good for check in report.checks] == [True, True, True]
    assert report.sha256.startswith("0c9de72953022a40")
    assert "config.json and README.md state; settings and class names as recorded" in report.checks[1].detail
    assert report.map_difference is not None
    assert report.map_difference < 1e-3
    card = (packaged()[DEFAULT_MODEL] / "README.md").read_text(encoding="utf-8")
    provenance = FAM.from_pretrained(DEFAULT_MODEL).provenance
    assert f"`{provenance['golden']['digest']}`" in card


def test_good(folder: Path) -> None:
    """A recorded checkpoint has no problems, on any number of threads."""
    assert verify_checkpoint(folder) == []
    torch.set_num_threads(2)
    try:
        assert verify_checkpoint(folder) == []
    finally:
        torch.set_num_threads(1)


def test_nothing_stored(checkpoint: Path) -> None:
    """A checkpoint without a golden prediction or a stated hash is not wrong; the report says how to store them."""
    report = inspect(checkpoint)
    assert report.problems == []
    assert [check.good for check in report.checks] == [True, None, None]
    assert f"fam verify {checkpoint} --record" in report.checks[2].detail


def test_other_weights(folder: Path) -> None:
    """Weights that were changed have another hash and another prediction; both are said, and the way out."""
    edit_weights(folder, lambda t: t["object_attention.values"].mul_(-1))
    hashes, prediction = verify_checkpoint(folder)
    assert "config.json states" in hashes
    assert "fam verify --record" in hashes
    assert "M differs by" in prediction


def test_one_bit(folder: Path) -> None:
    """A single changed number that does not change the prediction is found by the hash."""
    edit_weights(folder, lambda t: t["classifier.bias"].add_(1e-6))
    (problem,) = verify_checkpoint(folder)
    assert "SHA-256" in problem


def test_other_settings(folder: Path) -> None:
    """A setting that changes what the weights mean is found by the prediction."""
    edit_config(folder, lambda c: c["model"].update(mean=[0.1, 0.2, 0.3]))
    assert any("M differs by" in problem for problem in verify_checkpoint(folder))


@pytest.mark.parametrize(
    "edit",
    [
        lambda c: c["model"].update(tau=0.9),
        lambda c: c["class_names"].reverse(),
        lambda c: c["model"].pop("lambda_spa"),
    ],
    ids=["tau", "names", "gone"],
)
def test_settings_that_no_prediction_shows(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """A changed threshold, names that changed places or a field that is gone are found by the hash of the config."""
    edit_config(folder, edit)
    (problem,) = verify_checkpoint(folder)
    assert "settings or class names in config.json are not those that were recorded" in problem
    assert "fam verify --record" in problem
    golden.record(folder)
    assert verify_checkpoint(folder) == []


def test_older_records(folder: Path) -> None:
    """A golden prediction without the config's hash is good, and it is said that the settings were not compared."""
    edit_config(folder, lambda c: c["provenance"]["golden"].pop("config_sha256"))
    edit_config(folder, lambda c: c["model"].update(tau=0.9))
    report = inspect(folder)
    assert report.problems == []
    assert "were not compared" in report.checks[1].detail


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_finite(folder: Path, value: float) -> None:
    """A weight that is not finite is named."""
    edit_weights(folder, lambda t: t["classifier.weight"].__setitem__((0, 0), value))
    assert "first classifier.weight" in verify_checkpoint(folder)[0]


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: (f / "model.safetensors").unlink(),
        lambda f: (f / "model.safetensors").write_bytes(b"\0" * 100),
        lambda f: (f / "config.json").write_text("{"),
        lambda f: edit_config(f, lambda c: c["model"].update(num_parts=7)),
        lambda f: edit_config(f, lambda c: c["class_names"].pop()),
        lambda f: edit_weights(f, lambda t: t.pop("classifier.bias")),
        lambda f: edit_weights(f, lambda t: t.update({"classifier.bias": t["classifier.bias"].double()})),
        shutil.rmtree,
    ],
    ids=["no weights", "no safetensors", "no JSON", "shape", "class names", "missing tensor", "type", "no folder"],
)
def test_damaged(folder: Path, damage: Callable[[Path], object]) -> None:
    """What cannot be loaded is one problem in one sentence, and no exception."""
    damage(folder)
    (problem,) = verify_checkpoint(folder)
    assert len(problem) > 20
    assert "\n" not in problem.strip()


def test_the_card_is_read(folder: Path) -> None:
    """A hash in the card must be that of the weights."""
    card, sha256 = folder / "README.md", inspect(folder).sha256
    card.write_text(f"# tiny\n\n`model.safetensors`, 0.3 MB, SHA-256 `{sha256}`\n", encoding="utf-8")
    assert verify_checkpoint(folder) == []
    card.write_text(card.read_text().replace(sha256, "0" * 64), encoding="utf-8")
    (problem,) = verify_checkpoint(folder)
    assert f"README.md states {'0' * 64}" in problem


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda k: k.update(version=9), "version 9"),
        (lambda k: k.update(digest="0"), "was changed"),
        (lambda k: k.update(pictures_sha256="0"), "drawn otherwise"),
        (lambda k: k.pop("weights_sha256"), "config.json states None"),
    ],
)
def test_damaged_golden(folder: Path, edit: Callable[[dict[str, Any]], object], words: str) -> None:
    """A golden prediction that cannot be used is a problem."""
    edit_config(folder, lambda c: edit(c["provenance"]["golden"]))
    (problem,) = verify_checkpoint(folder)
    assert words in problem

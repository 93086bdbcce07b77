"""A checkpoint is what its files state, or there is a sentence for what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from famcli.checkpoints.reference import record
from famcli.checkpoints.verify import inspect, verify_checkpoint
from famcli_models import FAM, packaged


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint with its reference outputs, that a test may damage."""
    copy = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    record(copy)
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


@pytest.mark.parametrize("name", packaged())
def test_the_packaged_models(name: str) -> None:
    """Each has the hash that config and card state, and gives what it gave when it was made."""
    report, card = inspect(packaged()[name]), (packaged()[name] / "README.md").read_text(encoding="utf-8")
    assert report.problems == []
    assert [check.good for check in report.checks] == [True] * 4
    assert f"SHA-256 `{report.sha256}`" in card
    assert "config.json and README.md state; settings and class names as recorded" in report.checks[1].detail
    assert report.map_difference is not None
    assert report.map_difference < 1e-3
    assert f"`{FAM.from_pretrained(name).provenance['golden']['digest']}`" in card


def test_good(folder: Path) -> None:
    """A recorded checkpoint has no problems, on any number of threads."""
    assert inspect(folder).checks[2].detail.startswith("the same to the last stored digit, digest ")
    torch.set_num_threads(2)
    try:
        assert verify_checkpoint(folder) == []
    finally:
        torch.set_num_threads(1)


def test_nothing_to_compare_with(checkpoint: Path, folder: Path) -> None:
    """Reference outputs, a hash or the config's hash that nobody stored are not wrong; the report says so."""
    report = inspect(checkpoint)
    assert [check.good for check in report.checks] == [True, None, None, None]
    assert f"fam verify {checkpoint} --record" in report.checks[2].detail
    edit_config(folder, lambda c: c["provenance"]["golden"].pop("config_sha256"))
    edit_config(folder, lambda c: c["model"].update(tau=0.9))
    older = inspect(folder)
    assert "were not compared" in older.checks[1].detail
    assert report.problems == older.problems == []


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda t: t["object_attention.values"].mul_(-1), ["config.json states", "M differs by"]),
        (lambda t: t["classifier.bias"].add_(1e-6), ["has SHA-256"]),  # the outputs do not change
        (lambda t: t["classifier.weight"].__setitem__((0, 0), float("nan")), ["first classifier.weight"]),
        (lambda t: t["classifier.weight"].__setitem__((0, 0), float("inf")), ["first classifier.weight"]),
    ],
    ids=["other weights", "one bit", "NaN", "infinity"],
)
def test_changed_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object], words: list[str]) -> None:
    """Weights that were changed have another hash, and perhaps other outputs or values that are not finite."""
    edit_weights(folder, edit)
    for word, problem in zip(words, verify_checkpoint(folder), strict=True):
        assert word in problem


@pytest.mark.parametrize(
    ("edit", "shows"),
    [
        (lambda c: c["model"].update(mean=[0.1, 0.2, 0.3]), True),
        (lambda c: c["model"].update(tau=0.9), False),
        (lambda c: c["class_names"].reverse(), False),
        (lambda c: c["model"].pop("lambda_spa"), False),
    ],
    ids=["mean", "tau", "names", "gone"],
)
def test_changed_settings(folder: Path, edit: Callable[[dict[str, Any]], object], shows: bool) -> None:
    """Changed settings and class names are found by their hash, also where the outputs do not show them."""
    edit_config(folder, edit)
    settings, *outputs = verify_checkpoint(folder)
    assert "settings or class names in config.json are not those that were recorded" in settings
    assert "fam verify --record" in settings
    assert ["M differs by" in problem for problem in outputs] == [True] * shows
    record(folder)
    assert verify_checkpoint(folder) == []


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


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda k: k.update(version=9), "version 9"),
        (lambda k: k.update(digest="0"), "were changed"),
        (lambda k: k.update(pictures_sha256="0"), "drawn otherwise"),
        (lambda k: k.pop("weights_sha256"), "config.json states None"),
    ],
)
def test_damaged_reference(folder: Path, edit: Callable[[dict[str, Any]], object], words: str) -> None:
    """Reference outputs that cannot be used are a problem."""
    edit_config(folder, lambda c: edit(c["provenance"]["golden"]))
    (problem,) = verify_checkpoint(folder)
    assert words in problem


def test_the_card_is_read(folder: Path) -> None:
    """A hash in the card must be that of the weights."""
    card, sha256 = folder / "README.md", inspect(folder).sha256
    card.write_text(f"# tiny\n\n`model.safetensors`, 0.3 MB, SHA-256 `{sha256}`\n", encoding="utf-8")
    assert verify_checkpoint(folder) == []
    card.write_text(card.read_text().replace(sha256, "0" * 64), encoding="utf-8")
    (problem,) = verify_checkpoint(folder)
    assert f"README.md states {'0' * 64}" in problem

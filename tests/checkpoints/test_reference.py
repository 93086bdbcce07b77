"""Reference outputs: the same images everywhere, rounded outputs, and what counts as a difference."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from famcli.checkpoints.reference import (
    MAP_TOLERANCE,
    STEPS,
    compare,
    config_digest,
    images_digest,
    record,
    reference_images,
    rounded,
    run_engine,
    stored,
)
from famcli.inference.torch_engine import TorchEngine
from famcli_models import FAM
from famcli_models.checkpoint import REFERENCE
from famcli_models.errors import WeightsError
from famcli_models.files import sha256_file

Make = Callable[..., FAM]


@pytest.fixture
def run(make_model: Make) -> Callable[..., Any]:
    """A function that runs a tiny model on the reference images; the arrays may be written to."""

    def run(model: FAM | None = None, **fields: Any) -> list[Any]:
        found = run_engine(TorchEngine(model or make_model(**fields), "cpu", fold=False))
        return [out._replace(cells=out.cells.copy(), logits=out.logits.copy()) for out in found]

    return run


@pytest.mark.parametrize(
    ("size", "digest"),
    [
        (64, "657a103a5e92bca68b37642dabd54fdd55d8f7fdca6196ed0d9eaa683b4cc459"),
        (224, "036dd51821ac2d7e5fef144eabed333ac1420daddff28f31fa099584209a61a7"),
    ],
)
def test_images_are_the_same_everywhere(size: int, digest: str) -> None:
    """The bytes of the drawings are those that were published: a change would make all stored outputs useless."""
    assert images_digest(size) == digest
    images = reference_images(size)
    assert (images.shape, images.dtype) == ((4, size, size, 3), np.uint8)


@pytest.mark.slow
def test_large_images_are_those_of_1024() -> None:
    """Beyond 1024 pixels are repeated, and the largest input takes little memory."""
    base, twice = reference_images(1024), reference_images(2048)
    assert np.array_equal(twice[:, ::2, ::2], base)
    assert np.array_equal(twice[:, 1::2, 1::2], base)
    assert reference_images(1025).shape == (4, 1025, 1025, 3)
    tracemalloc.start()
    assert reference_images(4096).shape == (4, 4096, 4096, 3)
    assert tracemalloc.get_traced_memory()[1] < 600 * 2**20  # 200 MB are the images
    tracemalloc.stop()


def test_config_digest_by_hand() -> None:
    """The digest is of canonical JSON: the order of keys and spaces do not matter, and values and names do."""
    config = {"class_names": ["b", "ä"], "provenance": {"x": 1}, "model": {"tau": 0.5, "size": 64}}
    text = rb'{"class_names":["b","\u00e4"],"model":{"size":64,"tau":0.5}}'
    assert config_digest(config) == hashlib.sha256(text).hexdigest()
    assert config_digest({**config, "class_names": ["ä", "b"]}) != config_digest(config)


def test_record_keeps_everything_else(make_model: Make, tmp_path: Path) -> None:
    """Recording changes one entry of the config's provenance, and not a byte of the weights."""
    model = make_model()
    model.provenance["data"] = "ünïcode"
    model.save_pretrained(tmp_path)
    config, weights = tmp_path / "config.json", sha256_file(tmp_path / "model.safetensors")
    before = json.loads(config.read_text(encoding="utf-8"))
    for _ in range(2):
        kept = record(tmp_path)
        after = json.loads(config.read_text(encoding="utf-8"))
        assert after["provenance"].pop("golden") == kept
        assert after == before
        assert sha256_file(tmp_path / "model.safetensors") == weights == kept["weights_sha256"]
        assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_one_line_a_map(run: Callable[..., Any]) -> None:
    """A map is one string of ten-thousandths, so that a config stays readable; fine maps are averaged to 16 x 16."""
    kept, small = rounded(run(size=320)), run()[0].cells
    assert [len(line.split()) for line in kept["maps"]] == [256] * 4
    assert len(json.dumps(kept)) < 8_000
    assert small.shape == (4, 4)
    assert rounded(run())["maps"][0] == " ".join(str(round(float(value) * STEPS)) for value in small.flat)


def test_the_same_model_agrees(model: FAM, run: Callable[..., Any]) -> None:
    """A model differs from its own reference outputs by the rounding alone, also in another memory layout."""
    kept = rounded(run(model))
    for other in (model, model.to(memory_format=torch.channels_last)):  # type: ignore[call-overload]
        difference, problems = compare(kept, run(other))
        assert problems == []
        assert difference < 1e-4


def test_another_model_does_not(run: Callable[..., Any]) -> None:
    """Other weights show in the maps, and maps of another size are not compared cell by cell."""
    kept = rounded(run())
    difference, problems = compare(kept, run(seed=1))
    assert difference > MAP_TOLERANCE
    assert any("M differs by" in problem for problem in problems)
    assert "another size" in compare(kept, run(size=96))[1][0]


@pytest.mark.parametrize(("shift", "same"), [(0.04, True), (0.06, False), (-0.06, False)])
def test_tolerance_of_maps(run: Callable[..., Any], shift: float, same: bool) -> None:
    """A cell may differ by the stated tolerance and by no more."""
    outputs = run()
    kept = rounded(outputs)
    outputs[2].cells[1, 1] += shift
    difference, problems = compare(kept, outputs)
    assert difference == pytest.approx(abs(shift), abs=1e-4)
    assert same or "reference image 3" in problems[0]
    assert (problems == []) is same


def test_tolerance_of_logits(run: Callable[..., Any]) -> None:
    """A logit that is off, or another class that has come out far ahead, is a difference; a tie that tips is not."""
    outputs = run()
    logits, kept = outputs[0].logits, rounded(outputs)
    best, last = int(logits.argmax()), int(logits.argmin())
    logits[best] += 1
    assert "reference image 1: logits differ by" in compare(kept, outputs)[1][0]
    logits[best] -= 1
    assert compare(kept, outputs)[1] == []
    for name in ("classes", "logits"):  # the best class alone
        kept[name][0] = kept[name][0].split()[0]
    logits[last] = logits.max() + 0.001
    assert compare(kept, outputs)[1] == []
    logits[last] += 1
    assert compare(kept, outputs)[1]


def test_not_finite(model: FAM, run: Callable[..., Any]) -> None:
    """A model that gives NaN has no reference outputs."""
    with torch.no_grad():
        model.classifier.bias[0] = torch.nan
    with pytest.raises(WeightsError, match="not finite"):
        run(model)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda k: k.pop("maps"), "cannot be read"),
        (lambda k: k.update(maps=3), "cannot be read"),
        (lambda k: k.update(maps=["1 2 x"]), "cannot be read"),
        (lambda k: k["classes"].__setitem__(0, "9" * 30), "cannot be read"),
        (lambda k: k["maps"].__setitem__(0, "9" * 60), "out of range"),
        (lambda k: k.update(logits=k["logits"][:2]), "out of range"),
        (lambda k: k["logits"].__setitem__(0, "nan 1 1 1 1"), "out of range"),
        (lambda k: k["logits"].__setitem__(0, "9e300 1 1 1 1"), "out of range"),
        (lambda k: k["maps"].reverse(), "were changed"),
        (lambda k: k.update(digest=None), "were changed"),
    ],
)
def test_damaged(run: Callable[..., Any], edit: Callable[[dict[str, Any]], object], words: str) -> None:
    """Stored outputs that were damaged or edited are refused with the reason."""
    outputs = run()
    kept = rounded(outputs)
    edit(kept)
    with pytest.raises(WeightsError, match=words):
        compare(kept, outputs)


@pytest.mark.parametrize(
    "edit", [{"classes": "7 1 2 3 4"}, {"classes": "-1 1 2 3 4"}, {"classes": ""}, {"logits": "1"}]
)
def test_classes_of_another_model(run: Callable[..., Any], edit: dict[str, str]) -> None:
    """Stored classes that the model does not have are a problem."""
    outputs = run()
    kept = rounded(outputs)
    for name, line in edit.items():
        kept[name][0] = line
    assert compare(kept, outputs)[1] == ["reference image 1: the stored classes are not the model's"]


@pytest.mark.parametrize("kept", [{"version": 2}, "text", {}])
def test_other_versions(kept: object) -> None:
    """Stored outputs of another version are refused with what to do, and none at all are none."""
    with pytest.raises(WeightsError, match="pip install -U famcli"):
        stored({REFERENCE: kept})
    assert stored({}) is None

"""The golden prediction: the same pictures everywhere, rounded answers, and what counts as a difference."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from famcli.checkpoints.reference import (
    MAP_TOLERANCE,
    STEPS,
    Golden,
    answers,
    compare,
    digest_of_config,
    digest_of_pictures,
    draw,
    record,
    stored,
)
from famcli_models import FAM
from famcli_models.checkpoint import REFERENCE
from famcli_models.errors import WeightsError
from famcli_models.files import sha256_file

Make = Callable[..., FAM]
DIGEST_64 = "657a103a5e92bca68b37642dabd54fdd55d8f7fdca6196ed0d9eaa683b4cc459"


def test_pictures_are_the_same_everywhere() -> None:
    """The bytes of the drawings are those that were published: a change would make every stored prediction useless."""
    assert digest_of_pictures(224) == "036dd51821ac2d7e5fef144eabed333ac1420daddff28f31fa099584209a61a7"
    assert digest_of_pictures(64) == DIGEST_64


def test_pictures_by_hand() -> None:
    """The centre of the disc and the corner of its background have the colours that one can work out."""
    picture = draw(1024)[0]  # coordinates are pixels
    assert picture[470, 560].tolist() == [200 - 470 // 16, 60 + 560 // 10, 30 + 470 // 12]
    assert picture[0, 0].tolist() == [40, 90, 200]


def test_large_pictures_are_those_of_1024() -> None:
    """Beyond 1024 pixels are repeated, and the largest input takes little memory."""
    base, twice = draw(1024), draw(2048)
    assert np.array_equal(twice[:, ::2, ::2], base)
    assert np.array_equal(twice[:, 1::2, 1::2], base)
    assert draw(1025).shape == (4, 1025, 1025, 3)
    tracemalloc.start()
    assert draw(4096).shape == (4, 4096, 4096, 3)
    assert tracemalloc.get_traced_memory()[1] < 600 * 2**20  # 200 MB are the pictures
    tracemalloc.stop()


def test_config_digest_by_hand() -> None:
    """The digest is of canonical JSON: the order of keys and spaces do not matter, and values and names do."""
    config = {"class_names": ["b", "ä"], "provenance": {"x": 1}, "model": {"tau": 0.5, "size": 64}}
    text = rb'{"class_names":["b","\u00e4"],"model":{"size":64,"tau":0.5}}'
    assert digest_of_config(config) == hashlib.sha256(text).hexdigest()
    assert digest_of_config({**config, "class_names": ["ä", "b"]}) != digest_of_config(config)


@pytest.mark.parametrize("size", [16, 64, 224, 500])
def test_pictures_have_an_object(size: int) -> None:
    """Four different pictures of the size asked for, none of one colour."""
    pictures = draw(size)
    assert (pictures.shape, pictures.dtype) == ((4, size, size, 3), np.uint8)
    assert all(picture.std() > 20 for picture in pictures)
    assert len({picture.tobytes() for picture in pictures}) == 4


def test_record_keeps_everything_else(make_model: Make, tmp_path: Path) -> None:
    """Recording changes one entry of the config's provenance, and not a byte of the weights."""
    model = make_model()
    model.provenance["data"] = "ünïcode"
    model.save_pretrained(tmp_path / "m")
    before = json.loads((tmp_path / "m/config.json").read_text(encoding="utf-8"))
    weights = sha256_file(tmp_path / "m/model.safetensors")
    made = record(tmp_path / "m")
    after = json.loads((tmp_path / "m/config.json").read_text(encoding="utf-8"))
    kept = after["provenance"].pop("golden")
    assert after == before
    assert sha256_file(tmp_path / "m/model.safetensors") == weights == kept["weights_sha256"]
    assert Golden.from_dict(kept) == made
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["config.json", "model.safetensors"]
    record(tmp_path / "m")
    assert json.loads((tmp_path / "m/config.json").read_text(encoding="utf-8"))["provenance"]["golden"] == kept


def test_one_line_a_map(make_model: Make) -> None:
    """A map is one string of ten-thousandths, so that a config stays readable; fine maps are averaged to 16 x 16."""
    kept = Golden.of(answers(make_model(size=320).eval())).to_dict()
    assert [len(line.split()) for line in kept["maps"]] == [256] * 4
    assert len(json.dumps(kept)) < 8_000
    cells = answers(make_model().eval())[0].cells
    assert cells.shape == (4, 4)
    assert [int(cell) for cell in Golden.of(answers(make_model().eval())).to_dict()["maps"][0].split()] == [
        round(float(value) * STEPS) for value in cells.flatten()
    ]


def test_the_same_model_agrees(model: FAM) -> None:
    """A model differs from its own golden prediction by the rounding alone, also in another memory layout."""
    kept = Golden.of(answers(model))
    for other in (model, model.to(memory_format=torch.channels_last)):  # type: ignore[call-overload]
        comparison = compare(kept, answers(other))
        assert comparison.problems == ()
        assert comparison.map_difference < 1e-4
        assert comparison.logit_difference < 1e-3


def test_another_model_does_not(make_model: Make) -> None:
    """Other weights are noticed in the maps."""
    comparison = compare(Golden.of(answers(make_model())), answers(make_model(seed=1)))
    assert comparison.map_difference > MAP_TOLERANCE
    assert any("M differs by" in problem for problem in comparison.problems)


@pytest.mark.parametrize(("shift", "same"), [(0.04, True), (0.06, False), (-0.06, False)])
def test_tolerance_of_maps(model: FAM, shift: float, same: bool) -> None:
    """A cell may differ by the stated tolerance and by no more."""
    found = answers(model)
    kept = Golden.of(found)
    found[2].cells[1, 1] += shift
    comparison = compare(kept, found)
    assert (comparison.problems == ()) is same
    assert comparison.map_difference == pytest.approx(abs(shift), abs=1e-4)
    assert same or "golden picture 3" in comparison.problems[0]


def test_tolerance_of_logits(model: FAM) -> None:
    """A logit that is off, or another class that has come out far ahead, is a difference; a tie that tips is not."""
    found = answers(model)
    kept = Golden.of(found)
    best, last = int(found[0].logits.argmax()), int(found[0].logits.argmin())
    found[0].logits[best] += 1
    assert "golden picture 1: logits differ by" in compare(kept, found).problems[0]
    found[0].logits[best] -= 1
    assert compare(kept, found).problems == ()
    found[0].logits[last] = found[0].logits.max() + 0.001
    assert (
        compare(
            replace(kept, classes=((best,), *kept.classes[1:]), logits=((kept.logits[0][0],), *kept.logits[1:])), found
        ).problems
        == ()
    )
    found[0].logits[last] += 1
    assert compare(kept, found).problems


def test_not_finite(model: FAM) -> None:
    """A model that answers with NaN has no golden prediction."""
    with torch.no_grad():
        model.classifier.bias[0] = torch.nan
    with pytest.raises(WeightsError, match="not finite"):
        answers(model)


def test_maps_of_another_size(make_model: Make) -> None:
    """A prediction of a model with another input size is not compared cell by cell."""
    comparison = compare(Golden.of(answers(make_model())), answers(make_model(size=96)))
    assert "another size" in comparison.problems[0]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda k: k.pop("maps"), "cannot be read"),
        (lambda k: k.update(maps=3), "cannot be read"),
        (lambda k: k.update(maps=["1 2 x"]), "cannot be read"),
        (lambda k: k["maps"].__setitem__(0, "1" + k["maps"][0]), "out of range"),
        (lambda k: k.update(logits=k["logits"][:2]), "out of range"),
        (lambda k: k["logits"].__setitem__(0, "nan 1 1 1 1"), "out of range"),
        (lambda k: k["logits"].__setitem__(0, "9e300 1 1 1 1"), "out of range"),
        (lambda k: k["maps"].reverse(), "was changed"),
        (lambda k: k.update(digest=None), "was changed"),
    ],
)
def test_damaged(model: FAM, edit: Callable[[dict[str, Any]], object], words: str) -> None:
    """A stored prediction that was damaged or edited is refused with the reason."""
    kept = Golden.of(answers(model)).to_dict()
    assert Golden.from_dict(kept).to_dict() == kept
    edit(kept)
    with pytest.raises(WeightsError, match=words):
        Golden.from_dict(kept)


@pytest.mark.parametrize("kept", [{"version": 2}, "text", {}])
def test_other_versions(kept: object) -> None:
    """A stored prediction of another version is refused with what to do, and none at all is none."""
    with pytest.raises(WeightsError, match="pip install -U famcli"):
        stored({REFERENCE: kept})
    assert stored({}) is None

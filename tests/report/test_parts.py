"""Part maps of a report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from famcli.report.parts import open_parts, part_maps
from famcli.results.schema import Results
from famcli_models import FAM
from famcli_models.errors import DataError, UnknownNameError
from famcli_models.files import sha256_file


@pytest.fixture
def of_tiny(results: Results, checkpoint: Path) -> Results:
    """Results of the tiny checkpoint."""
    source = {"kind": "model", "name": str(checkpoint), "method": "FAM"}
    source["weights_sha256"] = sha256_file(checkpoint / "model.safetensors")
    return dataclasses.replace(results, source=source)


def changed(results: Results, **source: Any) -> Results:
    return dataclasses.replace(results, source={**results.source, **source})


def test_the_model_that_was_evaluated(of_tiny: Results, checkpoint: Path) -> None:
    """It is found under its name, or where it is now."""
    for results, model in ((of_tiny, None), (changed(of_tiny, name="moved/away"), str(checkpoint))):
        engine, why_not = open_parts(results, model, "cpu")
        assert engine is not None
        assert why_not == ""


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"kind": "maps"}, "came from maps"),
        ({"name": "org/model"}, "'org/model' is not here; say where it is with --model"),
        ({"weights_sha256": "00" * 32}, "are not those that were evaluated"),
    ],
)
def test_no_model(of_tiny: Results, source: dict[str, Any], words: str) -> None:
    """Maps, and a model that is not here or has changed since are each a sentence."""
    engine, why_not = open_parts(changed(of_tiny, **source), None, "cpu")
    assert engine is None
    assert words in why_not


def test_a_method_without_parts(of_tiny: Results, make_model: Callable[..., Any], tmp_path: Path) -> None:
    """A model whose method has no parts is a sentence too."""
    make_model(method="cam").save_pretrained(tmp_path / "cam")
    digest = sha256_file(tmp_path / "cam" / "model.safetensors")
    cam = changed(of_tiny, name=str(tmp_path / "cam"), method="CAM", weights_sha256=digest)
    assert open_parts(cam, None, "cpu") == (None, "The model that was evaluated has no parts.")


def test_a_model_that_was_asked_for(of_tiny: Results, checkpoint: Path) -> None:
    """Other weights, or no model at all, are an error if they were asked for."""
    other = changed(of_tiny, weights_sha256="00" * 32)
    with pytest.raises(DataError, match="are not those that were evaluated"):
        open_parts(other, str(checkpoint), "cpu")
    with pytest.raises(UnknownNameError):
        open_parts(other, "nothing", "cpu")


def test_part_maps(of_tiny: Results, checkpoint: Path, image_dir: Path) -> None:
    """Maps and weights are the model's own; a photo that cannot be read is left out."""
    paths = [image_dir / "a.jpg", image_dir / "gone.jpg", image_dir / "b.png"]
    engine, _ = open_parts(of_tiny, None, "cpu")
    assert engine is not None
    found = dict(part_maps(engine, list(enumerate(paths))))
    assert list(found) == [0, 2]
    model = FAM.from_pretrained(checkpoint)
    with torch.inference_mode():
        out = model(model.preprocess(Image.open(paths[2]).convert("RGB")))
    assert np.allclose(found[2].A, out.A[0].numpy(), atol=1e-4)
    assert found[2].weights == pytest.approx(out.t[0].tolist(), abs=1e-3)
    assert sum(found[2].weights) == pytest.approx(1, abs=1e-3)

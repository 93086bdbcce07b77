"""Part maps of a report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from famcli.data.images import read_picture
from famcli.report.parts import find, part_maps
from famcli.results.schema import Results
from famcli_models import FAM
from famcli_models.errors import DataError, UnknownNameError
from famcli_models.files import sha256_file
from famcli_models.preprocess import resize


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
    assert find(of_tiny, None).folder == checkpoint
    assert find(changed(of_tiny, name="moved/away"), str(checkpoint)).folder == checkpoint


def test_no_model(of_tiny: Results) -> None:
    """Maps, predictions, CAM, and a model that is not here are each a sentence."""
    for source, words in (
        ({"kind": "maps"}, "came from maps"),
        ({"method": "CAM"}, "has no parts"),
        ({"name": "org/model"}, "'org/model' is not here; say where it is with --model"),
    ):
        found = find(changed(of_tiny, **source), None)
        assert found.folder is None
        assert words in found.reason


def test_other_weights(of_tiny: Results, checkpoint: Path) -> None:
    """Weights that have changed since are not used: a sentence in the report, an error if they were asked for."""
    other = changed(of_tiny, weights_sha256="00" * 32)
    found = find(other, None)
    assert found.folder is None
    assert "are not those that were evaluated" in found.reason
    with pytest.raises(DataError, match="are not those that were evaluated"):
        find(other, str(checkpoint))
    with pytest.raises(UnknownNameError):
        find(other, "nothing")


def test_part_maps(checkpoint: Path, image_dir: Path, picture: Callable[..., np.ndarray]) -> None:
    """Maps and weights are the model's own; a photo that cannot be read is left out."""
    paths = [image_dir / "a.jpg", image_dir / "gone.jpg", image_dir / "b.png"]
    found = dict(part_maps(checkpoint, list(enumerate(paths)), "cpu"))
    assert list(found) == [0, 2]
    model = FAM.from_pretrained(checkpoint)
    size = model.config.size
    view = resize(read_picture(paths[2]).image, size)
    with torch.inference_mode():
        out = model(Normalize(model.config.mean, model.config.std)([view]))
    assert found[2].maps.shape == out.A[0].shape
    assert np.abs(found[2].maps / 255 - out.A[0].numpy()).max() < 0.51 / 255 + 1e-4
    assert found[2].weights == pytest.approx(out.t[0].tolist(), abs=1e-3)
    assert sum(found[2].weights) == pytest.approx(1, abs=1e-3)

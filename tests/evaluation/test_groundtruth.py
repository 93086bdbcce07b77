"""What is known of a split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from famcli.data.dataset import Dataset, open_dataset
from famcli.evaluation.groundtruth import Truth
from famcli_models.errors import DataError


@pytest.fixture
def dataset(make_dataset: Callable[..., Path], tmp_path: Path) -> Dataset:
    """Three images with a box each, two of them with a mask."""
    root = make_dataset([(f"{i}.png", i, [(5, 5, 30, 30)], (40, 50)) for i in range(3)])
    (tmp_path / "pixels").mkdir()
    for i in range(2):
        Image.fromarray(np.full((40, 50), 255, np.uint8)).save(tmp_path / "pixels" / f"{i}.png")
    return open_dataset(root)


def test_without(dataset: Dataset, tmp_path: Path) -> None:
    """Images that are left out take their masks with them, and the numbers and the hash are those of the rest."""
    truth = Truth.read(dataset, "test", tmp_path / "pixels", over_maps=False)
    rest = truth.without(["0.png"])
    assert [sample.name for sample in rest.samples] == ["1.png", "2.png"]
    assert [source is not None for source in rest.masks] == [True, False]
    facts, fewer = truth.facts(), rest.facts()
    assert (facts["images"], facts["boxes"], facts["masks"]) == (3, 3, 2)
    assert (fewer["images"], fewer["boxes"], fewer["masks"]) == (2, 2, 1)
    assert facts["sha256"] != fewer["sha256"]
    assert facts == Truth.read(dataset, "test", tmp_path / "pixels", over_maps=True).facts()


def test_masks_alone_will_do_for_maps(dataset: Dataset, tmp_path: Path) -> None:
    """Without any box, masks are enough for protocols over maps and for no other; without both, nothing is."""
    (dataset.root / "metadata" / "test" / "localization.txt").unlink()
    assert not Truth.read(dataset, "test", tmp_path / "pixels", over_maps=True).has_boxes
    with pytest.raises(DataError, match="localization"):
        Truth.read(dataset, "test", tmp_path / "pixels", over_maps=False)
    with pytest.raises(DataError, match="localization"):
        Truth.read(dataset, "test", None, over_maps=True)


def test_an_image_without_a_box_among_others(dataset: Dataset, tmp_path: Path) -> None:
    """Where some images have boxes, all need one, whatever masks there are."""
    (dataset.root / "metadata" / "test" / "localization.txt").write_text("0.png,1,1,5,5\n1.png,1,1,5,5\n")
    with pytest.raises(DataError, match=r"'2\.png' has no box"):
        Truth.read(dataset, "test", tmp_path / "pixels", over_maps=True)

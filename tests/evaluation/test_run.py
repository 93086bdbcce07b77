"""One evaluation as a call: what is read of a split, what may be missing, and the smoke check."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from famcli.data.dataset import Dataset, open_dataset
from famcli.demo import demo_dataset
from famcli.evaluation.perimage import EvaluationSettings
from famcli.evaluation.run import evaluate, read_split
from famcli_models import load_model
from famcli_models.checkpoint import DEFAULT_MODEL
from famcli_models.errors import DataError, FamError


@pytest.fixture
def dataset(make_dataset: Callable[..., Path], tmp_path: Path) -> Dataset:
    """Three images with a box each, two of them with a mask."""
    root = make_dataset([(f"{i}.png", i, [(5, 5, 30, 30)], (40, 50)) for i in range(3)])
    (tmp_path / "pixels").mkdir()
    for i in range(2):
        Image.fromarray(np.full((40, 50), 255, np.uint8)).save(tmp_path / "pixels" / f"{i}.png")
    return open_dataset(root)


def test_masks_of_a_split(dataset: Dataset, tmp_path: Path) -> None:
    """Masks are by the name of their image; an image may have none."""
    samples, masks = read_split(dataset, "test", tmp_path / "pixels", over_maps=False)
    assert [sample.name for sample in samples] == ["0.png", "1.png", "2.png"]
    assert set(masks) == {"0.png", "1.png"}


def test_masks_alone_will_do_for_maps(dataset: Dataset, tmp_path: Path) -> None:
    """Without any box, masks are enough for protocols over maps and for no other; without both, nothing is."""
    (dataset.root / "metadata" / "test" / "localization.txt").unlink()
    assert not len(read_split(dataset, "test", tmp_path / "pixels", over_maps=True)[0][0].boxes)
    for folder, over_maps in ((tmp_path / "pixels", False), (None, True)):
        with pytest.raises(DataError, match="localization"):
            read_split(dataset, "test", folder, over_maps)


def test_an_image_without_a_box_among_others(dataset: Dataset, tmp_path: Path) -> None:
    """Where some images have boxes, all need one, whatever masks there are."""
    (dataset.root / "metadata" / "test" / "localization.txt").write_text("0.png,1,1,5,5\n1.png,1,1,5,5\n")
    with pytest.raises(DataError, match=r"'2\.png' has no box"):
        read_split(dataset, "test", tmp_path / "pixels", over_maps=True)


def test_images_that_cannot_be_scored(dataset: Dataset, model: Any, tmp_path: Path) -> None:
    """With allow_missing they are left out and said; if there is no other, that is an error."""
    said: list[str] = []
    options: dict[str, Any] = {"device": "cpu", "allow_missing": True, "say": said.append, "baseline": model}
    options |= {"masks": tmp_path / "pixels", "processes": 1}
    whole = evaluate(dataset, model, **options).results.data
    (dataset.root / "1.png").write_bytes(b"")
    found = evaluate(dataset, model, **options)
    assert said == [
        *["dataset and FAM: 5 of 5 classes matched by name"] * 2,
        "partial: 1 of 3 images could not be read and were left out",
    ]
    facts = [[data[key] for key in ("images", "boxes", "masks", "partial")] for data in (whole, found.results.data)]
    assert facts == [[3, 3, 2, False], [2, 2, 1, True]]
    assert whole["sha256"] != found.results.data["sha256"]
    assert [image.name for image in found.images()] == ["0.png", "2.png"]
    for i in range(3):
        (dataset.root / f"{i}.png").write_bytes(b"")
    with pytest.raises(DataError, match="all 3 images could not be read"):
        evaluate(dataset, model, **options)


def test_a_baseline_of_the_same_method(dataset: Dataset, make_model: Callable[..., Any]) -> None:
    """It has rows and differences of its own, at the oracle's τ."""
    results = evaluate(dataset, make_model(), baseline=make_model(seed=1), device="cpu").results
    titles = [row.title for row in results.rows[:2]]
    assert titles == ["FAM", "FAM (baseline), oracle τ"]
    assert tuple(titles) in {(d.of, d.minus) for d in results.differences}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"crops": 3}, "crops is 3"),
        ({"interval": 0}, "interval of the thresholds is 0"),
        ({"protocol": "wsol"}, "unknown protocol"),
        ({"maps": Path("m"), "protocol": "psol"}, "--maps needs --protocol"),
        ({"predictions": Path("p"), "protocol": "wsoleval-v1"}, "predictions are boxes"),
    ],
)
def test_what_cannot_be(dataset: Dataset, changes: dict[str, Any], words: str) -> None:
    """What does not go together is refused before anything is read."""
    with pytest.raises(FamError, match=words):
        evaluate(dataset, **changes)


def test_settings_are_checked() -> None:
    """A name that is no setting is an error of the caller."""
    assert EvaluationSettings().protocol == "fam"
    with pytest.raises(TypeError, match="protocl"):
        evaluate(None, "model", protocl="fam")


def test_the_smoke_check_by_hand() -> None:
    """The photographs have the classes of ILSVRC that their names say, and boxes inside of them."""
    dataset, known = demo_dataset(), load_model(DEFAULT_MODEL).class_names
    samples = dataset.samples("test", with_boxes=True)
    assert [known.index(dataset.class_names[sample.label]) for sample in samples] == [285, 892, 967, 657]
    for sample in samples:
        with Image.open(sample.path) as image:
            x0, y0, x1, y1 = sample.boxes[0].tolist()
            assert 0 <= x0 < x1 <= image.width
            assert 0 <= y0 < y1 <= image.height


@pytest.mark.slow
def test_the_smoke_check_tells_good_weights_from_bad() -> None:
    """The default model finds and names two of the four; with weights that are mixed up or zero it finds none."""

    def score(model: Any) -> tuple[float, float]:
        results = evaluate(None, model, baseline=model, device="cpu").results
        assert results.kind == "smoke check"
        metrics = results.rows[0].metrics
        return metrics["top1_loc"].value, metrics["top5_loc"].value

    model = load_model(DEFAULT_MODEL)
    assert score(model)[0] >= 50
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.copy_(value.flatten()[rng.permutation(value.numel())].view_as(value))
        assert score(model) == (0, 0)
        for value in model.parameters():
            value.zero_()
    assert score(model) == (0, 0)

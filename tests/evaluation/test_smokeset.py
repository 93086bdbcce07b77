"""The drawn set: exact boxes, the same images every time, and what the packaged model makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from famcli.evaluation.drawings import THINGS, paint
from famcli.evaluation.smokeset import COUNT, GROUNDS, MARGIN, NAME, box_of, draw, scene
from famcli.hub import find_model
from famcli.inference.predictor import Predictor
from famcli_models.boxes import box_iou
from famcli_models.checkpoint import DEFAULT_MODEL
from famcli_models.methods.fam import FAM


def test_samples(tmp_path: Path) -> None:
    """Each sample is a file of the size it states, each differs, and its box lies inside; nothing else is written."""
    samples = draw(tmp_path)
    assert NAME == "smoke"
    assert len(samples) == COUNT == 24
    assert sorted(path.name for path in tmp_path.iterdir()) == [s.name for s in samples]
    assert len({s.path.read_bytes() for s in samples}) == COUNT
    for sample in samples:
        with Image.open(sample.path) as image:
            assert (image.mode, (image.height, image.width)) == ("RGB", sample.size_hw)
        assert sample.size_hw is not None
        h, w = sample.size_hw
        (x0, y0, x1, y1) = sample.boxes[0]
        assert (sample.boxes.shape, sample.boxes.dtype) == ((1, 4), np.float64)
        assert MARGIN <= x0 < x1 <= w - MARGIN
        assert MARGIN <= y0 < y1 <= h - MARGIN
        assert 0.05 < (x1 - x0) * (y1 - y0) / (h * w) < 0.5  # the whole image is never right


def test_boxes_enclose_what_was_drawn() -> None:
    """A box touches its thing on all four sides and leaves nothing of it out."""
    for number in range(COUNT):
        _, mask, _ = scene(number)
        x0, y0, x1, y1 = box_of(mask)[0].astype(int)
        inside = mask[y0:y1, x0:x1]
        assert inside.sum() == mask.sum() > 1000
        assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


@pytest.mark.parametrize("number", [0, 5, 12])
def test_nothing_is_drawn_elsewhere(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Painted in another colour a thing changes the pixels of its box and at most one around it, all of its own."""
    before, mask, _ = scene(number)
    thing = THINGS[number % len(THINGS)]

    def other(*of: object) -> object:
        painted = paint(*of)  # type: ignore[arg-type]
        return type(painted)(1 - painted.colour, painted.shape)

    monkeypatch.setattr("famcli.evaluation.smokeset.paint", other)
    after, same, _ = scene(number)
    np.testing.assert_array_equal(mask, same)
    changed = (before != after).any(axis=2)
    x0, y0, x1, y1 = box_of(changed)[0]
    assert (mask & changed).sum() > 0.9 * mask.sum(), thing.name
    assert np.abs(box_of(mask)[0] - (x0, y0, x1, y1)).max() <= 1


def test_the_same_every_time(tmp_path: Path) -> None:
    """Drawn again the set is the same, whatever the state of random numbers."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        np.random.default_rng().random(7)
        draw(folder)
    assert [p.read_bytes() for p in sorted(first.iterdir())] == [p.read_bytes() for p in sorted(second.iterdir())]


def test_each_thing_on_other_grounds() -> None:
    """Each thing is drawn as often as the others, on other grounds and in other sizes."""
    scenes = [scene(number) for number in range(COUNT)]
    for thing in THINGS:
        of_thing = [(picture, mask) for picture, mask, drawn in scenes if drawn == thing]
        assert len(of_thing) == COUNT // len(THINGS)
        assert len({picture.shape for picture, _ in of_thing}) == len(of_thing)
        colours = [picture[~mask].mean(axis=0) for picture, mask in of_thing]
        assert min(np.abs(a - b).max() for i, a in enumerate(colours) for b in colours[:i]) > 10
    assert len(GROUNDS) >= 3


def test_labels_are_ilsvrcs() -> None:
    """A label is the index of its name among the packaged model's classes."""
    names = FAM.from_pretrained(find_model(DEFAULT_MODEL)).class_names
    assert [names[thing.label] for thing in THINGS] == [thing.name for thing in THINGS]


def test_the_packaged_model(tmp_path: Path) -> None:
    """The packaged model finds and names nearly all; one whose weights are mixed up finds next to nothing."""
    model = FAM.from_pretrained(find_model(DEFAULT_MODEL))
    samples = draw(tmp_path)

    def score() -> float:
        predictor = Predictor(model, "cpu")
        found = [predictor(sample.path) for sample in samples]
        right = [
            bool(p.regions) and box_iou(p.regions[0].xyxy, s.boxes)[0, 0] >= 0.5 and p.classes[0].index == s.label
            for p, s in zip(found, samples, strict=True)
        ]
        return sum(right) / len(right)

    assert score() >= 0.9
    rng = np.random.default_rng(0)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.copy_(value.flatten()[rng.permutation(value.numel())].view_as(value))
    assert score() <= 0.1

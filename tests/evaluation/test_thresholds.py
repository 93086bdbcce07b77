"""Maps at many thresholds: the counts in any number of processes, and the rows, against the rules and by hand."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from famcli.data.masks import MaskFiles
from famcli.data.sample import NO_BOXES, Sample
from famcli.evaluation.bootstrap import Bootstrap
from famcli.evaluation.external import find_maps
from famcli.evaluation.metrics.box import BoxCounts, score_map, thresholds, truth_boxes
from famcli.evaluation.metrics.mask import MaskCounts, truth_mask
from famcli.evaluation.perimage import EvaluationSettings
from famcli.evaluation.thresholds import (
    Counts,
    best_box,
    count_maps,
    fixed_rows,
    map_row,
    read_scores,
    stated_size,
)
from famcli.results.schema import Row
from famcli_models.boxes import box_iou
from famcli_models.errors import DataError

Samples = list[Sample]
Maps = list[np.ndarray]


def one(box: Any, raw: Any, name: str = "a", size_hw: tuple[int, int] = (224, 224)) -> tuple[Samples, list[Any]]:
    """An image and its map."""
    return [Sample(name, Path(name), 0, box, size_hw)], [raw]


def some(number: int) -> tuple[Samples, Maps]:
    """Images of one box each, and their maps."""
    rng = np.random.default_rng(0)
    samples, maps = [], []
    for i in range(number):
        low = rng.integers(0, 100, 2)
        box = [*low, *(low + rng.integers(20, 200, 2))]
        maps.append(rng.random((7, 7)))
        samples.append(Sample(f"{i}.jpg", Path(f"{i}.jpg"), 0, np.array([box], np.float64), (300, 300)))
    return samples, maps


def count(
    images: tuple[Samples, Any],
    interval: float = 0.05,
    *,
    version: int | None = 2,
    processes: int = 1,
    masks: list[Any] | None = None,
    on_images: Callable[[int], None] = lambda _: None,
) -> Counts:
    settings = EvaluationSettings(interval=interval, processes=processes)
    return count_maps(*images, masks or [None] * len(images[0]), version, settings, on_images)


def test_processes_do_not_matter() -> None:
    """One process, here, and two of their own count the same; each image is reported once."""
    done: list[int] = []
    one, two = count(some(40)), count(some(40), processes=2, on_images=done.append)
    assert (one.boxes.right == two.boxes.right).all()
    assert (one.boxes.images, one.boxes.empty) == (two.boxes.images, two.boxes.empty) == (40, 0)
    assert np.array_equal(one.right, two.right)
    assert sum(done) == 40


@pytest.mark.parametrize("version", [1, 2])
def test_kept_bits_add_up_to_the_counts(version: int) -> None:
    """What is kept of each image, summed, is what was counted."""
    counts = count(some(20), version=version)
    bits = np.array([np.unpackbits(packed, axis=1, count=20) for packed in counts.right])
    expected = counts.boxes.right[0, [1]] if version == 1 else counts.boxes.right[1]
    assert (bits.sum(axis=0) == expected).all()


@pytest.mark.parametrize("version", [1, None])
def test_masks_are_counted_with_or_without_boxes(tmp_path: Path, version: int | None) -> None:
    """Pixels in masks are those of the mask evaluator; images without a mask add none."""
    mask = np.zeros((300, 300), np.uint8)
    mask[:150] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    samples, maps = some(2)
    counts = count((samples, maps), 0.1, masks=[MaskFiles((tmp_path / "m.png",)), None], version=version)
    assert (counts.masks.images, counts.boxes.images) == (1, 2 if version else 0)
    by_hand = MaskCounts(thresholds(0.1))
    by_hand.add(score_map(maps[0]), truth_mask([mask > 0]))
    assert (counts.masks.inside == by_hand.inside).all()
    assert counts.masks.inside.sum() == 224 * 112


def test_from_files_equals_the_rules(tmp_path: Path, wsoleval_rules: ModuleType) -> None:
    """Maps of two names, sizes and dtypes, boxes in original pixels: the numbers of the literal rules."""
    rng = np.random.default_rng(1)
    samples, images = [], []
    for i in range(6):
        name, raw = f"a/{i}.jpg", rng.random((7 + i, 9)).astype(np.float32 if i % 2 else np.float64)
        (tmp_path / "a").mkdir(exist_ok=True)
        np.save(tmp_path / (name if i % 2 else f"a/{i}"), raw)
        box = (10 + i, 20, 199, 150)
        samples.append(Sample(name, tmp_path / name, 0, np.array([[10.0 + i, 20, 200, 151]]), (250, 333)))
        images.append((wsoleval_rules.normalised(raw), [wsoleval_rules.resized_box(box, (333, 250), (224, 224))]))
    counts = count((samples, list(find_maps(tmp_path, [sample.name for sample in samples]).values())), 0.02).boxes
    for version in (1, 2):
        expected = wsoleval_rules.accuracies(images, 0.02, every_contour=version == 2)
        assert list(counts.accuracy(version).curve.values()) == [curve.tolist() for curve in expected.values()]


def test_maps_of_wsolevaluation_are_taken_as_they_are(tmp_path: Path) -> None:
    """A map at 224 with values in [0, 1] is scored as it is, as by evaluation.py: it need not reach 0 or 1."""
    scores, whole = np.full((224, 224), 0.5), np.array([[0.0, 0, 224, 224]])
    for name, array, as_is in (("a", scores, True), ("b", scores * 3, False), ("c", scores[:-1], False)):
        np.save(tmp_path / f"{name}.npy", array)
        assert read_scores(tmp_path / f"{name}.npy")[1] is as_is
    counts = count(one(whole, tmp_path / "a.npy")).boxes
    assert (counts.as_is, counts.empty, counts.accuracy(1).value) == (1, 0, 100.0)
    counts = count(one(whole, scores)).boxes  # a network's constant map says nothing
    assert (counts.as_is, counts.empty, counts.accuracy(1).value) == (0, 1, 0.0)
    np.save(tmp_path / "d.npy", np.full((224, 224), 0.002))  # below 1/255: nothing at any threshold
    assert count(one(whole, tmp_path / "d.npy")).boxes.empty == 1


@pytest.mark.parametrize("processes", [1, 2])
def test_errors_come_through(tmp_path: Path, processes: int) -> None:
    """A bad map or an image without a box ends the count with its sentence, from any process."""
    (tmp_path / "a.npy").write_bytes(b"nothing")
    with pytest.raises(DataError, match="not a .npy array"):
        count(one(np.array([[0.0, 0, 5, 5]]), tmp_path / "a.npy"), processes=processes)
    with pytest.raises(DataError, match="'a' has no box"):
        count(one(NO_BOXES, np.eye(3)), processes=processes)


class Killer:
    """Ends the process that unpickles it, as the system does when memory is short."""

    def __reduce__(self) -> tuple:
        return os._exit, (1,)


def test_a_killed_process() -> None:
    """A process that is gone is one sentence, not a hang or a traceback of the pool's."""
    with pytest.raises(DataError, match="a process that scored maps was killed"):
        count(one(Killer(), np.eye(3)), processes=2)


def test_sizes_come_from_the_picture(tmp_path: Path) -> None:
    """Where the dataset states no size, the image's header does; where there is none either, that is said."""
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    sample = Sample("a.png", tmp_path / "a.png", 0, np.array([[0.0, 0, 5, 5]]))
    assert stated_size(sample) == (20, 30)
    assert stated_size(dataclasses.replace(sample, size_hw=(1, 2))) == (1, 2)
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"does not state its size \(image_sizes\.txt\).*no such file"):
        stated_size(sample)


@pytest.fixture
def samples() -> Samples:
    """Four images with one or two boxes."""
    boxes = ([[5, 5, 31, 31]], [[0, 0, 60, 100]], [[10, 20, 100, 120], [150, 150, 220, 224]], [[20, 10, 47, 30]])
    sizes = [(40, 50), (100, 60), (224, 224), (33, 47)]
    return [
        Sample(f"{i}.png", Path(f"{i}.png"), 0, np.array(b, np.float64), size)
        for i, (b, size) in enumerate(zip(boxes, sizes, strict=True))
    ]


@pytest.fixture
def maps() -> Maps:
    rng = np.random.default_rng(0)
    return [rng.random((6, 6)).astype(np.float32) for _ in range(4)]


def overall(row: Row) -> float:
    """Right boxes of all sizes together, in percent."""
    sizes = row.sizes or ()
    return sum(of.images * of.gt_known.value for of in sizes if of.gt_known) / sum(of.images for of in sizes)


@pytest.mark.parametrize("version", [1, 2])
def test_rows_are_the_counts(samples: Samples, maps: Maps, version: int) -> None:
    """The value, its τ and the curve are those of the streaming count."""
    counts = BoxCounts(thresholds(0.01))
    for sample, raw in zip(samples, maps, strict=True):
        counts.add(score_map(raw), truth_boxes(sample.boxes, stated_size(sample)))
    expected = counts.accuracy(version)
    counted = count((samples, maps), 0.01, version=version)
    row = map_row("maps", counted, samples, maps, version, Bootstrap(4)).row
    assert row.metrics["max_box_acc" if version == 1 else "max_box_acc_v2"].value == pytest.approx(expected.value)
    assert row.at_delta is not None
    assert {d: found["value"] for d, found in row.at_delta.items()} == {
        f"{d:g}": v for d, v in expected.at_delta.items() if version == 2 or d == 0.5
    }
    assert row.curve == tuple(expected.curve[0.5])
    assert row.tau == (expected.tau[0.5] if version == 1 else None)
    # At the best τ exactly as many of the images' boxes are right as the number says.
    tau = row.at_delta["0.5"]["tau"]
    pairs = [best_box(raw, sample, tau, version) for sample, raw in zip(samples, maps, strict=True)]
    right = [box_iou(box, truth).max() >= 0.5 for box, truth in pairs]
    assert 100 * np.mean(right) == row.at_delta["0.5"]["value"]
    assert overall(row) == pytest.approx(row.at_delta["0.5"]["value"])


def test_intervals_choose_the_threshold_anew(samples: Samples, maps: Maps) -> None:
    """Each resample has a best threshold of its own, so the resampled value is never below that at one threshold."""
    bootstrap, counts = Bootstrap(4), count((samples, maps), 0.01, version=1)
    found = map_row("maps", counts, samples, maps, 1, bootstrap)
    at = int(counts.boxes.right[0, 1].argmax())
    right = np.array([np.unpackbits(packed[0], count=100)[at] for packed in counts.right])
    assert right.sum() == counts.boxes.right[0, 1, at]
    fixed = bootstrap.means(right[:, None])[:, 0]
    assert (found.resampled["max_box_acc"] >= fixed - 1e-12).all()


def test_fixed_boxes_by_hand(samples: Samples) -> None:
    """The whole image is right where the truth covers half of it, in one image of four; the centre box in two."""
    centre, whole = (r.row for r in fixed_rows(samples, 1, Bootstrap(4)))
    assert whole.metrics["max_box_acc"].value == 25
    assert centre.metrics["max_box_acc"].value == 50  # 0.513 and 0.509 with the first two, 0.207 and 0.406
    assert (overall(whole), overall(centre)) == (25, 50)
    # The largest true boxes cover 32, 98, 18 and 32 % of the frame.
    assert [of.images for of in whole.sizes or ()] == [0, 1, 2, 0, 1]
    assert set(fixed_rows(samples, 2, Bootstrap(4))[1].row.at_delta or ()) == {"0.3", "0.5", "0.7"}

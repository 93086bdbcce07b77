"""Many maps to one number."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from famcli.data.masks import MaskFiles
from famcli.data.sample import NO_BOXES, Sample
from famcli.evaluation.counting import Counts, Scored, Wanted, count, count_chunk, finished, stated_size
from famcli.evaluation.maps import find_maps
from famcli.evaluation.metrics.box import score_map, thresholds
from famcli.evaluation.metrics.mask import MaskCounts, truth_mask
from famcli_models.errors import DataError


def some(number: int) -> Iterator[Scored]:
    rng = np.random.default_rng(0)
    for i in range(number):
        low = rng.integers(0, 100, 2)
        box = [*low, *(low + rng.integers(20, 200, 2))]
        yield Scored(f"{i}.jpg", rng.random((7, 7)), np.array([box], np.float64), (300, 300))


def chunk(image: Scored) -> Counts:
    return count_chunk([image], Wanted(0.5))


def test_processes_do_not_matter() -> None:
    """One process, here, and two of their own count the same; each image is reported once."""
    seen: list[int] = []
    wanted = Wanted(0.05, keep=2)
    one, two = count(some(40), wanted, 1), count(some(40), wanted, 2, seen.append)
    assert (one.boxes.right == two.boxes.right).all()
    assert (one.boxes.images, one.boxes.empty) == (two.boxes.images, two.boxes.empty) == (40, 0)
    assert np.array_equal(one.right, two.right)
    assert sum(seen) == 40


@pytest.mark.parametrize("keep", [1, 2])
def test_kept_bits_add_up_to_the_counts(keep: int) -> None:
    """What is kept of each image, summed, is what was counted; nothing is kept unless asked for."""
    counts = count(some(20), Wanted(0.05, keep=keep), 1)
    bits = np.array([np.unpackbits(packed, axis=1, count=20) for packed in counts.right])
    expected = counts.boxes.right[0, [1]] if keep == 1 else counts.boxes.right[1]
    assert (bits.sum(axis=0) == expected).all()
    assert count(some(3), Wanted(0.05), 1).right == []


def test_masks_are_counted_with_or_without_boxes(tmp_path: Path) -> None:
    """Pixels in masks are those of the mask evaluator; images without a mask add none."""
    mask = np.zeros((300, 300), np.uint8)
    mask[:150] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    first, second, *_ = some(5)
    images = [dataclasses.replace(first, masks=MaskFiles((tmp_path / "m.png",))), second]
    for boxes in (True, False):
        counts = count(iter(images), Wanted(0.1, boxes=boxes), 1)
        assert (counts.masks.images, counts.boxes.images) == (1, 2 if boxes else 0)
        by_hand = MaskCounts(thresholds(0.1))
        by_hand.add(score_map(np.asarray(first.scores)), truth_mask([mask > 0]))
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
    paths = find_maps(tmp_path, [sample.name for sample in samples])
    scored = [Scored(s.name, path, s.boxes, stated_size(s)) for s, path in zip(samples, paths, strict=True)]
    counts = count(scored, Wanted(0.02), 1).boxes
    for version in (1, 2):
        expected = wsoleval_rules.accuracies(images, 0.02, every_contour=version == 2)
        assert list(counts.accuracy(version).curve.values()) == [curve.tolist() for curve in expected.values()]


def test_maps_of_wsolevaluation_are_taken_as_they_are(tmp_path: Path) -> None:
    """A map at 224 with values in [0, 1] is scored as it is, as by evaluation.py: it need not reach 0 or 1."""
    scores = np.full((224, 224), 0.5)
    np.save(tmp_path / "a.npy", scores)
    assert finished(scores)
    assert not finished(scores * 3)
    assert not finished(scores[:-1])
    whole = Scored("a", tmp_path / "a.npy", np.array([[0.0, 0, 224, 224]]), (224, 224))
    counts = chunk(whole)
    assert (counts.boxes.as_is, counts.boxes.empty, counts.boxes.accuracy(1).value) == (1, 0, 100.0)
    counts = chunk(Scored("a", scores, whole.boxes, (224, 224)))  # a network's constant map says nothing
    assert (counts.boxes.as_is, counts.boxes.empty, counts.boxes.accuracy(1).value) == (0, 1, 0.0)


def test_a_map_that_is_nothing_in_bytes_is_empty(tmp_path: Path) -> None:
    """Values below 1/255 leave no pixel at any threshold, so the image counts as one without a box."""
    np.save(tmp_path / "a.npy", np.full((224, 224), 0.002))
    np.save(tmp_path / "b.npy", np.full((224, 224), 0.005))
    box = np.array([[0.0, 0, 224, 224]])
    counts = count([Scored(n, tmp_path / f"{n}.npy", box, (224, 224)) for n in "ab"], Wanted(0.5), 1)
    assert (counts.boxes.images, counts.boxes.empty) == (2, 1)


@pytest.mark.parametrize("processes", [1, 2])
def test_errors_come_through(tmp_path: Path, processes: int) -> None:
    """A bad map or an image without a box ends the count with its sentence, from any process."""
    (tmp_path / "a.npy").write_bytes(b"nothing")
    box = np.array([[0.0, 0, 5, 5]])
    with pytest.raises(DataError, match="not a .npy array"):
        count([Scored("a", tmp_path / "a.npy", box, (9, 9))], Wanted(0.1), processes)
    with pytest.raises(DataError, match="'a' has no box"):
        count([Scored("a", np.eye(3), NO_BOXES, (9, 9))], Wanted(0.1), processes)


class Killer:
    """Ends the process that unpickles it, as the system does when memory is short."""

    def __reduce__(self) -> tuple:
        return os._exit, (1,)


def test_a_killed_process() -> None:
    """A process that is gone is one sentence, not a hang or a traceback of the pool's."""
    with pytest.raises(DataError, match="a process that scored maps was killed"):
        count([Scored("a", np.eye(3), Killer(), (9, 9))], Wanted(0.1), 2)


def test_sizes_come_from_the_picture(tmp_path: Path) -> None:
    """Where the dataset states no size, the image's header does; where there is none either, that is said."""
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    sample = Sample("a.png", tmp_path / "a.png", 0, np.array([[0.0, 0, 5, 5]]))
    assert stated_size(sample) == (20, 30)
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"does not state its size \(image_sizes\.txt\).*no such file"):
        stated_size(sample)

"""Many maps to one number."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from famcli.data.sample import NO_BOXES, Sample
from famcli.mapscores import Scored, count, count_chunk, finished, from_folder
from famcli_models.errors import DataError


def some(number: int) -> Iterator[Scored]:
    rng = np.random.default_rng(0)
    for i in range(number):
        low = rng.integers(0, 100, 2)
        box = [*low, *(low + rng.integers(20, 200, 2))]
        yield Scored(f"{i}.jpg", rng.random((7, 7)), np.array([box], np.float64), (300, 300))


def test_processes_do_not_matter() -> None:
    """One process, here, and two of their own count the same; each image is reported once."""
    seen: list[int] = []
    one, two = count(some(40), 0.05, 1), count(some(40), 0.05, 2, seen.append)
    assert (one.right == two.right).all()
    assert (one.images, one.empty) == (two.images, two.empty) == (40, 0)
    assert sum(seen) == 40


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
    counts = count(from_folder(tmp_path, samples), 0.02, 1)
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
    counts = count_chunk([whole], 0.5)
    assert (counts.as_is, counts.empty, counts.accuracy(1).value) == (1, 0, 100.0)
    counts = count_chunk([Scored("a", scores, whole.boxes, (224, 224))], 0.5)  # a network's constant map says nothing
    assert (counts.as_is, counts.empty, counts.accuracy(1).value) == (0, 1, 0.0)


@pytest.mark.parametrize("processes", [1, 2])
def test_errors_come_through(tmp_path: Path, processes: int) -> None:
    """A bad map or an image without a box ends the count with its sentence, from any process."""
    (tmp_path / "a.npy").write_bytes(b"nothing")
    box = np.array([[0.0, 0, 5, 5]])
    with pytest.raises(DataError, match="not a .npy array"):
        count([Scored("a", tmp_path / "a.npy", box, (9, 9))], 0.1, processes)
    with pytest.raises(DataError, match="'a' has no box"):
        count([Scored("a", np.eye(3), NO_BOXES, (9, 9))], 0.1, processes)


class Killer:
    """Ends the process that unpickles it, as the system does when memory is short."""

    def __reduce__(self) -> tuple:
        return os._exit, (1,)


def test_a_killed_process() -> None:
    """A process that is gone is one sentence, not a hang or a traceback of the pool's."""
    with pytest.raises(DataError, match="a process that scored maps was killed"):
        count([Scored("a", np.eye(3), Killer(), (9, 9))], 0.1, 2)


def test_sizes_come_from_the_picture(tmp_path: Path) -> None:
    """Where the dataset states no size, the image's header does; where there is none either, that is said."""
    np.save(tmp_path / "a.npy", np.eye(3))
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    sample = Sample("a.png", tmp_path / "a.png", 0, np.array([[0.0, 0, 5, 5]]))
    assert next(from_folder(tmp_path, [sample])).size_hw == (20, 30)
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"does not state its size \(image_sizes\.txt\).*no such file"):
        next(from_folder(tmp_path, [sample]))

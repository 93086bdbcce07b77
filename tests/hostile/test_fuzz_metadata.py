"""Metadata of any content is read or refused with one of this program's errors, and what is read makes sense."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folders import FORMS, NAMES, VALUES
from hypothesis import given, seed, settings, strategies as st

from famcli.data.dataset import open_dataset
from famcli.data.masks import find_masks
from famcli.data.readers import read_own
from famcli_models.errors import FamError

EXAMPLES = [60, pytest.param(300, marks=pytest.mark.slow)]
values = st.sampled_from(VALUES) | st.integers(-3, 5) | st.floats() | st.text(max_size=4)
ids = st.integers(0, 3) | st.sampled_from(["1", "a", 1.0, 1.5]) | values
names = st.sampled_from([*NAMES, "./a.jpg", "x\\a.jpg"]) | values
boxes = st.lists(st.integers(-2, 30) | values, min_size=3, max_size=5) | values


def entries(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A list of objects that mostly have these keys."""
    entry = st.fixed_dictionaries(keys) | st.fixed_dictionaries({}, optional=keys) | values
    return st.lists(entry, max_size=4) | values


documents = st.fixed_dictionaries(
    {
        "images": entries(id=ids, file_name=names, width=values, height=values, fam_category_id=ids),
        "annotations": entries(image_id=ids, category_id=ids, bbox=boxes, iscrowd=values, segmentation=values),
        "categories": entries(id=ids, name=names),
    },
    optional={"info": st.fixed_dictionaries({"fam": st.dictionaries(st.sampled_from(["split", "named"]), values)})},
)
changes = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 9), st.binary(max_size=9) | st.just(b"\0" * 5000)), min_size=1, max_size=4
)


def examples(count: int, test: Callable[..., None]) -> None:
    """Run a test of hypothesis as often as this, from the run's seed."""
    settings(max_examples=count, deadline=None, database=None)(test)()


@pytest.mark.parametrize("count", EXAMPLES)
def test_coco(rng: random.Random, count: int) -> None:
    """A COCO file of any entries: labels are of its categories, boxes have an area, and no image comes twice."""

    @seed(rng.randrange(1 << 32))
    @given(document=documents)
    def run(document: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "test.json"
            path.write_text(json.dumps(document))
            try:
                own = read_own(path, "coco")
                masks = find_masks(open_dataset(path), own.splits["test"]) if "test" in own.splits else []
            except FamError as error:
                assert len(str(error)) < 2000  # noqa: PT017
                return
        assert len(masks) in (0, sum(map(len, own.splits.values())))
        for samples in own.splits.values():
            assert len({sample.name for sample in samples}) == len(samples)
            for sample in samples:
                assert own.class_names == () or 0 <= sample.label < len(own.class_names)
                assert np.isfinite(sample.boxes).all()
                assert (sample.boxes[:, 2:] > sample.boxes[:, :2]).all()

    examples(count, run)


@pytest.mark.parametrize("count", EXAMPLES)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_bytes(rng: random.Random, form: Callable[[Path], list[Path]], count: int) -> None:
    """A good file of any form with some bytes replaced."""

    @seed(rng.randrange(1 << 32))
    @given(number=st.integers(0, 9), edits=changes)
    def run(number: int, edits: list[tuple[float, int, bytes]]) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            files = form(folder)
            path = files[number % len(files)]
            content = path.read_bytes()
            for place, gone, new in edits:
                at = int(place * len(content))
                content = content[:at] + new + content[at + gone :]
            path.write_bytes(content)
            try:
                dataset = open_dataset(folder)
                for split in dataset.splits():
                    for sample in dataset.samples(split, with_boxes=True, boxes_optional=True):
                        assert (sample.boxes[:, 2:] > sample.boxes[:, :2]).all()
            except FamError:
                pass

    examples(count, run)


def test_the_good_ones_are_good(tmp_path: Path) -> None:
    """What is changed here is read as it is."""
    for form in FORMS:
        folder = tmp_path / form.__name__
        folder.mkdir()
        form(folder)
        dataset = open_dataset(folder)
        assert [len(dataset.samples(split)) for split in dataset.splits()] == [4], form

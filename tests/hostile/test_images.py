"""`fam predict` on malformed images, and the image reader on mutated ones."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st
from images import images, whole
from runner import Runner

from famcli.data.images import MAX_PIXELS, read_picture
from famcli_models.errors import FamError


@pytest.mark.parametrize("count", [2, pytest.param(50, marks=pytest.mark.slow)])
def test_images(
    runner: Runner, rng: random.Random, new_folder: Callable[[], Path], checkpoint: Path, count: int
) -> None:
    """Whatever is wrong with an image, it is named in one line, and the others are read; a folder has eight."""
    assert runner.check(islice(images(rng, new_folder, checkpoint), count)) == count


MUTATIONS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=6), st.integers(0, 6)), max_size=5)


def fuzz_image_reader(number: int, mutations: list[tuple[float, bytes, int]]) -> None:
    """A file with bytes put in place of others gives an RGB picture or one sentence."""
    content = bytes(whole()[number])
    for place, put, taken in mutations:
        at = int(place * len(content))
        content = content[:at] + put + content[at + taken :]
    said = ""
    try:
        picture = read_picture(content)
    except FamError as error:
        said = str(error)
    else:
        assert picture.image.mode == "RGB"
        assert 0 < picture.size_hw[0] * picture.size_hw[1] <= MAX_PIXELS
    assert "\n" not in said
    assert len(said) < 400


FUZZED = given(st.integers(0, len(whole()) - 1), MUTATIONS)
QUIET = pytest.mark.filterwarnings("ignore")  # of Pillow, on odd tags


@QUIET
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(16, [(0.0, b"MM", 2)])
@FUZZED
def test_fuzz(number: int, mutations: list[tuple[float, bytes, int]]) -> None:
    """Some mutated files."""
    fuzz_image_reader(number, mutations)


@QUIET
@pytest.mark.slow
@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@FUZZED
def test_fuzz_long(number: int, mutations: list[tuple[float, bytes, int]]) -> None:
    """Many."""
    fuzz_image_reader(number, mutations)

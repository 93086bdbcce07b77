"""`fam predict` on hostile folders, patterns and lists."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
from inputs import inputs
from runner import Runner


@pytest.mark.parametrize("count", [6, pytest.param(150, marks=pytest.mark.slow)])
def test_inputs(
    runner: Runner, rng: random.Random, new_folder: Callable[[], Path], checkpoint: Path, count: int
) -> None:
    """Whatever is in a folder, every image is read, and everything else is named once."""
    assert runner.check(islice(inputs(rng, new_folder, checkpoint), count)) == count

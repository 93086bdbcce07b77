"""What hostile tests share. With the seed that was printed a failure comes again: ``FAM_HOSTILE_SEED=... pytest``."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from runner import SEED, Runner, server


@pytest.fixture
def rng() -> random.Random:
    """Random numbers of this run's seed, the same for every test; the seed is shown where a test fails."""
    sys.stdout.write(f"FAM_HOSTILE_SEED={SEED}\n")
    return random.Random(SEED)


@pytest.fixture(scope="session")
def runner() -> Iterator[Runner]:
    """Runs cases; one for all tests, because it imports everything."""
    with server() as process:
        yield Runner(process)


@pytest.fixture
def new_folder(tmp_path: Path) -> Callable[[], Path]:
    """A function that makes a folder for a case, alone in its parent."""

    def make() -> Path:
        made = tmp_path / str(len(os.listdir(tmp_path))) / "work"
        made.mkdir(parents=True)
        return made

    return make

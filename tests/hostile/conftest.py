"""A seed for all hostile inputs, printed so that a failure can be repeated: ``FAM_HOSTILE_SEED=... pytest``."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from runner import Runner, server

SEED = int(os.environ.get("FAM_HOSTILE_SEED") or random.randrange(1 << 32))


def pytest_report_header() -> str:
    """The seed, at the top of a run of this folder."""
    return f"hostile inputs: FAM_HOSTILE_SEED={SEED}"


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

"""Malformed data sets end in an answer or in one line, on every command that reads them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from folders import CONTRADICTIONS, cases
from runner import Runner


@pytest.mark.parametrize("count", [8, pytest.param(150, marks=pytest.mark.slow)])
def test_data_sets(runner: Runner, rng: random.Random, new_folder: Callable[[], Path], count: int) -> None:
    """What is wrong with a data set is said in one line, and nothing half-written is left."""
    assert runner.check(cases(rng, count, new_folder)) == count


def test_all_contradictions_are_tried() -> None:
    """The long run holds each contradiction once."""
    assert len(CONTRADICTIONS) <= 150 // 4

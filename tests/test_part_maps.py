"""scripts/part_maps.py: when the numbers of the page are still those of the model."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

ROW = "weights `0.5e1a`: | a cat | Egyptian cat | 0.95 | 0.05 | 0.57 |"


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    """The script as a module."""
    return load_script("part_maps.py")


@pytest.mark.parametrize(
    ("old", "new", "alike"),
    [
        ("", "", True),
        ("0.57", "0.58", True),  # another machine
        ("0.57", "0.62", False),  # another model
        ("0.57", "nan", False),
        ("Egyptian", "tabby", False),
        ("5e1a", "5e1b", False),  # other weights
        (ROW, "", False),  # nothing written
    ],
)
def test_what_counts_as_current(script: ModuleType, old: str, new: str, alike: bool) -> None:
    """Numbers may differ by rounding, words and weights may not; the words around the generated part are free."""
    assert script.same(ROW, ROW.replace(old, new)) is alike
    assert script.written(f"# Title\n{script.BEGIN}\n\n{ROW}\n\n{script.END}\nmore") == ROW


def test_edges(script: ModuleType) -> None:
    """A plain picture has no lines; a square has them at its border alone, dark on white."""
    picture = np.full((60, 80, 3), 40, np.uint8)
    assert (script.edges(picture) == 255).all()
    picture[20:40, 20:60] = 220
    lines = script.edges(picture)
    assert lines.shape == picture.shape
    dark = (lines[..., 0] < 255).nonzero()
    assert dark[0].size
    assert (lines[26:34, 26:54] == 255).all()
    assert (lines[:14] == 255).all()

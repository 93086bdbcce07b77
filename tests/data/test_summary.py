"""Numbers of a split."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from famcli.data.check import summary
from famcli.data.sample import NO_BOXES, Sample


def test_by_hand() -> None:
    """Four images of two classes, with 0, 1, 2 and 3 boxes, two of them of known size."""
    sizes = [None, (10, 40), (30, 20), None]
    samples = [
        Sample(f"{n}.png", Path(), label, np.zeros((n, 4)), size)
        for n, (label, size) in enumerate(zip([5, 5, 5, 2], sizes, strict=True))
    ]
    assert summary("test", samples) == {
        "split": "test",
        "images": 4,
        "classes": 2,
        "boxes": 6,
        "without_boxes": 1,
        "several_boxes": 50.0,
        "fewest": (2, 1),
        "most": (5, 3),
        "smallest_hw": (10, 40),
        "median_hw": (30, 20),
        "largest_hw": (30, 20),
    }


def test_without_sizes() -> None:
    """Sizes that are not stated are not guessed."""
    numbers = summary("test", [Sample("a.png", Path(), 0, NO_BOXES)])
    assert numbers["smallest_hw"] is numbers["median_hw"] is numbers["largest_hw"] is None

"""Images that cannot be scored."""

from __future__ import annotations

import pytest

from famcli.evaluation.coverage import Coverage
from famcli_models.errors import DataError


def test_missing_images() -> None:
    """They are refused by name with the way out, or left out and said; when none is left that is an error too."""
    said: list[str] = []
    strict, lenient = Coverage(allow_missing=False, say=said.append), Coverage(allow_missing=True, say=said.append)
    with pytest.raises(DataError, match=r"4 of 9 images are away: 'a', 'b', 'c' \.\.\.; --allow-missing scores"):
        strict.check(["a", "b", "c", "d"], 9, "are away")
    assert said == []
    lenient.check(["a"], 9, "are away")
    assert said == ["partial: 1 of 9 images are away and were left out"]
    with pytest.raises(DataError, match="all 2 images are away"):
        lenient.check(["a", "b"], 2, "are away")
    strict.check([], 9, "are away")
    assert len(said) == 1

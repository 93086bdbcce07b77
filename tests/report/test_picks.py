"""Which images a report shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from famcli.report.picks import FEATURED, pick
from famcli.results.images import BoxResult, ImageResult
from famcli.results.schema import Results
from famcli_models.errors import DataError


def test_all(records: list[ImageResult], results: Results) -> None:
    """All images are shown if they are not too many, in order; the random order holds each once."""
    picks = pick(records, results, 30)
    assert (picks.total, list(picks.shown)) == (30, list(range(30)))
    assert sorted(picks.random) == list(range(30))
    assert list(picks.random) != list(range(30))


def test_samples(records: list[ImageResult], results: Results) -> None:
    """Of too many images the best, the worst and some random ones are shown: no box is the worst of all."""
    picks = pick(records, results, 9)
    best = {0, 1, 2}  # IoU falls along the records
    worst = {5, 11, 17}  # the first ones without a box
    assert set(picks.shown) == best | worst | set(picks.random)
    assert len(picks.random) == 3
    assert len(picks.shown) <= 9


def test_random_is_drawn_from_all_by_seed(make_results: Callable[..., Results], records: list[ImageResult]) -> None:
    """The same seed gives the same images, another seed others."""
    results = make_results(records)
    assert pick(records, results, 9, 3) == pick(records, results, 9, 3)
    assert pick(records, results, 9, 3).random != pick(records, results, 9, 4).random


def test_featured(records: list[ImageResult], results: Results) -> None:
    """The first best, worst and random images are featured, so no more than three times as many."""
    picks = pick(records, results, 30)
    assert set(range(FEATURED - 2)) <= set(picks.featured)
    assert len(picks.featured) <= 3 * FEATURED


@pytest.mark.parametrize(
    "found", [{}, {"FAM": BoxResult(None, None, None, "empty"), "other": BoxResult(None, None, None, "empty")}]
)
def test_records_of_another_run(records: list[ImageResult], results: Results, found: dict[str, BoxResult]) -> None:
    """Records without the first row, or with a row that the results have not, are one sentence."""
    odd = dataclasses.replace(records[4], found=found)
    with pytest.raises(DataError, match=r"'photo 04.png' has .* does not go with results.json"):
        pick([*records[:4], odd, *records[5:]], results, 30)


def test_other_number_of_records(records: list[ImageResult], results: Results) -> None:
    """Fewer records than the results say is a damaged folder."""
    with pytest.raises(DataError, match=r"29 images in images.jsonl, 30 in results.json"):
        pick(records[1:], results, 30)

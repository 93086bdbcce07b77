"""The loop that runs a model over images: order, failures, memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from famcli.inference.pipeline import Failed, all_finished, run_images
from famcli_models.errors import DataError


def loop(items: Any, **options: Any) -> Iterator[Any]:
    """Doubles numbers, three a batch; 5 cannot be loaded and 7 not finished."""

    def refuse(item: int, what: int) -> int:
        if item == what:
            msg = f"no {what}"
            raise DataError(msg)
        return item

    return run_images(
        items,
        lambda item: refuse(item, 5),
        lambda batch: [2 * value for _, value in batch],
        lambda item, loaded, inferred: (refuse(item, 7), loaded, inferred),
        **{"batch_size": 3, **options},
    )


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_results_keep_their_order(batch_size: int) -> None:
    """Whatever the batch size results come in the order of the items, failures in their place."""
    found = list(loop([*range(9), 5, 5, 5], batch_size=batch_size))
    assert [r.item if isinstance(r, Failed) else r[0] for r in found] == [*range(9), 5, 5, 5]
    assert [str(r.error) for r in found if isinstance(r, Failed)] == ["no 5", "no 7", "no 5", "no 5", "no 5"]
    assert [r for r in found if not isinstance(r, Failed)] == [(i, i, 2 * i) for i in (0, 1, 2, 3, 4, 6, 8)]
    assert list(loop([])) == []


def test_the_loop_is_lazy_and_can_be_left() -> None:
    """Memory stays flat: the source is at most three batches ahead of what was given out, also when one stops."""
    taken = 0

    def source() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield 0

    results = loop(source())
    for given in range(30):
        assert taken - given <= 9
        next(results)
    results.close()
    assert taken <= 39


def test_where_none_may_fail() -> None:
    """The first failure is raised, and without one all results are there."""
    assert len(all_finished(loop([1, 2]))) == 2
    with pytest.raises(DataError, match="no 5"):
        all_finished(loop([1, 7, 5][::-1]))

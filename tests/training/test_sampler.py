"""Which images are in which step: properties of the order."""

from __future__ import annotations

from itertools import chain, islice
from typing import Any

import pytest
from hypothesis import given, strategies as st

from famcli.training.sampler import Order, View
from famcli_models.errors import ConfigError


@st.composite
def orders(draw: st.DrawFn) -> dict[str, Any]:
    """Fields of an order whose steps can be shared by ``accumulate * processes``."""
    accumulate, processes = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    batch_size = accumulate * processes * draw(st.integers(1, 4))
    return {
        "images": batch_size + draw(st.integers(0, 20)),
        "batch_size": batch_size,
        "epochs": draw(st.integers(1, 3)),
        "seed": draw(st.integers(0, 2**32 - 1)),
        "accumulate": accumulate,
        "processes": processes,
    }


def steps(order: Order, start: int = 0) -> list[list[View]]:
    """The views of each step of one process, forward passes joined."""
    batches = order.batches(start)
    found = []
    while parts := list(islice(batches, order.accumulate)):
        found.append([view for part in parts for view in part])
    return found


@given(orders())
def test_an_image_is_seen_once_an_epoch_at_most(fields: dict[str, Any]) -> None:
    """No image comes twice in an epoch over all processes, and what is left over is less than a step."""
    seen = [view for p in range(fields["processes"]) for step in steps(Order(process=p, **fields)) for view in step]
    order = Order(**fields)
    assert len(seen) == len(set(seen)) == order.size * order.steps
    assert {epoch for epoch, _ in seen} == set(range(1, order.epochs + 1))
    assert all(0 <= image < order.images for _, image in seen)
    assert order.images - order.size * order.epoch_steps < order.size


@given(orders(), st.data())
def test_any_step_can_be_the_first(fields: dict[str, Any], data: st.DataObject) -> None:
    """From any step on, the order is the tail of the whole one."""
    order = Order(**fields)
    start = data.draw(st.integers(0, order.steps))
    assert steps(order, start) == steps(order)[start:]


@given(orders())
def test_shares_make_one_step(fields: dict[str, Any]) -> None:
    """What the processes pass forward together, in any number of passes, is the step of one process in one pass."""
    alone = steps(Order(**{**fields, "accumulate": 1, "processes": 1}))
    shares = [steps(Order(process=p, **fields)) for p in range(fields["processes"])]
    assert all(len(part) == len(alone) for part in shares)
    for number, whole in enumerate(alone):
        together = [view for part in shares for view in part[number]]
        assert sorted(together) == sorted(whole)
    lengths = {len(batch) for p in range(fields["processes"]) for batch in Order(process=p, **fields).batches()}
    assert lengths == {fields["batch_size"] // (fields["accumulate"] * fields["processes"])}


def test_epochs_and_seeds_differ() -> None:
    """Another epoch and another seed are other orders of the same images; fewer images than a batch are one step."""
    first, second = steps(Order(images=50, batch_size=50, epochs=2, seed=0))
    other = steps(Order(images=50, batch_size=50, epochs=1, seed=1))[0]
    numbers = [[image for _, image in step] for step in (first, second, other)]
    assert numbers[0] != numbers[1] != numbers[2] != numbers[0]
    assert all(sorted(part) == list(range(50)) for part in numbers)
    order = Order(images=5, batch_size=32, epochs=3, seed=0)
    assert (order.size, order.epoch_steps, order.steps) == (5, 1, 3)


@given(orders(), st.data())
def test_pairs_are_of_one_label(fields: dict[str, Any], data: st.DataObject) -> None:
    """Two of a pair are different views of one label in one process; no view comes twice in an epoch."""
    fields |= {"batch_size": 2 * fields["batch_size"], "images": 2 * fields["images"]}
    count = fields["images"]
    labels = data.draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))
    orders_ = [Order(process=p, paired_by=labels, **fields) for p in range(fields["processes"])]
    epochs: dict[int, list[View]] = {epoch: [] for epoch in range(1, fields["epochs"] + 1)}
    for batches in (order.batches() for order in orders_):
        for batch in batches:
            for one, other in zip(batch[::2], batch[1::2], strict=True):
                assert one != other
                assert labels[one[1]] == labels[other[1]]
                epochs[one[0]] += [one, other]
    for found in epochs.values():
        assert len(set(found)) == len(found) == orders_[0].size * orders_[0].epoch_steps
    start = data.draw(st.integers(0, orders_[0].steps))
    assert steps(orders_[0], start) == steps(orders_[0])[start:]
    alone = Order(paired_by=labels, **{**fields, "accumulate": 1, "processes": 1})
    shares = zip(*map(steps, orders_), strict=True)
    assert [sorted(chain(*parts)) for parts in shares] == [sorted(whole) for whole in steps(alone)]


@pytest.mark.parametrize("labels", [[0, 1], [0, 0, 0]])
def test_what_is_left_alone_is_paired(labels: list[int]) -> None:
    """The one image of a label comes with another view of itself, the odd one of three with a new view of another."""
    order = Order(images=len(labels), batch_size=2, epochs=30, seed=0, paired_by=labels)
    alone = [pair for pair in order.batches() if pair[1][0] > order.epochs]
    assert len(alone) == 30 if len(labels) == 2 else 0 < len(alone) < 30
    for (epoch, image), (other_epoch, other) in alone:
        assert other_epoch == epoch + order.epochs
        assert (other == image) == (len(labels) == 2)


@pytest.mark.parametrize(
    "fields",
    [
        {"batch_size": 6, "processes": 2, "paired_by": [0] * 20},
        {"batch_size": 5, "processes": 2},
        {"batch_size": 6, "accumulate": 4},
        {"batch_size": 12, "accumulate": 3, "processes": 4, "images": 11},
    ],
)
def test_uneven_shares_are_refused(fields: dict[str, Any]) -> None:
    """A step that cannot be shared evenly is an error that names a batch size that can."""
    with pytest.raises(ConfigError, match=r"cannot be shared evenly .* multiple of \d+"):
        Order(**{"images": 20, "epochs": 1, "seed": 0, **fields})

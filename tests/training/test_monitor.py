"""What is logged of an epoch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from famcli.training.monitor import Epoch, Meter, stack

GOOD = Epoch(
    number=3,
    terms={"total": 1.0, "cla": 0.9, "spa": 0.5, "div": 0.1},
    measures={"foreground": 0.4, "spread": 0.2, "part_similarity": 0.5, "top1": 0.7},
    images=100,
    seconds=20.0,
    waiting=0.05,
)


def test_the_meter_by_hand() -> None:
    """Means are over images: 4 at 1 and 2 at 4 are 2; times add up, and waiting is a share of them."""
    meter = Meter()
    meter.add({"total": 1.0, "top1": 1.0}, 4, seconds=3.0, waiting=1.0)
    meter.add({"total": 4.0, "top1": 0.25}, 2, seconds=1.0, waiting=0.0)
    epoch = meter.epoch(7, skipped=2, measured=["top1"])
    assert (epoch.number, epoch.images, epoch.seconds, epoch.waiting, epoch.skipped) == (7, 6, 4.0, 0.25, 2)
    assert epoch.terms == {"total": pytest.approx(2.0)}
    assert epoch.measures == {"top1": pytest.approx(0.75)}
    assert epoch.gt_known is None


def test_a_meter_goes_through_json() -> None:
    """What has been added so far survives a save in the middle of an epoch."""
    meter = Meter()
    meter.add({"total": 0.1, "top1": 1 / 3}, 3, 0.7, 0.1)
    again = Meter(**json.loads(json.dumps(dataclasses.asdict(meter))))
    assert again == meter


def test_an_epoch_of_an_older_version() -> None:
    """Version 0.1 kept the measures beside the other fields, and none for the parts of a CAM."""
    old = {**dataclasses.asdict(GOOD), **GOOD.measures, "part_similarity": None}
    del old["measures"]
    measures = {name: value for name, value in GOOD.measures.items() if name != "part_similarity"}
    assert Epoch.from_dict(old) == dataclasses.replace(GOOD, measures=measures)
    assert Epoch.from_dict(dataclasses.asdict(GOOD)) == GOOD


def test_stack_keeps_the_order() -> None:
    """Scalars of any type and shape of one element become one float32 vector."""
    values = {"b": torch.tensor(2.0, dtype=torch.float64), "a": torch.tensor([1], dtype=torch.int64)}
    assert torch.equal(stack(values), torch.tensor([2.0, 1.0]))


def test_warnings(make_model: Callable[..., Any]) -> None:
    """To what the method says of its maps comes a word about slow loading."""
    assert GOOD.warnings(make_model()) == []
    found = dataclasses.replace(GOOD, measures={**GOOD.measures, "spread": 0.0}, waiting=0.4).warnings(make_model())
    assert [warning[:9] for warning in found] == ["M is flat", "40% of th"]


def test_the_row_of_an_epoch() -> None:
    """The metrics file has the number, each term, each measure, and images a second."""
    assert list(GOOD.row()) == [
        *("epoch", "total", "cla", "spa", "div", "foreground", "spread", "part_similarity", "top1", "images"),
        *("seconds", "waiting", "skipped", "gt_known", "images_per_second"),
    ]
    assert GOOD.row()["images_per_second"] == 5.0
    assert GOOD.row()["epoch"] == 3
    assert dataclasses.replace(GOOD, seconds=0.0).row()["images_per_second"] is None

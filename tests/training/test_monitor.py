"""What is logged of an epoch."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from famcli.training.monitor import Epoch, Meter, write_metrics

GOOD = Epoch(
    number=3,
    terms={"total": 1.0, "cla": 0.9, "spa": 0.5, "div": 0.1},
    measures={"foreground": 0.4, "spread": 0.2, "part_similarity": 0.5, "top1": 0.7},
    images=100,
    seconds=20.0,
    waiting=0.05,
)


def test_the_meter_by_hand() -> None:
    """Means are over images: 4 at 1 and 2 at 4 are 2; times add up, waiting is a share; JSON keeps what was added."""
    meter = Meter()
    meter.add({"total": 1.0, "top1": 1.0}, 4, seconds=3.0, waiting=1.0)
    meter.add({"total": 4.0, "top1": 0.25}, 2, seconds=1.0, waiting=0.0)
    epoch = meter.epoch(7, skipped=2, measured=["top1"])
    assert (epoch.number, epoch.images, epoch.seconds, epoch.waiting, epoch.skipped) == (7, 6, 4.0, 0.25, 2)
    assert epoch.terms == {"total": pytest.approx(2.0)}
    assert epoch.measures == {"top1": pytest.approx(0.75)}
    assert epoch.gt_known is None
    meter.add({"total": 0.1, "top1": 1 / 3}, 3, 0.7, 0.1)
    assert Meter(**json.loads(json.dumps(dataclasses.asdict(meter)))) == meter


def test_an_epoch_in_a_line(make_model: Callable[..., Any]) -> None:
    """Terms, measures, score, speed and time left in a line; the weighted sum of terms; warnings of what is odd."""
    assert dataclasses.replace(GOOD, gt_known=61.25).sentence(6, "train-fullsup") == (
        "epoch 3 of 6: total 1.0000  cla 0.9000  spa 0.5000  div 0.1000  foreground 40.0%  top1 70.0%  spread 0.200  "
        "part similarity 0.500  train-fullsup GT-known 61.2 %  5 images/s  1 min left"
    )
    assert "GT-known" not in GOOD.sentence(6, "loss")
    assert GOOD.objective({"cla": 1.0, "spa": 2.0, "target": 3.0}) == pytest.approx(0.9 + 2.0 * 0.5)
    assert GOOD.warnings(make_model()) == []
    found = dataclasses.replace(GOOD, measures={**GOOD.measures, "spread": 0.0}, waiting=0.4).warnings(make_model())
    assert [warning[:9] for warning in found] == ["M is flat", "40% of th"]


def test_the_metrics_file(tmp_path: Path) -> None:
    """A header and a line an epoch with terms and measures; version 0.1 kept the measures beside the other fields."""
    path = tmp_path / "metrics.csv"
    write_metrics(path, [GOOD])
    write_metrics(path, [GOOD, dataclasses.replace(GOOD, number=4, gt_known=50.0, seconds=0.0)])
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        *("epoch", "total", "cla", "spa", "div", "foreground", "spread", "part_similarity", "top1", "images"),
        *("seconds", "waiting", "skipped", "gt_known", "images_per_second"),
    ]
    assert [(row["epoch"], row["gt_known"], row["images_per_second"]) for row in rows] == [
        ("3", "", "5.0"),
        ("4", "50.0", ""),
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.csv"]
    old = {**dataclasses.asdict(GOOD), **GOOD.measures, "part_similarity": None}
    del old["measures"]
    measures = {name: value for name, value in GOOD.measures.items() if name != "part_similarity"}
    assert Epoch(**Epoch.current(old)) == dataclasses.replace(GOOD, measures=measures)
    assert Epoch(**Epoch.current(dataclasses.asdict(GOOD))) == GOOD

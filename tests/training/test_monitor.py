"""What is logged of an epoch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from famcli.training.monitor import MEASURES, Epoch, Meter, measure, stack
from famcli_models.methods.cam import CAMOutput
from famcli_models.methods.fam import FAM, FAMOutput

GOOD = Epoch(
    number=3,
    terms={"total": 1.0, "cla": 0.9, "spa": 0.5, "div": 0.1},
    foreground=0.4,
    spread=0.2,
    part_similarity=0.5,
    top1=0.7,
    images=100,
    seconds=20.0,
    waiting=0.05,
)


def test_the_meter_by_hand() -> None:
    """Means are over images: 4 at 1 and 2 at 4 are 2; times add up, and waiting is a share of them."""
    meter = Meter()
    zeros = dict.fromkeys(MEASURES, 0.0)
    meter.add({"total": 1.0, **zeros, "top1": 1.0}, 4, seconds=3.0, waiting=1.0)
    meter.add({"total": 4.0, **zeros, "top1": 0.25}, 2, seconds=1.0, waiting=0.0)
    epoch = meter.epoch(7, skipped=2)
    assert (epoch.number, epoch.images, epoch.seconds, epoch.waiting, epoch.skipped) == (7, 6, 4.0, 0.25, 2)
    assert epoch.terms == {"total": pytest.approx(2.0)}
    assert epoch.top1 == pytest.approx(0.75)
    assert epoch.gt_known is None


def test_a_meter_goes_through_json() -> None:
    """What has been added so far survives a save in the middle of an epoch."""
    meter = Meter()
    meter.add({"total": 0.1, "top1": 1 / 3}, 3, 0.7, 0.1)
    again = Meter(**json.loads(json.dumps(dataclasses.asdict(meter))))
    assert again == meter


def output(M: list[list[float]], A: list[list[list[float]]], logits: list[list[float]]) -> FAMOutput:
    """Maps of one row of cells: M ``(B, W)``, A ``(B, K, W)``."""
    maps, parts, none = torch.tensor(M)[:, None, None], torch.tensor(A)[:, :, None], torch.empty(0)
    return FAMOutput(maps, parts, none, none, none, torch.tensor(logits))


def test_measure_by_hand() -> None:
    """Three of eight cells pass; deviations 1/2 and 0; part cosines 0 and 1; one label of two is right."""
    out = output(
        [[1.0, 1.0, -1.0 + 1.0, 0.0], [0.5, 0.5, 0.5, 0.5 + 1e-3]],
        [[[1.0, 0, 0, 0], [0, 2.0, 0, 0]], [[1.0, 1, 0, 0], [3.0, 3, 0, 0]]],
        [[0.0, 1.0], [0.0, 1.0]],
    )
    found = {name: float(value) for name, value in measure(out, torch.tensor([1, 0]), tau=0.5).items()}
    assert list(found) == list(MEASURES)
    assert found["foreground"] == pytest.approx(3 / 8)
    assert found["spread"] == pytest.approx(0.5 / 2, abs=1e-3)
    assert found["part_similarity"] == pytest.approx(0.5)
    assert found["top1"] == 0.5


def test_a_single_part_is_like_no_other() -> None:
    """With K = 1 there is nothing to compare."""
    out = output([[1.0, 0.0]], [[[1.0, 2.0]]], [[1.0, 0.0]])
    assert measure(out, torch.tensor([0]), 0.5)["part_similarity"] == 0


def test_measure_of_a_model(make_model: Callable[..., FAM]) -> None:
    """On a real output all four are shares or similarities."""
    with torch.no_grad():
        out = make_model()(torch.rand(2, 3, 64, 64))
        found = measure(out, torch.tensor([0, 1]), 0.5)
    assert all(torch.isfinite(value) and -1 <= value <= 1 for value in found.values())


def test_stack_keeps_the_order() -> None:
    """Scalars of any type and shape of one element become one float32 vector."""
    values = {"b": torch.tensor(2.0, dtype=torch.float64), "a": torch.tensor([1], dtype=torch.int64)}
    assert torch.equal(stack(values), torch.tensor([2.0, 1.0]))


def test_a_good_epoch_has_no_warnings() -> None:
    """Nothing is said when nothing is wrong."""
    assert GOOD.warnings() == []
    assert not GOOD.collapsed


@pytest.mark.parametrize(
    ("fields", "words", "collapsed"),
    [
        ({"spread": 0.01, "foreground": 0.0}, "M is flat (standard deviation 0.0100): it has collapsed", True),
        ({"foreground": 0.002}, "M passes the threshold in 0.2% of the cells; lower lambda_spa", True),
        ({"foreground": 0.97}, "M passes the threshold in 97.0% of the cells; raise lambda_spa", True),
        ({"part_similarity": 0.995}, "the part maps are alike (cosine 0.995); raise part_std", False),
        ({"waiting": 0.4}, "40% of the time went into waiting for images; raise --workers", False),
    ],
)
def test_warnings_in_words(fields: dict[str, Any], words: str, collapsed: bool) -> None:
    """Each thing that is wrong is one sentence with its number and what to change."""
    epoch = dataclasses.replace(GOOD, **fields)
    assert len(epoch.warnings()) == 1
    assert epoch.warnings()[0].startswith(words)
    assert epoch.collapsed == collapsed


def test_the_row_of_an_epoch() -> None:
    """The metrics file has the number, each term, each measure, and images a second."""
    assert list(GOOD.row()) == [
        "epoch",
        "total",
        "cla",
        "spa",
        "div",
        "foreground",
        "spread",
        "part_similarity",
        "top1",
        "images",
        "seconds",
        "waiting",
        "skipped",
        "gt_known",
        "images_per_second",
    ]
    assert GOOD.row()["images_per_second"] == 5.0
    assert GOOD.row()["epoch"] == 3
    assert dataclasses.replace(GOOD, seconds=0.0).row()["images_per_second"] is None


OF_CAM = dataclasses.replace(GOOD, terms={"total": 0.9, "cla": 0.9}, part_similarity=None)


def test_a_cam_has_no_parts() -> None:
    """What is measured of a CAM is measured alike, the part maps are left out, and nothing stands in for them."""
    M = torch.tensor([[[[1.0, 0.1], [0.3, 0.0]]]])
    found = measure(CAMOutput(M, torch.tensor([[0.0, 1.0]])), torch.tensor([1]), tau=0.2)
    assert list(found) == ["foreground", "spread", "top1"]
    assert (float(found["foreground"]), float(found["top1"])) == (0.5, 1.0)
    meter = Meter()
    meter.add({"total": 2.0, "cla": 2.0, **{name: float(value) for name, value in found.items()}}, 4, 1.0, 0.0)
    epoch = meter.epoch(1, skipped=0)
    assert (epoch.terms, epoch.part_similarity) == ({"total": 2.0, "cla": 2.0}, None)
    assert epoch.row()["part_similarity"] is None
    assert list(epoch.row()) == [name for name in GOOD.row() if name not in ("spa", "div")]


@pytest.mark.parametrize(
    ("fields", "words", "collapsed"),
    [
        ({}, "", False),
        ({"foreground": 0.97}, "97.0% of the cells of the maps pass the threshold; set another tau", False),
        ({"foreground": 0.001}, "0.1% of the cells of the maps pass the threshold; set another tau", False),
        ({"spread": 0.0, "foreground": 0.0}, "the maps are flat (standard deviation 0.0000)", True),
    ],
)
def test_warnings_about_a_cam(fields: dict[str, Any], words: str, collapsed: bool) -> None:
    """The maps of a CAM reach from 0 to 1 whatever was learnt: no warning speaks of lambda_spa or of parts."""
    epoch = dataclasses.replace(OF_CAM, **fields)
    assert len(epoch.warnings()) == bool(words)
    assert "".join(epoch.warnings()).startswith(words)
    assert epoch.collapsed == collapsed

"""What a method measures of a training batch, and what it says of the means of an epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from famcli_models import CAM, FAM
from famcli_models.methods.fam import FAMOutput

MEASURES = ["foreground", "spread", "part_similarity", "top1"]
GOOD = {"foreground": 0.4, "spread": 0.2, "part_similarity": 0.5, "top1": 0.7}
FLAT = "M is flat (standard deviation 0.0100): it has collapsed and no threshold will find a box; {}, and see"


@pytest.fixture
def methods(make_model: Callable[..., Any]) -> dict[str, Any]:
    """A model of each method, their tau 1/2."""
    return {"fam": make_model(), "cam": make_model(method="cam", tau=0.5)}


def output(M: list[list[float]], A: list[list[list[float]]], logits: list[list[float]]) -> FAMOutput:
    """Maps of one row of cells: M ``(B, W)``, A ``(B, K, W)``."""
    maps, parts, none = torch.tensor(M)[:, None, None], torch.tensor(A)[:, :, None], torch.empty(0)
    return FAMOutput(maps, parts, none, none, none, torch.tensor(logits), none)


def test_measures_by_hand(methods: dict[str, FAM]) -> None:
    """Three of eight cells pass; deviations 1/2 and 0; part cosines 0 and 1; one label of two is right."""
    out = output(
        [[1.0, 1.0, 0.0, 0.0], [0.5, 0.5, 0.5, 0.5 + 1e-3]],
        [[[1.0, 0, 0, 0], [0, 2.0, 0, 0]], [[1.0, 1, 0, 0], [3.0, 3, 0, 0]]],
        [[0.0, 1.0], [0.0, 1.0]],
    )
    found = {name: float(value) for name, value in methods["fam"].measures(out, torch.tensor([1, 0])).items()}
    assert list(found) == MEASURES
    assert found["foreground"] == pytest.approx(3 / 8)
    assert found["spread"] == pytest.approx(0.5 / 2, abs=1e-3)
    assert found["part_similarity"] == pytest.approx(0.5)
    assert found["top1"] == 0.5
    single = output([[1.0, 0.0]], [[[1.0, 2.0]]], [[1.0, 0.0]])  # with K = 1 there is nothing to compare
    assert methods["fam"].measures(single, torch.tensor([0]))["part_similarity"] == 0


def test_measures_of_a_model(methods: dict[str, FAM | CAM]) -> None:
    """On a real output all are shares or similarities; a CAM has no parts to compare."""
    for name, model in methods.items():
        with torch.no_grad():
            found = model.measures(model(torch.rand(2, 3, 64, 64)), torch.tensor([0, 1]))
        assert list(found) == [measure for measure in MEASURES if name == "fam" or measure != "part_similarity"]
        assert all(torch.isfinite(value) and -1 <= value <= 1 for value in found.values())


@pytest.mark.parametrize(
    ("method", "fields", "words", "collapsed"),
    [
        ("fam", {}, "", False),
        ("fam", {"spread": 0.01, "foreground": 0.0}, FLAT.format("lower lambda_spa"), True),
        ("fam", {"spread": 0.01, "foreground": 1.0}, FLAT.format("raise lambda_spa"), True),
        ("fam", {"spread": 0.01}, FLAT.format("lower lr"), True),
        ("fam", {"foreground": 0.002}, "M passes the threshold in 0.2% of the cells; lower lambda_spa", True),
        ("fam", {"foreground": 0.97}, "M passes the threshold in 97.0% of the cells; raise lambda_spa", True),
        ("fam", {"part_similarity": 0.995}, "the part maps are alike (cosine 0.995); raise part_std", False),
        ("cam", {}, "", False),
        ("cam", {"foreground": 0.97}, "97.0% of the cells of the maps pass the threshold; set another tau", False),
        ("cam", {"foreground": 0.001}, "0.1% of the cells of the maps pass the threshold; set another tau", False),
        ("cam", {"spread": 0.0, "foreground": 0.0}, "the maps are flat (standard deviation 0.0000)", True),
    ],
)
def test_warnings_in_words(
    methods: dict[str, Any], method: str, fields: dict[str, float], words: str, collapsed: bool
) -> None:
    """Each thing that is wrong is one sentence with its number and what to change; nothing is said when nothing is."""
    measures = {**GOOD, **fields}
    found = methods[method].warnings(measures)
    assert len(found) == bool(words)
    assert "".join(found).startswith(words)
    assert methods[method].collapsed(measures) == collapsed

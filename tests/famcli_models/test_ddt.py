"""DDT: the direction, its sign, boxes, and a method that is fitted to images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import Result

from famcli_models.errors import ConfigError
from famcli_models.methods.ddt import DDT, FEWEST, boxes, find_direction, find_scores, group_labels

Make = Callable[..., Any]
IMAGES = torch.randn(2 * FEWEST, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def objects() -> torch.Tensor:
    """Features of two images, (0, 1, 0) in the cells of an object and (1, 0, 0) elsewhere."""
    X = torch.zeros(2, 3, 4, 4)
    X[:, 0] = 1
    for image, rows, columns in ((0, slice(1, 3), slice(1, 3)), (1, slice(0, 2), slice(2, 4))):
        X[image, 0, rows, columns], X[image, 1, rows, columns] = 0, 1
    return X


def test_by_hand() -> None:
    """Mean, direction, scores and boxes of two small images; the object is positive, though the loadings tie."""
    X = objects()
    mean, v = find_direction(X)
    torch.testing.assert_close(mean, torch.tensor([0.75, 0.25, 0.0]))
    torch.testing.assert_close(v, torch.tensor([-(0.5**0.5), 0.5**0.5, 0.0]))
    s = find_scores(X, mean, v)
    assert s[0, 1, 1].item() == pytest.approx(1.0607, abs=1e-4)
    assert s[0, 0, 0].item() == pytest.approx(-0.3536, abs=1e-4)
    torch.testing.assert_close(boxes(s), torch.tensor([[0.25, 0.25, 0.75, 0.75], [0.5, 0, 1, 0.5]]))
    assert boxes(torch.full((1, 4, 4), -1.0)).tolist() == [[0, 0, 1, 1]]


def test_classes_of_few_images_share_a_direction() -> None:
    """They are one group; a class of as many as it takes has its own."""
    labels = torch.tensor([7] * FEWEST + [1, 2, 2])
    assert group_labels(labels).tolist() == [7] * FEWEST + [-1] * 3


def test_it_is_fitted_to_images(make_model: Make) -> None:
    """A model's DDT keeps its classes; it has maps once it has images, by class where there are enough of one."""
    model = make_model(method="cam").eval()
    ddt = DDT.from_model(model)
    labels = torch.tensor([0, 1]).repeat_interleave(FEWEST)
    with torch.no_grad():
        out = ddt(IMAGES)
        torch.testing.assert_close(out.logits, model(IMAGES).logits)
        with pytest.raises(ConfigError, match="pass over images"):
            ddt.maps(out)
        ddt.fit(out, labels)
        zero, one, four = (ddt.maps(out, torch.full_like(labels, label)) for label in (0, 1, 4))
        expected = find_scores(out.X, *find_direction(out.X[labels == 1].half())) > 0
        assert torch.equal(one > ddt.config.tau, expected)
        pooled = find_scores(out.X, *find_direction(out.X.half())) > 0
        assert torch.equal(four > ddt.config.tau, pooled)
    assert not torch.equal(zero, one)
    assert (one.amin() >= 0, one.amax() <= 1) == (True, True)


@pytest.mark.slow
def test_the_command_line(
    fam: Callable[..., Result], make_model: Make, make_splits: Callable[..., Path], tmp_path: Path
) -> None:
    """predict and eval take a model of any method, with shards alike, and training is refused."""
    model, photos = tmp_path / "model", tmp_path / "labelled"
    make_model(num_classes=2).save_pretrained(model)
    data, whole, joined = (
        make_splits(train_weaksup=[0, 1], test=list(range(2, 8))),
        tmp_path / "whole.jsonl",
        tmp_path / "joined.jsonl",
    )
    arguments = ("--model", model, "--method", "ddt", "--device", "cpu")
    done = fam("predict", photos, *arguments, "--out", whole)
    assert (done.exit_code, "first pass over 8 of 8 images" in done.stderr) == (0, True), done.stderr
    for shard in ("0/2", "1/2"):
        fam("predict", photos, *arguments, "--out", joined, "--shard", shard)
    assert fam("predict", photos, *arguments, "--out", joined, "--join").exit_code == 0
    assert joined.read_bytes() == whole.read_bytes()
    done = fam("eval", "--data", data, *arguments, "--out", tmp_path / "results")
    assert done.exit_code == 0, done.stderr
    assert json.loads((tmp_path / "results/results.json").read_text())["rows"][0]["title"] == "DDT"
    refused = fam("train", "--data", data, "--method", "ddt", "--set", "backbone_weights=none", "--out", tmp_path / "x")
    assert (refused.exit_code, "DDT is not trained" in refused.stderr) == (1, True)

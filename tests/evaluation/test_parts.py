"""An evaluation in several processes: parts that are measured one by one, and joined into what one process has."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from famcli.data.dataset import Dataset, open_dataset
from famcli.evaluation.parts import evaluate_shares, remove_parts
from famcli.evaluation.perimage import EvaluationSettings
from famcli.evaluation.run import Evaluation, EvaluationRun
from famcli.inference.ranks import Rank, RankFiles
from famcli.results.io import to_json
from famcli.results.schema import dumps
from famcli_models.errors import DataError

Prepare = Callable[..., EvaluationRun]
SETTINGS = EvaluationSettings(device="cpu", batch_size=2, processes=1, interval=0.05)
IMAGES = 7


@pytest.fixture
def dataset(make_dataset: Callable[..., Path]) -> Dataset:
    """Images of two sizes, with one box each, in the splits test and train-fullsup."""
    root = make_dataset([(f"{i}.png", i % 3, [(5 + i, 5, 30, 30)], (40, 50 + i % 2)) for i in range(IMAGES)])
    shutil.copytree(root / "metadata" / "test", root / "metadata" / "train-fullsup")
    return open_dataset(root)


@pytest.fixture
def prepare(dataset: Dataset, checkpoint: Path) -> Prepare:
    """A function that prepares an evaluation of the dataset with these settings."""

    def run(changes: dict[str, Any], **options: Any) -> EvaluationRun:
        return EvaluationRun.prepare(dataset, checkpoint, replace(SETTINGS, **changes), **options)

    return run


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """Masks of every other image."""
    (tmp_path / "pixels").mkdir()
    for i in range(0, IMAGES, 2):
        mask = np.zeros((40, 50 + i % 2), np.uint8)
        mask[5:31, 5 + i : 31] = 255
        Image.fromarray(mask).save(tmp_path / "pixels" / f"{i}.png")
    return tmp_path / "pixels"


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    """Maps of another tool."""
    (tmp_path / "maps").mkdir()
    for i in range(IMAGES):
        np.save(tmp_path / "maps" / f"{i}.png.npy", np.random.default_rng(i).random((7, 8)))
    return tmp_path / "maps"


def written(found: Evaluation | None) -> tuple[dict[str, Any], list[str]]:
    """What is written of a result, but when it was made."""
    assert found is not None
    return {**to_json(found.results), "created": ""}, [dumps(image) for image in found.images()]


def in_shards(run: EvaluationRun, out: Path, count: int) -> tuple[dict[str, Any], list[str]]:
    """The result of a run in shards; its parts are removed."""
    for rank in Rank(0, count).all():
        assert evaluate_shares(run, out, rank) is None
    found = written(evaluate_shares(run, out, Rank(0, count), join=True))
    remove_parts(out, Rank(0, count))
    return found


@pytest.mark.parametrize(("protocol", "count"), [("fam", 3), ("psol", 4), ("wsoleval-v1", 2), ("wsoleval-v2", 4)])
def test_shards_are_joined(
    prepare: Prepare, masks: Path, checkpoint: Path, tmp_path: Path, protocol: str, count: int
) -> None:
    """With a baseline, masks and τ chosen on train-fullsup the joined result is that of one process."""
    run = prepare({"protocol": protocol}, baseline=checkpoint, masks=masks)
    assert in_shards(run, tmp_path / "results.json", count) == written(run.results(run.measure()))
    assert not list(tmp_path.glob("results*"))


@pytest.mark.parametrize("protocol", ["wsoleval-v1", "wsoleval-v2"])
def test_maps_of_other_tools(prepare: Prepare, maps: Path, tmp_path: Path, protocol: str) -> None:
    """Maps that are files are shared too, more shards than images too; a missing one is left out if that is allowed."""
    (maps / "3.png.npy").unlink()
    run = prepare({"protocol": protocol, "allow_missing": True}, maps=maps)
    assert in_shards(run, tmp_path / "results.json", 9) == written(run.results(run.measure()))


def test_an_image_that_cannot_be_read(prepare: Prepare, dataset: Dataset, tmp_path: Path) -> None:
    """It is left out of its shard and of the result."""
    (dataset.root / "6.png").write_bytes(b"")
    run = prepare({"allow_missing": True})
    found = in_shards(run, tmp_path / "results.json", 3)
    assert found == written(run.results(run.measure()))
    assert found[0]["data"]["images"] == IMAGES - 1


def test_a_finished_part_is_taken_up(prepare: Prepare, dataset: Dataset, tmp_path: Path) -> None:
    """With resume it is not measured again: the images may even be gone. Without, it is."""
    out, said = tmp_path / "results.json", []
    for rank in Rank(0, 2).all():
        evaluate_shares(prepare({}), out, rank)
    for i in range(IMAGES):
        (dataset.root / f"{i}.png").write_bytes(b"")
    run = prepare({}, say=said.append)
    assert evaluate_shares(run, out, Rank(1, 2), resume=True) is None
    assert said[-1] == "shard 1/2 was done before"
    assert len(written(evaluate_shares(run, out, Rank(0, 2, "torchrun"), resume=True))[1]) == IMAGES
    with pytest.raises(DataError, match=r"0\.png"):
        evaluate_shares(run, out, Rank(0, 2))
    assert sorted(path.name for path in tmp_path.glob("results*")) == ["results.json.1-of-2.done"]


@pytest.mark.parametrize(
    "changes", [{"protocol": "first-box"}, {"same_classes": False}, {"crops": 10}, {"allow_missing": True}]
)
def test_parts_of_another_run(prepare: Prepare, tmp_path: Path, changes: dict[str, Any]) -> None:
    """A part that was measured otherwise is refused; how fast it was measured makes no difference."""
    out = tmp_path / "results.json"
    evaluate_shares(prepare({}), out, Rank(0, 2))
    evaluate_shares(prepare({"batch_size": 4, "workers": 1}), out, Rank(0, 2), resume=True)
    with pytest.raises(DataError, match="of other options, data or weights"):
        evaluate_shares(prepare(changes), out, Rank(0, 2), resume=True)


def test_parts_of_other_weights(prepare: Prepare, make_model: Callable[..., Any], tmp_path: Path) -> None:
    """So is one of other weights, and one that is no part."""
    out, part = tmp_path / "results.json", RankFiles.beside(tmp_path / "results.json", Rank(0, 2)).done
    evaluate_shares(prepare({}), out, Rank(0, 2))
    make_model(seed=1).save_pretrained(tmp_path / "other")
    with pytest.raises(DataError, match="of other options, data or weights"):
        evaluate_shares(prepare({}, baseline=tmp_path / "other"), out, Rank(0, 2), resume=True)
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(DataError, match="remove it and run this shard again"):
        evaluate_shares(prepare({}), out, Rank(0, 2), resume=True)

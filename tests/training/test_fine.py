"""A model with a finer M on its way through the toolkit, where map and features differ in size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from famcli import Predictor, Settings
from famcli.checkpoints.export import EXPORT_FORMATS, export
from famcli.checkpoints.reference import compare, record, run_engine
from famcli.checkpoints.verify import inspect
from famcli.data.sample import Sample
from famcli.evaluation.models import Model
from famcli.evaluation.perimage import EvaluationSettings, run_models
from famcli.inference.torch_engine import TorchEngine
from famcli.training.loading import CachedFeatures, Views, map_size
from famcli.training.sampler import Order
from famcli.training.supervision import make_targets
from famcli_models import CAM, FAM
from famcli_models.preprocess import normalize

CPU = torch.device("cpu")
Make = Callable[..., FAM]


@pytest.fixture
def fine(make_model: Make) -> FAM:
    """A tiny model with maps of 8 x 8 on features of 4 x 4."""
    model = make_model(fine_channels=16, fine_layers=2, classifier="frozen").eval()
    model.provenance["classifier"] = "pretrained"
    return model


def test_cached_maps(fine: FAM, labelled: list[Sample]) -> None:
    """Features that are kept are those of the views, X and the earlier ones, laid out in memory as the network does."""
    views = Views(labelled, 64, map_size(fine, 64, CPU), 0)
    assert views.map_hw == (8, 8)
    cached = CachedFeatures(fine, views, 3, CPU, 0, rounds=2)
    fresh = [views[2, image].inputs for image in (5, 0, 6)]
    with torch.no_grad():
        want = fine.features(normalize(torch.stack(fresh), fine.config.mean, fine.config.std))
    *maps, targets, labels = cached.rounds[1]
    assert targets.shape == (8, 8, 8)
    assert labels.tolist() == [sample.label for sample in labelled]
    assert len(want.maps) == 3
    for kept, expected in zip(maps, want.maps, strict=True):
        assert kept.dtype == torch.float16
        assert kept.stride()[1:] == expected.stride()[1:]
        torch.testing.assert_close(kept[[5, 0, 6]].float(), expected, rtol=1e-3, atol=1e-4)
    batch = next(cached.batches(Order(images=8, batch_size=3, epochs=1, seed=0), 0))
    assert [m.dtype for m in (batch.inputs, *batch.earlier)] == [torch.float32] * 3
    assert torch.equal(batch.earlier[0], cached.rounds[0][1][batch.images].float())


@pytest.mark.parametrize("cached_views", [0, 2])
def test_training(fine: FAM, labelled: list[Sample], train: Callable[..., Any], cached_views: int) -> None:
    """Targets for a fine M are made and fitted; every part of it learns, from views and from kept features alike."""
    targets = make_targets(fine, labelled, "cpu")
    before = {name: parameter.detach().clone() for name, parameter in fine.named_parameters()}
    training = train(fine, lr=1e-2, lambda_target=1.0, cached_views=cached_views, targets=targets)
    assert training.history[-1].terms["target"] < training.history[0].terms["target"]
    still = {name for name, parameter in fine.named_parameters() if torch.equal(parameter, before[name])}
    assert {name.split(".")[0] for name in still} == {"backbone", "classifier"}


def test_predictions(fine: FAM, picture: Callable[..., np.ndarray], labelled: list[Sample]) -> None:
    """Predictions and the evaluation have the fine M, the largest of several views; a CAM has that of X."""
    image = picture(80, 120)
    assert Predictor(fine, "cpu")(image).M.shape == (8, 8)
    several = Predictor(fine, "cpu", Settings(scales=(1.0, 1.5), flip=True))(image)
    assert several.M.shape == (12, 12)
    assert Predictor(CAM.from_model(fine), "cpu")(image).M.shape == (4, 4)
    models = [Model(TorchEngine(fine, "cpu"), "FAM"), Model(TorchEngine(CAM.from_model(fine), "cpu"), "CAM")]
    both, alone = (run_models(some, labelled[:3], (), EvaluationSettings()).maps for some in (models, models[1:]))
    assert [both[name][0].shape for name in ("FAM", "CAM")] == [(8, 8), (4, 4)]
    np.testing.assert_array_equal(alone["CAM"], both["CAM"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what is tested is the file, not torch's opinion of its own older parts
@pytest.mark.parametrize(("form", "tau"), [("torchscript", 0.5), ("torch-export", None), ("onnx", None)])
def test_exports(fine: FAM, tmp_path: Path, form: str, tau: float | None) -> None:
    """Exported files give the fine maps, and their boxes, for any number of pictures."""
    found = export(fine, tmp_path / f"fine{EXPORT_FORMATS[form].suffix}", form, tau=tau)
    assert found.good
    assert found.maps < 1e-4


def test_reference_outputs(fine: FAM, tmp_path: Path, make_model: Make) -> None:
    """The reference outputs are of the fine maps, and verification finds them again, and a change too."""
    fine.save_pretrained(tmp_path)
    kept = record(tmp_path)
    assert {len(line.split()) for line in kept["maps"]} == {64}
    assert inspect(tmp_path).problems == []
    other = make_model(seed=1, fine_channels=16, fine_layers=2)
    assert any("M differs by" in problem for problem in compare(kept, run_engine(TorchEngine(other, "cpu")))[1])

"""Training: losses, schedules, what is frozen, and what repeats."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from famcli.data.readers import Sample
from famcli.data.transforms import RandomCrop
from famcli.features import CachedFeatures, FreshFeatures, Views, map_size
from famcli.train import TrainConfig, fit, parameter_groups, rate_at, target_loss
from famcli_models.errors import ConfigError, DataError, FamError
from famcli_models.fam import FAM

CPU = torch.device("cpu")


@pytest.fixture
def samples(tmp_path: Path, picture: Callable[..., np.ndarray]) -> list[Sample]:
    """Eight images of two classes that colour tells apart."""
    made = []
    for i in range(8):
        array = picture(seed=i)
        array[..., i % 2] = 255 - array[..., i % 2]
        path = tmp_path / f"{i}.png"
        Image.fromarray(array).save(path)
        made.append(Sample(path.name, path, i % 2, np.zeros((0, 4))))
    return made


def test_overfits_a_few_images(make_model: Callable[..., FAM], samples: list[Sample]) -> None:
    """Eight images are learnt by heart in a few epochs."""
    config = TrainConfig(epochs=25, batch_size=4, backbone="trained", backbone_lr=0.1, lr=0.03)
    history = fit(make_model(frozen_norm=False), samples, config, "cpu", workers=0)
    assert history[-1].terms["cla"] < 0.5 * history[0].terms["cla"]
    assert history[-1].top1 == 1.0


@pytest.mark.parametrize("cached", [0, 2])
def test_the_same_seed_gives_the_same_weights(
    make_model: Callable[..., FAM], samples: list[Sample], cached: int
) -> None:
    """A run repeats bit by bit, and another seed is another run."""
    states = []
    for seed in (0, 0, 1):
        model = make_model()
        fit(model, samples, TrainConfig(epochs=2, batch_size=4, seed=seed, cached_views=cached), "cpu", workers=0)
        states.append(model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])


@pytest.mark.parametrize("classifier", ["frozen", "trained"])
def test_what_is_frozen_stays(make_model: Callable[..., FAM], samples: list[Sample], classifier: str) -> None:
    """A frozen backbone and a frozen classifier keep every value; the attention modules move."""
    model = make_model(classifier=classifier)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fit(model, samples, TrainConfig(epochs=1, batch_size=4), "cpu", workers=0)
    moved = {name.split(".")[0] for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    expected = {"object_attention", "part_attention"} | ({"classifier"} if classifier == "trained" else set())
    assert moved == expected


def test_parameter_groups(make_model: Callable[..., FAM]) -> None:
    """A slow classifier has a tenth of the rate, the backbone its share; vectors are not decayed."""
    model = make_model(classifier="slow")
    groups = parameter_groups(model, TrainConfig(backbone="trained", backbone_lr=0.01, weight_decay=0.5))
    share_of = {id(p): g["share"] for g in groups for p in g["params"]}
    assert share_of[id(model.classifier.weight)] == 0.1
    assert share_of[id(next(model.backbone.parameters()))] == 0.01
    assert all((g["weight_decay"] == 0) == all(p.ndim == 1 for p in g["params"]) for g in groups)
    assert len(share_of) == len(list(model.parameters()))


def test_rate() -> None:
    """100 steps with a tenth of warm-up: 1/10 at the first, 1 at the tenth, 1/2 half-way down, nearly 0 at the end."""
    assert rate_at(0, 100, 0.1) == pytest.approx(0.1)
    assert rate_at(9, 100, 0.1) == pytest.approx(1.0)
    assert rate_at(55, 100, 0.1) == pytest.approx(0.5)
    assert rate_at(99, 100, 0.1) == pytest.approx(0.5 * (1 + math.cos(math.pi * 89 / 90)))


def test_target_loss_by_hand() -> None:
    """M = (1/4, 1/2) with targets (0, 1): -(log 3/4 + log 1/2) / 2."""
    M = torch.tensor([[[[0.25, 0.5]]]])
    assert target_loss(M, torch.tensor([[[0.0, 1.0]]])).item() == pytest.approx(-math.log(0.75 * 0.5) / 2)
    assert torch.isfinite(target_loss(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1)))


def test_targets_draw_m(make_model: Callable[..., FAM], samples: list[Sample]) -> None:
    """Targets that are 1 everywhere raise the mean of M, targets that are 0 lower it."""
    means = []
    for value in (0.0, 1.0):
        config = TrainConfig(epochs=10, batch_size=4, lambda_target=10.0, lr=0.1)
        targets = [np.full((8, 8), value, np.float16)] * len(samples)
        means.append(fit(make_model(), samples, config, "cpu", 0, targets)[-1].foreground)
    assert means[1] - means[0] > 0.1


def test_a_loss_that_is_not_finite_stops(make_model: Callable[..., FAM], samples: list[Sample]) -> None:
    """A broken run ends with the step and what to do."""
    model = make_model()
    with torch.no_grad():
        model.classifier.bias.fill_(math.inf)
    with pytest.raises(FamError, match=r"loss is nan at step 0 .* lower the learning rate"):
        fit(model, samples, TrainConfig(batch_size=4), "cpu", workers=0)


def test_bad_input(make_model: Callable[..., FAM], samples: list[Sample]) -> None:
    """Labels beyond the classes and unreadable images are named."""
    beyond = [*samples[:-1], Sample("x.png", samples[0].path, 9, np.zeros((0, 4)))]
    with pytest.raises(DataError, match="'x.png' has label 9"):
        fit(make_model(), beyond, TrainConfig(batch_size=4), "cpu", workers=0)
    samples[3].path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"3\.png: not a JPEG"):
        fit(make_model(), samples, TrainConfig(batch_size=4), "cpu", workers=0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"lr": -1.0}, "lr is -1"),
        ({"backbone": "thawed"}, "backbone is 'thawed'"),
        ({"backbone": "trained", "cached_views": 2}, "cached_views needs"),
    ],
)
def test_bad_config(fields: dict[str, Any], message: str) -> None:
    """A value that is not allowed is named."""
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**fields)


def test_views_depend_on_epoch_and_image(samples: list[Sample]) -> None:
    """A view is the same for the same epoch and image, and another in the next epoch."""
    views = Views(samples, 64, (4, 4), seed=0)
    first, again = views[0][0], views[0][0]
    views.epoch = 1
    assert np.array_equal(first, again)
    assert not np.array_equal(first, views[0][0])


def test_picture_and_map_are_cut_alike() -> None:
    """A picture and a map of the same pattern stay aligned through crop and mirror."""
    pattern = np.zeros((64, 64), np.float32)
    pattern[8:40, 4:30] = 1
    photo = Image.fromarray((pattern[..., None] * 255).astype(np.uint8).repeat(3, axis=2))
    for seed in range(8):
        crop = RandomCrop.draw(56, np.random.default_rng(seed))
        seen, target = crop.of_picture(photo)[..., 0] / 255, crop.of_map(pattern, (56, 56))
        assert seen.shape == target.shape == (56, 56)
        assert np.abs(seen - target).mean() < 0.02


def test_cached_features_are_those_of_fresh_views(make_model: Callable[..., FAM], samples: list[Sample]) -> None:
    """Epoch 1 has the same features, fresh or cached, up to float16 and order."""
    model = make_model().eval()
    for parameter in model.backbone.parameters():
        parameter.requires_grad_(False)
    views = Views(samples, 64, map_size(model, CPU), seed=0)
    fresh = next(FreshFeatures(model, views, 8, CPU, 0).epoch(1))
    cached = next(CachedFeatures(model, views, 8, CPU, 0, rounds=1).epoch(1))

    def key(batch: tuple[torch.Tensor, ...]) -> list[float]:
        return sorted(batch[0].flatten(1).norm(dim=1).tolist())

    assert key(fresh) == pytest.approx(key(cached), rel=1e-3)

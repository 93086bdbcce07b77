"""FAMConfig and FAM."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from famcli_models import FAM, CAMConfig, FAMConfig, FAMOutput, MethodConfig
from famcli_models.attention import foreground_mean
from famcli_models.errors import ConfigError, UnknownNameError
from famcli_models.features import Features
from famcli_models.methods.method import Batch

Make = Callable[..., FAM]

# ---- FAMConfig -------------------------------------------------------------------------------------------


def test_defaults_are_the_paper_s_numbers() -> None:
    """N=3, K=5, λ_spa=0.04, λ_div=0.01 and τ=0.5; paper() is (1) and (7) as printed, and takes every other choice."""
    c = FAMConfig()
    assert (c.num_templates, c.num_parts, c.lambda_spa, c.lambda_div, c.tau) == (3, 5, 0.04, 0.01, 0.5)
    assert (c.memory, c.sparsity, c.diversity, c.importance) == (True, True, True, True)
    c = FAMConfig.paper(num_classes=7)
    assert (c.similarity, c.pooling, c.num_classes) == ("ratio", "features", 7)
    assert FAMConfig.paper(pooling="foreground").pooling == "foreground"
    with pytest.raises(dataclasses.FrozenInstanceError):
        c.tau = 0.3  # type: ignore[misc]


def test_configs_of_methods() -> None:
    """Each method has a config of its own; CAM starts from its own paper's threshold, and reads its older files."""
    assert (CAMConfig().method, CAMConfig().tau) == ("cam", 0.2)
    assert CAMConfig.from_dict({"method": "cam", "tau": 0.5, "num_parts": 5, "lambda_spa": 0.04}).tau == 0.5
    assert FAMConfig.from_dict({}).method == "fam"  # as in checkpoints that are older than the field
    with pytest.raises(ConfigError, match="unknown field 'lambda_cam' in a CAMConfig"):
        CAMConfig.from_dict({"lambda_cam": 1})
    with pytest.raises(ConfigError, match="method is 'cam'; it must be 'fam' in a FAMConfig"):
        FAMConfig.from_dict({"method": "cam"})


@pytest.mark.parametrize(
    "config",
    [
        FAMConfig(),
        FAMConfig.paper(backbone="vgg16", mean=(0.1, 0.2, 0.3), std=(1, 2, 3)),
        CAMConfig(num_classes=3),
        FAMConfig(memory=False, tau=0, object_scale=2, value_bias=True, classifier="slow", stride=32),
        FAMConfig(fine_channels=128, fine_layers=2),
    ],
)
def test_json_round_trip(config: MethodConfig) -> None:
    """A config written as JSON reads back equal, tuples and all."""
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config


BAD: dict[str, list[Any]] = {
    "method": ["gradcam", None],
    "backbone": [3, None],
    "num_classes": [0, 1.5, True, "10"],
    "box_score": [(1.0,), (1.0, math.nan, 0.0), (1e308, 1e308, 1e308), "abc", None],
    "temperature": [0.0, -1.0, math.nan, "1"],
    "num_templates": [0, 1000],
    "num_parts": [0, -1],
    "similarity": ["cosine", None],
    "pooling": ["max"],
    "memory": ["yes", 1],
    "sparsity": [None],
    "diversity": [0],
    "importance": ["off"],
    "lambda_spa": [-0.1, math.nan, math.inf],
    "lambda_div": [-1, "0.1", True],
    "tau": [-0.1, 1, math.nan],
    "classifier": ["finetuned"],
    "sparsity_warmup": [1.5],
    "part_std": [-1],
    "value_bias": [2],
    "object_scale": [0, math.inf],
    "class_pooling": ["max", None],
    "fine_channels": [-1, 4097, 16.0, True],
    "fine_factor": [0, 1, 3, 16, 2.0],
    "fine_layers": [0, 9],
    "class_evidence": [1],
    "stride": [4, 16.0],
    "dilation": ["no"],
    "same_padding": [None],
    "frozen_norm": [1],
    "backbone_head": [1],
    "size": [8, 100_000],
    "mean": [(0.5, 0.5), 0.5, ("a", "b", "c"), (math.nan, 0.5, 0.5), (0.5, math.inf, 0.5), (-1, -1, -1)],
    "std": [(0.5, 0, 0.5), (0.5, -1, 0.5), (0.5, math.nan, 0.5), (0.5, 0.5, math.inf), (True, True, True)],
}


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(FAMConfig)])
def test_bad_values_are_refused_by_name(field: str) -> None:
    """Every field refuses what it cannot use, and the message names the field; a new one brings its own refusals."""
    for value in BAD[field]:
        with pytest.raises(ConfigError, match=field):
            FAMConfig(**{field: value})


# ---- FAM; what every method does is in test_methods.py -----------------------------------------------------


def test_output(model: FAM) -> None:
    """The letters of the paper have the shapes that FAMOutput promises, and nobody changes them on the way."""
    out = model(torch.randn(2, 3, 64, 64))
    C = model.backbone.channels
    assert isinstance(out, FAMOutput)
    shapes = {"M": (2, 1, 4, 4), "A": (2, 5, 4, 4), "P": (2, 5, C), "t": (2, 5), "o": (2, C)}
    shapes |= {"logits": (2, 5), "object_logits": (2, 5)}
    assert {name: tuple(value.shape) for name, value in out._asdict().items()} == shapes
    assert all(value.isfinite().all() for value in out)
    with pytest.raises(AttributeError):
        out.M = None


@pytest.mark.parametrize("size_hw", [(63, 97), (33, 64), (17, 17), (101, 40)])
def test_odd_sizes(model: FAM, size_hw: tuple[int, int]) -> None:
    """Any height and width give a map and finite scores, in float64 too."""
    out = model.double()(torch.randn(1, 3, *size_hw, dtype=torch.float64))
    assert out.M.dtype == torch.float64
    assert out.M.shape[2:] == tuple(-(-side // 16) for side in size_hw)
    assert out.logits.isfinite().all()


def test_object_scale_is_seen_by_the_classifier_alone(make_model: Make) -> None:
    """The classifier sees object_scale times o; o itself and the map do not change."""
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        one, two = make_model().eval()(images), make_model(object_scale=2.0).eval()(images)
        torch.testing.assert_close(one.o, two.o)
        torch.testing.assert_close(two.logits, make_model(object_scale=2.0).classifier(2 * two.o))


@pytest.mark.parametrize("fine_channels", [0, 8])
def test_class_pooling_is_of_the_scores_alone(make_model: Make, fine_channels: int) -> None:
    """The mean of X under M is summed up cell by cell here; the loss, the map and the parts are those of the paper."""
    images, y = torch.randn(2, 3, 64, 64), torch.tensor([1, 3])
    made = {
        kind: make_model(class_pooling=kind, fine_channels=fine_channels).eval()
        for kind in ("parts", "foreground", "foreground+image")
    }
    out = {kind: model(images) for kind, model in made.items()}
    model, paper = made["parts"], out["parts"]
    X, M = model.features(images).X, F.adaptive_avg_pool2d(paper.M, 4)
    cells = [(X[..., i, j], M[..., i, j]) for i in range(4) for j in range(4)]
    foreground = sum(x * m for x, m in cells) / sum(m for _, m in cells)
    pooled = {"parts": paper.o, "foreground": foreground, "foreground+image": (foreground + X.mean((2, 3))) / 2}
    for kind, found in out.items():
        torch.testing.assert_close(found.logits, model.classifier(pooled[kind]))
        assert torch.equal(found.object_logits, paper.logits)
        assert all(torch.equal(a, b) for a, b in zip(found[:5], paper[:5], strict=True))
        assert torch.equal(made[kind].loss(found, Batch(y)).total, model.loss(paper, Batch(y)).total)


def test_scores_of_an_empty_foreground_are_finite() -> None:
    """Where M is 0 everywhere the mean under it is 0, and no division by nothing."""
    assert torch.equal(foreground_mean(torch.ones(1, 3, 2, 2), torch.zeros(1, 1, 2, 2)), torch.zeros(1, 3))


def test_own_backbone() -> None:
    """Any module with an attribute `channels` serves as backbone."""

    class Own(nn.Module):
        channels = 32

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 32, 3, stride=16)

        def forward(self, images: torch.Tensor) -> Features:
            return Features(self.conv(images))

    out = FAM(FAMConfig(num_classes=3), backbone=Own())(torch.randn(2, 3, 64, 64))
    assert out.M.shape == (2, 1, 4, 4)
    assert out.logits.shape == (2, 3)


def test_what_no_model_is_made_of(make_model: Make) -> None:
    """Too few class names and unknown backbones are refused; without names the classes are numbered."""
    with pytest.raises(ConfigError, match="2 class names for 3 classes"):
        FAM(FAMConfig(backbone="test_efficientnet", num_classes=3), ["a", "b"])
    with pytest.raises(UnknownNameError, match="mobilenetv1"):
        FAM(FAMConfig(backbone="mobilenet1"))
    assert make_model(num_classes=3).class_names == ("0", "1", "2")


def test_copies(make_model: Make) -> None:
    """Building is seeded by torch alone, and deepcopy gives a model of its own with the same numbers."""
    one, two = make_model(seed=3), make_model(seed=3)
    other = copy.deepcopy(one)
    for model in (two, other):
        assert all(torch.equal(v, model.state_dict()[k]) for k, v in one.state_dict().items())
    assert other.classifier.weight.data_ptr() != one.classifier.weight.data_ptr()

"""AdamW's groups and the course of the rate."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from famcli.training.config import TrainConfig
from famcli.training.optimizer import make_optimizer, parameter_groups, rate_at
from famcli_models.errors import ConfigError
from famcli_models.methods.fam import FAM


def test_parameter_groups(make_model: Callable[..., FAM]) -> None:
    """A slow classifier has a tenth of the rate, the backbone its share; vectors are not decayed."""
    model = make_model(classifier="slow")
    groups = parameter_groups(model, TrainConfig(backbone="trained", backbone_lr=0.01, weight_decay=0.5))
    share_of = {id(p): g["share"] for g in groups for p in g["params"]}
    assert share_of[id(model.classifier.weight)] == 0.1
    assert share_of[id(next(model.backbone.parameters()))] == 0.01
    assert all(g["weight_decay"] == (0.5 if p.ndim > 1 else 0) for g in groups for p in g["params"])
    assert len(share_of) == len(list(model.parameters()))


@pytest.mark.parametrize("fields", [{"backbone": "frozen"}, {"backbone": "trained", "backbone_lr": 0.0}])
def test_what_is_frozen_is_in_no_group(make_model: Callable[..., FAM], fields: dict[str, object]) -> None:
    """A frozen backbone and a frozen classifier need no gradient and no memory in the optimiser."""
    model = make_model(classifier="frozen")
    optimizer = make_optimizer(model, TrainConfig(**fields))
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        trained = name.split(".")[0] in ("object_attention", "part_attention")
        assert parameter.requires_grad == trained == (id(parameter) in held), name


def test_rate() -> None:
    """100 steps with a tenth of warm-up: 1/10 at the first, 1 at the tenth, 1/2 half-way down, nearly 0 at the end."""
    assert rate_at(0, 100, 0.1) == pytest.approx(0.1)
    assert rate_at(9, 100, 0.1) == pytest.approx(1.0)
    assert rate_at(55, 100, 0.1) == pytest.approx(0.5)
    assert rate_at(99, 100, 0.1) == pytest.approx(0.5 * (1 + math.cos(math.pi * 89 / 90)))


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.0), (1, 1.0), (3, 0.0), (7, 1.0), (2, 0.5)])
def test_rate_of_short_runs(steps: int, warmup: float) -> None:
    """However short the run, every rate is above 0 and at most 1, and the peak is reached."""
    rates = [rate_at(step, steps, warmup) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)
    assert max(rates) == 1


def test_nothing_to_train(make_model: Callable[..., FAM]) -> None:
    """A CAM whose backbone and classifier are frozen has nothing to learn, and the message says what to thaw."""
    with pytest.raises(ConfigError, match="nothing to train.*classifier=trained"):
        make_optimizer(make_model(method="cam", classifier="frozen"), TrainConfig())
    groups = parameter_groups(make_model(method="cam"), TrainConfig())
    assert {p.numel() for group in groups for p in group["params"]} == {5, 5 * make_model().channels}

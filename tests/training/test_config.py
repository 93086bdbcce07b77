"""How to train: what is allowed."""

from __future__ import annotations

from typing import Any

import pytest

from famcli.training.config import TrainConfig
from famcli_models.errors import ConfigError


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"epochs": 1.5}, "epochs is 1.5; it must be an integer"),
        ({"accumulate": 0}, "accumulate is 0"),
        ({"lr": -1.0}, "lr is -1"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"ema": 1.0}, "ema is 1"),
        ({"backbone": "thawed"}, "backbone is 'thawed'"),
        ({"precision": "int8"}, "precision is 'int8'; it must be one of fp32, bf16, fp16"),
        ({"compile": 1}, "compile is 1; it must be true or false"),
        ({"backbone": "trained", "cached_views": 2}, "cached_views needs"),
    ],
)
def test_bad_config(fields: dict[str, Any], message: str) -> None:
    """A value that is not allowed is named, with what is."""
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**fields)


def test_every_field_is_documented() -> None:
    """The docstring explains each field: the reference is made from it."""
    assert TrainConfig.__doc__ is not None
    assert [f for f in TrainConfig.__dataclass_fields__ if f"        {f}: " not in TrainConfig.__doc__] == []

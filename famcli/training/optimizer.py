"""AdamW, what it may change at which rate, and how the rate moves."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from famcli.training.config import TrainConfig
from famcli_models.errors import ConfigError
from famcli_models.methods.method import Method

SLOW = 0.1  # share of the learning rate for a "slow" classifier


def make_optimizer(model: Method, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW on :func:`parameter_groups`.

    Raises:
        ConfigError: Everything is frozen.
    """
    groups = parameter_groups(model, config)
    if not groups:
        msg = "nothing to train: backbone and classifier are both frozen; use --set classifier=trained"
        raise ConfigError(msg)
    return torch.optim.AdamW(groups, lr=config.lr)


def parameter_groups(model: Method, config: TrainConfig) -> list[dict[str, Any]]:
    """AdamW's groups: attention modules, classifier and backbone at their rates, no decay on vectors.

    Freezes what is frozen. Each group keeps its share of the peak rate as ``share``.
    """
    classifier = {"trained": 1.0, "slow": SLOW, "frozen": 0.0}[model.config.classifier]
    shares = {"classifier": classifier, "backbone": config.backbone_lr if config.backbone == "trained" else 0.0}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        share = shares.get(name.split(".")[0], 1.0)
        parameter.requires_grad_(share > 0)
        if share > 0:
            groups.setdefault((share, parameter.ndim > 1), []).append(parameter)
    return [
        {"params": p, "share": share, "weight_decay": config.weight_decay if decay else 0.0}
        for (share, decay), p in groups.items()
    ]


def rate_at(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate at a step: a linear rise, then a cosine to 0."""
    rise = max(1, round(steps * warmup))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))

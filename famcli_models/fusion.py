"""Batch norms folded into the convolutions before them, for faster inference."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from famcli_models.features import Features

PROBE_SIDE = 64  # pixels of the random images that the folded network is checked on
TOLERANCE = 1e-3  # of the largest feature of each map


def fold_norms(network: nn.Module) -> nn.Module:
    """A copy of a network in evaluation mode whose batch norms are part of its convolutions.

    A convolution and the batch norm registered right after it are taken for a pair. That holds for the
    usual networks but is a guess, so the copy is compared with the original on random images, and the
    original is given back if they disagree.

    Args:
        network: Maps images ``(B, 3, h, w)`` to :class:`famcli_models.features.Features`; it is not changed.
    """
    pairs = norm_pairs(network)
    if not pairs:
        return network
    folded = copy.deepcopy(network).eval()
    for conv, norm in pairs:
        _absorb(folded.get_submodule(conv), folded.get_submodule(norm))
        folded.set_submodule(norm, _what_is_left(folded.get_submodule(norm)))
    parameter = next(folded.parameters())
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(2, 3, PROBE_SIDE, PROBE_SIDE, generator=generator).to(parameter.device, parameter.dtype)
    was_training = network.training
    try:
        with torch.inference_mode():
            want: Features = network.eval()(probe)
            got: Features = folded(probe)
    except (RuntimeError, AssertionError, ValueError):  # a network of fixed input size cannot be probed
        return network
    finally:
        network.train(was_training)
    agree = all(map(_alike, want.maps, got.maps))
    return folded if agree else network


def norm_pairs(network: nn.Module) -> list[tuple[str, str]]:
    """Names of each convolution and of the batch norm registered right after it in the same module."""
    pairs = []
    for parent, module in network.named_modules():
        children = [(f"{parent}.{name}".lstrip("."), child) for name, child in module.named_children()]
        for (conv, first), (norm, second) in itertools.pairwise(children):
            if isinstance(first, nn.Conv2d) and isinstance(second, _BatchNorm) and second.running_mean is not None:
                pairs.append((conv, norm))
    return pairs


def _alike(want: Tensor, got: Tensor) -> bool:
    close = float((want - got).abs().max()) <= TOLERANCE * float(want.abs().max())
    return close and bool(torch.isfinite(got).all())


def _absorb(conv: Any, norm: Any) -> None:
    conv.weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    conv.bias = bias


def _what_is_left(norm: nn.Module) -> nn.Module:
    """timm's batch norms carry an activation; torch's carry nothing."""
    return getattr(norm, "act", nn.Identity())

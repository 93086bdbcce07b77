"""What lies between the last stage of a timm network and its classifier, made layers of the map.

Some networks classify the mean of their last stage, others put a convolution, a norm or an activation between the two,
before the mean or after it. X is the map whose mean the classifier reads. Layers before the mean are applied as the
network does. A layer after it is applied to the cells as it acts on their mean: a norm divides them by the deviation of
the mean, and an activation multiplies them by the share of the mean that it lets through. The mean of X is then what
the network computes, up to rounding.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import timm
import torch
from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

AVERAGES = ("avg", "fast", "fastavg")  # timm's names of pooling that is a mean
WITHOUT_EFFECT = (nn.Identity, nn.Dropout, nn.Flatten)  # on the cells of a map, outside of training
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.SiLU, nn.GELU)  # of 0 they are 0
# What timm's networks raise where one cannot do what is asked of it, each in its own way.
REFUSALS = (TypeError, AssertionError, NotImplementedError, RuntimeError, AttributeError)


class Step(NamedTuple):
    """A layer of a head.

    Attributes:
        layer: timm's name of it.
        channels_last: It takes the channels as the last dimension, not as the second.
        after_mean: The network applies it to the mean of the cells.
    """

    layer: str
    channels_last: bool = False
    after_mean: bool = False


class Head(nn.ModuleDict):
    """Layers of a network as one that maps ``(B, c, H, W)`` to ``(B, C, H, W)``; without steps it changes nothing.

    Args:
        network: The whole network, by timm's names.
        steps: Its layers, in their order.
    """

    def __init__(self, network: nn.Module, steps: tuple[Step, ...]) -> None:
        named = {step.layer.replace(".", "_"): step for step in steps}
        super().__init__({name: network.get_submodule(step.layer) for name, step in named.items()})
        self.steps = named

    def forward(self, X: Tensor) -> Tensor:
        """The map that the classifier reads the mean of."""
        for name, layer in self.items():
            if self.steps[name].after_mean:
                X = apply_as_to_mean(layer, X)
            elif self.steps[name].channels_last:
                X = layer(X.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            else:
                X = layer(X)
        return X


def apply_as_to_mean(layer: nn.Module, X: Tensor) -> Tensor:
    """Apply a layer to the cells of ``(B, c, H, W)`` so that their mean becomes the layer's output for their mean."""
    if isinstance(layer, nn.Sequential):
        for inner in layer:
            X = apply_as_to_mean(inner, X)
    elif isinstance(layer, nn.Conv2d):
        X = layer(X)
    elif isinstance(layer, nn.Linear):
        X = layer(X.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    elif isinstance(layer, nn.BatchNorm2d):
        X = nn.BatchNorm2d.forward(layer, X)
        X = apply_as_to_mean(layer.act, X) if isinstance(layer, BatchNormAct2d) else X
    elif isinstance(layer, nn.LayerNorm):
        X = X - X.mean(dim=1, keepdim=True)
        variance = X.mean(dim=(2, 3), keepdim=True).square().mean(dim=1, keepdim=True)
        X = X * torch.rsqrt(variance + layer.eps) * layer.weight[:, None, None] + layer.bias[:, None, None]
    elif isinstance(layer, ACTIVATIONS):
        mean = X.mean(dim=(2, 3), keepdim=True)
        X = X * (layer(mean.clone()) / torch.where(mean == 0, 1, mean))  # cloned, for layers that work in place
    return X


class _Call(NamedTuple):
    """A module in a forward pass, with what it was given and what it gave."""

    module: nn.Module
    given: Tensor | None
    gave: list[Tensor]


@cache
def steps_to_classifier(timm_name: str) -> tuple[Step, ...] | None:
    """The layers from the last stage of a network to its classifier, the mean over the cells left out.

    They are followed through a forward pass that computes nothing: a layer comes next if it was given the very tensor
    that the one before gave.

    Returns:
        None if the classifier does not read a mean over the cells: it reads a class token or cells side by side, or
        something is computed on the way that is no layer.
    """
    try:
        with torch.device("meta"):
            network: Any = timm.create_model(timm_name, pretrained=False).eval()
            calls = _calls(network, torch.empty(2, *network.default_cfg["input_size"]))
    except REFUSALS:
        return None
    return _follow(network, calls, network.feature_info[-1])


def _calls(network: nn.Module, images: Tensor) -> list[_Call]:
    """The calls of a forward pass, outer ones before those in them; every layer gives a tensor of its own."""
    calls: list[_Call] = []

    def before(module: nn.Module, args: tuple[Any, ...]) -> None:
        calls.append(_Call(module, args[0] if args else None, []))

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        own = output.clone() if args and output is args[0] else output  # of an identity, or done in place
        next(call for call in reversed(calls) if call.module is module and not call.gave).gave.append(own)
        return own

    for module in network.modules():
        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)
    with torch.no_grad():
        network(images)
    return calls


def _follow(network: Any, calls: list[_Call], stage: dict[str, Any]) -> tuple[Step, ...] | None:
    names = {module: name for name, module in network.named_modules()}
    classifier = network.get_classifier()
    start = next((call for call in calls if names[call.module] == stage["module"]), None)
    end = next((call for call in calls if call.module is classifier), None)
    if start is None or end is None or not isinstance(start.gave[0], Tensor):
        return None
    tensor, averaged, steps = start.gave[0], False, []
    channels_last = tensor.ndim == 4 and tensor.shape[1] != stage["num_chs"]
    while tensor is not end.given:
        following = (call for call in calls if call.given is tensor and classifier not in set(call.module.modules()))
        call = next(following, None)
        if call is None or not isinstance(call.gave[0], Tensor):
            return None
        step = Step(names[call.module], channels_last or tensor.ndim < 4, averaged)
        if isinstance(call.module, (SelectAdaptivePool2d, nn.AdaptiveAvgPool2d)):
            if averaged or getattr(call.module, "pool_type", "avg") not in AVERAGES:
                return None
            averaged = True
        elif not isinstance(call.module, WITHOUT_EFFECT):
            if not _fits(call, step):
                return None
            steps.append(step)
        tensor = call.gave[0]
    return tuple(steps) if averaged else None


def _fits(call: _Call, step: Step) -> bool:
    """Whether a layer can be one of the map."""
    if step.after_mean:
        return _is_pointwise(call.module)
    if step.channels_last:
        return isinstance(call.module, (nn.LayerNorm, nn.Linear, *ACTIVATIONS))
    return call.given is not None and call.gave[0].shape[2:] == call.given.shape[2:]


def _is_pointwise(layer: nn.Module) -> bool:
    """Whether :func:`apply_as_to_mean` knows what to do with a layer."""
    if isinstance(layer, nn.Sequential):
        return all(map(_is_pointwise, layer))
    if isinstance(layer, nn.Conv2d):
        return layer.kernel_size == (1, 1)
    if isinstance(layer, nn.BatchNorm2d):
        return all(map(_is_pointwise, layer.children()))
    if isinstance(layer, nn.LayerNorm):
        return layer.bias is not None
    return isinstance(layer, (nn.Linear, *ACTIVATIONS, *WITHOUT_EFFECT))

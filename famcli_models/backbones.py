"""Backbones cut to one feature map X, and to maps of earlier layers where they are asked for.

The networks are timm's; this file says where each is cut. Any other timm model works by its timm name:
it is cut at its deepest feature map whose stride is not above the one asked for.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import timm
import torch
from torch import Tensor, nn

from famcli_models.config import HALF, RGB
from famcli_models.errors import ConfigError, UnknownNameError
from famcli_models.features import Features
from famcli_models.heads import REFUSALS, Head, Step, steps_to_classifier

PROBE_SIDE = 64  # pixels of an image that is large enough for every layer
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class BackboneRow:
    """One row of the table of backbones.

    Attributes:
        timm_name: Architecture in timm.
        layer: The layer X is read from, in words, for stride 16.
        map_224: Side of X for a 224-pixel input at stride 16.
        hub_id: Repository with the ImageNet weights as ``model.safetensors``.
        revision: Its commit; ``None`` takes the newest.
        sha256: Of the file, checked after download; ``None`` where it is not known.
        mean: Input normalisation of those weights, for values in [0, 1].
        std: Likewise.
        out_index: timm's index of the feature map; ``None`` finds it by stride.
        dilates: timm can trade the stride of the last stages for dilation.
        same_padding: Those weights expect TensorFlow's padding.
        head: Layers between the last stage and the mean that the classifier reads; ``None`` if it reads no mean.
    """

    timm_name: str
    layer: str
    map_224: int
    hub_id: str
    revision: str | None
    sha256: str | None
    mean: RGB
    std: RGB
    out_index: int | None = None
    dilates: bool = False
    same_padding: bool = False
    head: tuple[str, ...] | None = ()


# Revisions and hashes are those that the repositories' pages show; None where a page did not show it.
BACKBONES: Mapping[str, BackboneRow] = {
    "vgg16": BackboneRow(
        timm_name="vgg16",
        layer="conv5_3 after its ReLU, before pool5",
        map_224=14,
        hub_id="timm/vgg16.tv_in1k",
        revision="3394518cba29aee1ea82a49d971be90d2dd1dab7",
        sha256="57b026918159a6bf9faf8405c3a551903768e7138989d9c6224a14227203fad8",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        head=None,
    ),
    "resnet50": BackboneRow(
        timm_name="resnet50",
        layer="layer4, its stride replaced by dilation",
        map_224=14,
        hub_id="timm/resnet50.tv_in1k",
        revision="78f3ecfdb38e06d9b8397f662e7ab8fee96026fa",
        sha256="5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        out_index=4,
        dilates=True,
    ),
    "inceptionv3": BackboneRow(
        timm_name="inception_v3",
        layer="Mixed_6e, the last layer at stride 16",
        map_224=12,
        hub_id="timm/inception_v3.tv_in1k",
        revision=None,
        sha256="9c452c63a67fd03a38a78c401ba12d4be0e926df63c93403de3a29f6df20fefb",
        mean=HALF,
        std=HALF,
    ),
    "mobilenetv1": BackboneRow(
        timm_name="mobilenetv1_100",
        layer="the 13th separable block, its stage's stride replaced by dilation",
        map_224=14,
        hub_id="timm/mobilenetv1_100.ra4_e3600_r224_in1k",
        revision="dda9ab42e23f3061aa191630817df76e8fe9cace",
        sha256=None,
        mean=HALF,
        std=HALF,
        out_index=4,
        dilates=True,
    ),
    "efficientnet_lite0": BackboneRow(
        timm_name="tf_efficientnet_lite0",
        layer="the head convolution, its norm and activation, the stride of the last stages replaced by dilation",
        map_224=14,
        hub_id="timm/tf_efficientnet_lite0.in1k",
        revision=None,
        sha256=None,
        mean=HALF,
        std=HALF,
        out_index=4,
        dilates=True,
        same_padding=True,
        head=("conv_head", "bn2"),
    ),
}


@dataclass(frozen=True, slots=True)
class Layers:
    """Where in each network a method reads or changes features: timm's names of modules, in their order.

    Attributes:
        by_backbone: For rows of :data:`BACKBONES`, by name.
        stages: For any other network, its stages counted from that of X: 0 is that stage, -1 the one before it.
    """

    by_backbone: Mapping[str, tuple[str, ...]]
    stages: tuple[int, ...]


class Backbone(nn.Module):
    """A timm network cut to X ``(B, C, H, W)``: images ``(B, 3, h, w)`` to :class:`Features`.

    Args:
        name: A row of :data:`BACKBONES` or the name of a timm model.
        stride: Pixels of the input per pixel of X: 8, 16 or 32; the nearest the network gives.
        dilation: Where a stage's stride is removed, spread its later kernels so that every output sees
            what it saw at stride 32. Without it the kernels keep their size.
        same_padding: TensorFlow's padding (on stride 2 the extra pixel goes bottom and right), which
            weights converted from TensorFlow expect. Those that timm calls ``tf_...`` have it in any case.
        frozen_norm: Batch-norm layers keep their statistics in training mode.
        head: Where X comes from the network's last stage, pass it through the layers that follow up to the classifier.
        earlier: Give maps of earlier layers too, the finest at the stride of X divided by this; 0 for none.
        tapped: Layers whose outputs are given as ``Features.tapped``.

    Attributes:
        channels: C.
        for_classifier: The network's own classifier reads the mean of X.
        earlier_channels: Those of ``Features.earlier``, in its order.
        tapped_channels: Those of ``Features.tapped``, likewise.
        reduction: The stride that the network gave.
        layer: timm's name of the layer X is read from.
        name: As it was given.

    Raises:
        UnknownNameError: No such row and no such timm model.
        ConfigError: The network gives no map at ``stride`` or a smaller one, or ``earlier`` and none at half the
            stride of X, or it has too few stages for ``tapped``.
    """

    def __init__(
        self,
        name: str,
        stride: int = 16,
        *,
        dilation: bool = True,
        same_padding: bool = False,
        frozen_norm: bool = True,
        head: bool = True,
        earlier: int = 0,
        tapped: Layers | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.net, kwargs = _create(name, stride, same_padding, earlier)
        info: Any = self.net.feature_info
        steps = _steps(name, info)
        self.for_classifier = steps is not None and (head or not steps)
        self.head = _head(name, steps if head and steps else (), kwargs)
        self._stage_channels: int = info.channels()[-1]
        self.channels: int = _measure_head(self.head, self._stage_channels)
        self.earlier_channels: tuple[int, ...] = tuple(info.channels()[:-1])
        self.reduction: int = info.reduction()[-1]
        self.layer: str = info.module_name()[-1]
        self.frozen_norm = frozen_norm
        if not dilation:
            _undilate(self)
        self.inserted = nn.ModuleDict()
        self._tapped: dict[int, Tensor] = {}
        self.tapped_channels: tuple[int, ...] = ()
        if tapped is not None:
            for i, layer in enumerate(self.layers(tapped)):
                layer.register_forward_hook(partial(self._tap, i))
            self.tapped_channels = self._measure_tapped()

    def layers(self, wanted: Layers) -> list[nn.Module]:
        """The modules of a table for this network."""
        name = self.name
        if str(getattr(self.net, "output_fmt", "")).endswith("NHWC"):
            raise ConfigError(
                f"the method reads layers of the backbone as (B, c, h, w), and those of '{name}' have their channels "
                "last; take another backbone, such as mobilenetv1"
            )
        if name in wanted.by_backbone:
            return [self.layer_module(layer) for layer in wanted.by_backbone[name]]
        stages: list[str] = [stage["module"] for stage in self.net.feature_info.info]
        own = stages.index(self.layer)
        if own + min(wanted.stages) < 0:
            raise ConfigError(
                f"'{name}' has {own + 1} stages up to X, and the method reads one further back; take another backbone"
            )
        return [self.layer_module(stages[own + stage]) for stage in wanted.stages]

    def layer_module(self, layer: str) -> nn.Module:
        """The module of a layer, which timm calls by its name or by a flattened one."""
        modules: dict[str, nn.Module] = dict(self.net.named_modules())
        found = modules.get(layer) or modules.get(layer.replace(".", "_"))
        if found is None:
            msg = f"'{self.name}', as it is cut here, has no layer '{layer}'; set stride=16 or another backbone"
            raise ConfigError(msg)
        return found

    def insert(self, wanted: Layers, make: Callable[[], nn.Module]) -> None:
        """Pass the output of each layer of a table through a module made for it, which is a part of this one then."""
        for layer in self.layers(wanted):
            key = str(len(self.inserted))
            self.inserted[key] = make()
            layer.register_forward_hook(partial(self._insert, key))

    def forward(self, images: Tensor) -> Features:
        """Feature maps of normalised images ``(B, 3, h, w)``."""
        found = zip(self.net(images), (*self.earlier_channels, self._stage_channels), strict=True)
        *earlier, X = [m if m.shape[1] == C else m.permute(0, 3, 1, 2) for m, C in found]  # some timm models give NHWC
        tapped = tuple(self._tapped.pop(i) for i in sorted(self._tapped))
        return Features(self.head(X), tuple(earlier), tapped)

    def _tap(self, number: int, _layer: nn.Module, _inputs: Any, output: Tensor) -> None:
        self._tapped[number] = output

    def _insert(self, key: str, _layer: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        changed: Tensor = self.inserted[key](output)
        return changed

    def _measure_tapped(self) -> tuple[int, ...]:
        """Channels of what is tapped, from one run of a copy that computes nothing."""
        whole = copy.deepcopy(self).eval().to("meta")
        with torch.device("meta"):
            return tuple(m.shape[1] for m in whole(torch.zeros(1, 3, PROBE_SIDE, PROBE_SIDE)).tapped)

    def train(self, mode: bool = True) -> Backbone:
        """Set training mode; frozen batch-norm layers stay in evaluation mode."""
        super().train(mode)
        if self.frozen_norm:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001  (torch has no public base)
                    module.eval()
        return self


def _create(name: str, stride: int, same_padding: bool, earlier: int) -> tuple[Any, dict[str, Any]]:
    """Build the timm network, cut at the last stage that fits, and say with what settings; see :class:`Backbone`."""
    row = BACKBONES.get(name)
    timm_name = row.timm_name if row else name
    if row is None and not timm.is_model(timm_name):
        hint = "or give the name of a timm model"
        raise UnknownNameError("backbone", name, BACKBONES, hint)
    kwargs: dict[str, Any] = {"pad_type": "same"} if same_padding else {}
    if row is None or row.dilates:
        kwargs["output_stride"] = stride
    try:
        if row and row.out_index is not None:
            return _cut(timm_name, row.out_index, kwargs, earlier), kwargs
        try:
            whole = _features(timm_name, kwargs)
        except REFUSALS:  # of networks that cannot be dilated
            kwargs.pop("output_stride", None)
            whole = _features(timm_name, kwargs)
    except REFUSALS as error:
        msg = f"timm model '{timm_name}' gives no feature maps with {kwargs or 'its defaults'}: {error}"
        raise ConfigError(msg) from error
    reductions: list[int] = whole.feature_info.reduction()
    fitting = [i for i, reduction in enumerate(reductions) if reduction <= stride]
    if not fitting:
        raise ConfigError(f"backbone '{name}' has strides {reductions}; none is {stride} or less")
    return _cut(timm_name, whole.feature_info.out_indices[fitting[-1]], kwargs, earlier), kwargs


def _cut(timm_name: str, index: int, kwargs: Mapping[str, Any], earlier: int) -> Any:
    """The network with the output of one number, and with earlier ones if they are asked for."""
    net = _features(timm_name, kwargs, (index,))
    if not earlier:
        return net
    strides = [stage["reduction"] for stage in net.feature_info.info[: index + 1]]
    deepest = {stride: i for i, stride in enumerate(strides[:-1])}
    finer = [strides[index] // 2**level for level in range(earlier.bit_length() - 1, 0, -1)]
    if not set(finer) <= set(deepest):
        raise ConfigError(
            f"fine_channels needs a map at every stride of {finer}, and '{timm_name}' has strides {strides} up to X; "
            "set fine_channels=0 or another fine_factor, or take another backbone"
        )
    chosen = [deepest[stride] for stride in (*finer, strides[index]) if stride in deepest]
    return _features(timm_name, kwargs, (*chosen, index))


def _features(timm_name: str, kwargs: Mapping[str, Any], indices: tuple[int, ...] | None = None) -> Any:
    chosen: dict[str, Any] = {} if indices is None else {"out_indices": indices}
    return timm.create_model(timm_name, pretrained=False, features_only=True, **chosen, **kwargs)


def _steps(name: str, info: Any) -> tuple[Step, ...] | None:
    """The layers between X and the mean that the classifier reads; none if it reads another stage or no mean."""
    if info.out_indices[-1] != len(info.info) - 1:
        return None
    row = BACKBONES.get(name)
    if row is None:
        return steps_to_classifier(name)
    return None if row.head is None else tuple(map(Step, row.head))


def _head(name: str, steps: tuple[Step, ...], kwargs: Mapping[str, Any]) -> Head:
    """These layers of a network like that of :func:`_create`."""
    row = BACKBONES.get(name)
    timm_name = row.timm_name if row else name
    if not steps:
        return Head(nn.Module(), ())
    try:
        return Head(timm.create_model(timm_name, pretrained=False, **kwargs), steps)
    except REFUSALS:  # some take an output_stride for feature maps alone
        return Head(timm.create_model(timm_name, pretrained=False), steps)


def _measure_head(head: nn.Module, channels: int) -> int:
    """Channels that a head gives, from one run of a copy that computes nothing."""
    cell = torch.empty(1, channels, 1, 1, device="meta")
    return int(copy.deepcopy(head).eval().to("meta")(cell).shape[1])


def _undilate(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.dilation != (1, 1):
            if not isinstance(module.padding, str):
                module.padding = tuple(p // d for p, d in zip(module.padding, module.dilation, strict=True))
            module.dilation = (1, 1)

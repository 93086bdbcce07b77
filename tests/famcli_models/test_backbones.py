"""Where each backbone is cut."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import nn

from famcli_models.backbones import BACKBONES, Backbone, Layers
from famcli_models.errors import ConfigError, UnknownNameError
from famcli_models.methods import METHODS

# Channels, and sides of the map at stride 16 and 32 for 224 pixels.
SHAPES = {"vgg16": (512, 14, 7), "resnet50": (2048, 14, 7), "inceptionv3": (768, 12, 5), "mobilenetv1": (1024, 14, 7)}
SHAPES |= {"efficientnet_lite0": (1280, 14, 7)}


def built(name: str, **options: Any) -> Backbone:
    """A backbone without memory or arithmetic: shapes alone."""
    with torch.device("meta"):
        return Backbone(name, **options).eval()


def shape(backbone: Backbone, height: int = 224, width: int = 224) -> tuple[int, ...]:
    return tuple(backbone(torch.empty(2, 3, height, width, device="meta")).X.shape)


@pytest.mark.parametrize("name", BACKBONES)
def test_shapes(name: str) -> None:
    """Inputs of 224 pixels give the map that the table promises, stride 32 each network's last map; any size works."""
    backbone = built(name)
    channels, side, coarse_side = SHAPES[name]
    assert shape(backbone) == (2, channels, side, side)
    assert (backbone.channels, BACKBONES[name].map_224, backbone.reduction) == (channels, side, 16)
    _, found, height, width = shape(backbone, 161, 235)
    assert found == channels
    assert height < width
    coarse = built(name, stride=32)
    assert shape(coarse)[2:] == (coarse_side, coarse_side)
    assert coarse.reduction == 32


@pytest.mark.parametrize("name", ["resnet50", "mobilenetv1"])
def test_dilation(name: str) -> None:
    """With dilation some kernels are spread; without it none is, and the map keeps its size."""

    def dilations(backbone: Backbone) -> set[int]:
        return {m.dilation[0] for m in backbone.modules() if isinstance(m, nn.Conv2d)}

    assert dilations(built(name)) == {1, 2}
    plain = built(name, dilation=False)
    assert dilations(plain) == {1}
    assert shape(plain) == (2, SHAPES[name][0], 14, 14)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet"])
def test_other_timm_models(name: str) -> None:
    """Any timm model that can give feature maps works by its timm name, with a stride of 16 or less."""
    backbone = Backbone(name).eval()
    size = timm.get_pretrained_cfg(name).input_size[-1]
    X = backbone(torch.rand(1, 3, size, size)).X
    assert X.shape[1] == backbone.channels
    assert backbone.reduction <= 16
    assert X.shape[2] == X.shape[3] == -(-size // backbone.reduction)


def test_networks_with_channels_at_the_end() -> None:
    """timm networks that give (B, H, W, C) are turned to (B, C, H, W)."""
    backbone = built("swin_tiny_patch4_window7_224")
    assert backbone.channels in {384, 768}
    assert shape(backbone) == (2, backbone.channels, 14, 14)


TAPPED = Layers({"mobilenetv1": ("blocks.3.0",)}, stages=(-1,))


@pytest.mark.parametrize(("name", "channels"), [("mobilenetv1", 512), ("test_efficientnet", 48)])
def test_layers_are_given_beside_the_map_and_changed(name: str, channels: int) -> None:
    """A layer of a table, or of any network a stage, is tapped, in copies too; a module that is inserted changes it."""
    backbone = Backbone(name, tapped=TAPPED).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        (found,) = backbone(images).tapped
        assert backbone.tapped_channels == (found.shape[1],) == (channels,)
        copied = copy.deepcopy(backbone)
        torch.testing.assert_close(copied(images).tapped[0], found)
        copied.insert(TAPPED, lambda: nn.Threshold(math.inf, 0.0))
        assert not copied(images).X.equal(backbone(images).X)
        assert backbone(images).tapped[0].equal(found)


def test_layers_of_networks_that_cannot_be_read() -> None:
    """Too few stages, and channels at the end, are refused in a sentence."""
    with pytest.raises(ConfigError, match="has 5 stages up to X"):
        Backbone("test_efficientnet", tapped=Layers({}, stages=(-5,)))
    with pytest.raises(ConfigError, match="channels last"):
        Backbone("swin_tiny_patch4_window7_224", tapped=TAPPED)


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_the_layers_of_every_method_exist(name: str) -> None:
    """Every method can be built on every backbone of the table."""
    for method in METHODS.values():
        if not method.fitted_to_images:
            with torch.device("meta"):
                method(method.config_class(backbone=name, num_classes=3))


def test_what_no_backbone_is_made_of() -> None:
    """A misspelt backbone is answered with the near one and the way to timm; one without a fitting map is refused."""
    with pytest.raises(UnknownNameError, match=r"'resnet5O' \(did you mean: resnet50\).*timm"):
        Backbone("resnet5O")
    with pytest.raises(ConfigError, match="stride"):
        Backbone("vit_tiny_patch16_224", stride=8)


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_norms_keep_their_statistics(make_model: Callable[..., Any], frozen: bool) -> None:
    """In training mode the batch norms' statistics stay, unless the config lets them go."""
    model = make_model(frozen_norm=frozen).train()
    before = {k: v.clone() for k, v in model.state_dict().items() if "running" in k}
    with torch.no_grad():
        model(torch.randn(4, 3, 64, 64) * 3)
    assert before
    assert any(not torch.equal(v, model.state_dict()[k]) for k, v in before.items()) is not frozen
    assert model.backbone.training
    assert not model.eval().backbone.training

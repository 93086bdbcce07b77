"""Where each backbone is cut."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

from famcli_models.backbones import BACKBONES, Backbone
from famcli_models.errors import ConfigError, UnknownNameError

SHAPES = {
    "vgg16": (512, 14, 14),
    "resnet50": (2048, 14, 14),
    "inceptionv3": (768, 12, 12),
    "mobilenetv1": (1024, 14, 14),
}


def built(name: str, **options: Any) -> Backbone:
    """A backbone without memory or arithmetic: shapes alone."""
    with torch.device("meta"):
        return Backbone(name, **options).eval()


def shape(backbone: Backbone, height: int = 224, width: int = 224) -> tuple[int, ...]:
    return tuple(backbone(torch.empty(2, 3, height, width, device="meta")).X.shape)


def test_every_row_is_tested() -> None:
    """The table of shapes here follows the table of backbones."""
    assert set(SHAPES) == set(BACKBONES)


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_for_224(name: str) -> None:
    """A 224-pixel input gives the map that the table promises, and the attributes agree with it."""
    backbone = built(name)
    assert shape(backbone) == (2, *SHAPES[name])
    assert backbone.channels == SHAPES[name][0]
    assert BACKBONES[name].map_224 == SHAPES[name][1]
    assert backbone.reduction == 16


@pytest.mark.parametrize("name", SHAPES)
def test_odd_sizes(name: str) -> None:
    """Any height and width work, those that no stride divides too."""
    _, channels, height, width = shape(built(name), 161, 235)
    assert channels == SHAPES[name][0]
    assert height < width


@pytest.mark.parametrize(("name", "side"), [("resnet50", 7), ("mobilenetv1", 7), ("vgg16", 7), ("inceptionv3", 5)])
def test_stride_32(name: str, side: int) -> None:
    """Stride 32 gives each network's own last map."""
    backbone = built(name, stride=32)
    assert shape(backbone)[2:] == (side, side)
    assert backbone.reduction == 32


@pytest.mark.parametrize("name", ["resnet50", "mobilenetv1"])
def test_dilation(name: str) -> None:
    """With dilation some kernels are spread; without it none is, and the map keeps its size."""

    def dilations(backbone: Backbone) -> set[int]:
        return {m.dilation[0] for m in backbone.modules() if isinstance(m, nn.Conv2d)}

    assert dilations(built(name)) == {1, 2}
    plain = built(name, dilation=False)
    assert dilations(plain) == {1}
    assert shape(plain) == (2, *SHAPES[name])


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


def test_unknown_names_list_near_ones() -> None:
    """A misspelt backbone is answered with the near one, and with the way to all of timm."""
    with pytest.raises(UnknownNameError, match=r"'resnet5O' \(did you mean: resnet50\).*timm"):
        Backbone("resnet5O")


def test_networks_without_a_fitting_map_are_refused() -> None:
    """A network whose finest map is coarser than the stride asked for is refused with its strides."""
    with pytest.raises(ConfigError, match="stride"):
        Backbone("vit_tiny_patch16_224", stride=8)


def test_frozen_norm_keeps_its_statistics() -> None:
    """In training mode frozen batch norms stay in evaluation mode and their statistics do not move."""
    for frozen in (True, False):
        backbone = Backbone("test_efficientnet", frozen_norm=frozen).train()
        before = {k: v.clone() for k, v in backbone.state_dict().items() if "running" in k}
        backbone(torch.randn(4, 3, 64, 64) * 3)
        moved = any(not torch.equal(v, backbone.state_dict()[k]) for k, v in before.items())
        assert before
        assert moved is not frozen
        assert backbone.training
        assert not backbone.eval().training


# ---- MobileNetV1 with folded batch norms -----------------------------------------------------------------

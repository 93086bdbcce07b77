"""M at a finer stride than X."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from famcli_models import FAM, FAMConfig
from famcli_models.attention import ConvolutionAttention
from famcli_models.backbones import BACKBONES, Backbone
from famcli_models.errors import ConfigError
from famcli_models.features import Features
from famcli_models.fine import FineFeatures

Make = Callable[..., FAM]
SIDES = {**dict.fromkeys(BACKBONES, (14, 28)), "inceptionv3": (12, 25)}
EARLIER = {
    "vgg16": (512,),
    "resnet50": (512, 1024),
    "inceptionv3": (288,),
    "mobilenetv1": (256, 512),
    "efficientnet_lite0": (40, 112),
}


def on_meta(**options: Any) -> FAM:
    """A model without memory or arithmetic: shapes alone."""
    with torch.device("meta"):
        return FAM(FAMConfig(num_classes=3, fine_channels=16, **options)).eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_named_backbones(name: str) -> None:
    """M has the cells of the map at half the stride, the parts those of X, also for sizes that no stride divides."""
    model = on_meta(backbone=name)
    images = torch.empty(2, 3, 224, 224, device="meta")
    X_side, M_side = SIDES[name]
    features, out = model.features(images), model(images)
    assert features.X.shape[2:] == (X_side, X_side)
    assert [m.shape[1:] for m in features.earlier] == [
        (channels, side, side) for channels, side in zip(EARLIER[name], (M_side, X_side), strict=False)
    ]
    assert out.M.shape == (2, 1, M_side, M_side)
    assert out.A.shape == (2, 5, X_side, X_side)
    for size_hw in ((230, 250), (161, 235), (95, 97)):
        features = model.features(torch.empty(1, 3, *size_hw, device="meta"))
        out = model.head(features)
        assert out.M.shape[2:] == features.earlier[0].shape[2:]
        assert out.A.shape[2:] == features.X.shape[2:]
    with torch.device("meta"):
        plain = Backbone(name)  # earlier maps add no name to the network
    assert model.backbone.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize(("stride", "M_side"), [(8, 16), (16, 8), (32, 4)])
def test_other_strides(make_model: Make, stride: int, M_side: int) -> None:
    """Whatever the stride of X, that of M is half of it."""
    model = make_model(stride=stride, fine_channels=8)
    assert model(torch.randn(1, 3, 64, 64)).M.shape == (1, 1, M_side, M_side)


@pytest.mark.parametrize(("factor", "M_side"), [(4, 8), (8, 16)])
def test_other_factors(make_model: Make, factor: int, M_side: int) -> None:
    """M may be much finer than X; the maps at the strides between the two take part, and X sees means of M."""
    model = make_model(stride=32, fine_channels=8, fine_factor=factor).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        features, out = model.features(images), model(images)
        assert [m.shape[-1] for m in features.earlier] == [M_side // 2**i for i in range(factor.bit_length() - 1)]
        assert out.M.shape == (1, 1, M_side, M_side)
        Z, *coarser = (lateral(m) for lateral, m in zip(model.fine.laterals, features.maps, strict=True))
        for finer in reversed(coarser):
            Z = finer + F.interpolate(Z, scale_factor=2, mode="bilinear", align_corners=False)
        torch.testing.assert_close(out.M, model.object_attention(model.fine.mix(Z)))
        means = F.interpolate(out.M, size=(2, 2), mode="area")
        torch.testing.assert_close(out.o, model.part_attention(features.X, means).o)


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "swin_tiny_patch4_window7_224"])
def test_other_timm_models(name: str) -> None:
    """Any timm model with a map at half the stride serves, those with channels at the end too."""
    model = on_meta(backbone=name)
    assert model(torch.empty(1, 3, 224, 224, device="meta")).M.shape == (1, 1, 28, 28)


def test_a_network_without_a_finer_map_is_refused(make_model: Make) -> None:
    """A network of one stride has nothing to make a finer M from, and the message says what to set."""
    with pytest.raises(
        ConfigError, match=r"stride of \[8\], and 'test_vit' has strides \[16, .* fine_channels=0"
    ) as caught:
        make_model(backbone="test_vit", fine_channels=8)
    assert "\n" not in str(caught.value)


def literal(fine: FineFeatures, features: Features) -> Tensor:
    """The sum, the enlargement and the layers, one after the other as the method page has them."""
    weights = [(m.weight, m.bias) for m in fine.modules() if isinstance(m, nn.Conv2d)]
    X, finer, same = (F.conv2d(m, *w) for m, w in zip(features.maps, weights[:3], strict=True))
    Z = F.relu(finer + F.interpolate(X + same, size=finer.shape[2:], mode="bilinear", align_corners=False))
    for number, (weight, bias) in enumerate(weights[3:]):
        if number % 2:
            Z = F.relu(F.conv2d(Z, weight, bias))
        else:
            Z = F.relu(F.conv2d(Z, weight, bias, padding=3, groups=weight.shape[0]))
    return Z


@pytest.mark.parametrize("layers", [1, 3])
def test_fused_features_by_hand(layers: int) -> None:
    """Z is what the formula says, for a finer map that is not exactly twice as large."""
    fine = FineFeatures(6, (4, 5), 8, layers)
    features = Features(torch.randn(2, 6, 4, 5), (torch.randn(2, 4, 7, 10), torch.randn(2, 5, 4, 5)))
    Z = fine(features)
    assert Z.shape == (2, 8, 7, 10)
    torch.testing.assert_close(Z, literal(fine, features))
    assert len(fine.laterals) == 3
    assert sum(isinstance(m, nn.Conv2d) for m in fine.mix) == 2 * layers - 1


@pytest.mark.parametrize("memory", [True, False])
def test_head_by_hand(make_model: Make, memory: bool) -> None:
    """M is the attention's map of Z, and the parts see the mean of M over the four cells of each cell of X."""
    model = make_model(fine_channels=16, memory=memory).eval()
    assert isinstance(model.object_attention, ConvolutionAttention) is not memory
    with torch.no_grad():
        features = model.features(torch.randn(2, 3, 64, 64))
        out = model.head(features)
        M = model.object_attention(literal(model.fine, features))
        torch.testing.assert_close(out.M, M)
        means = M.view(2, 1, 4, 2, 4, 2).mean(dim=(3, 5))
        torch.testing.assert_close(out.A, model.part_attention(features.X, means).A)
        torch.testing.assert_close(out.o, model.part_attention(features.X, means).o)
    assert M.std() > 0


@pytest.mark.parametrize(("X_hw", "below"), [((3, 4), True), ((2, 4), False)])
def test_cells_at_the_edge(make_model: Make, X_hw: tuple[int, int], below: bool) -> None:
    """A cell of X that is half there sees what M has of it; where X has no cell the rest of M is not seen."""
    model = make_model(fine_channels=16).eval()
    seen: list[Tensor] = []
    model.part_attention.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    sizes = zip((model.channels, *model.earlier_channels), (X_hw, (5, 8), X_hw), strict=True)
    X, *earlier = (torch.randn(1, C, *hw) for C, hw in sizes)
    M = model.head(Features(X, tuple(earlier))).M[0, 0]
    assert M.shape == (5, 8)
    cells = seen[0][0, 0]
    assert cells.shape == X_hw
    torch.testing.assert_close(cells[1, 2], M[2:4, 4:6].mean())
    if below:
        torch.testing.assert_close(cells[2, 0], M[4, :2].mean())


def test_off_is_the_plain_model(make_model: Make) -> None:
    """With 0 channels nothing is added: the parts, their names and the features are those without the option."""
    plain, off = make_model().eval(), make_model(fine_channels=0, fine_layers=3).eval()
    fine = make_model(fine_channels=8).eval()
    assert plain.fine is None
    assert plain.state_dict().keys() == off.state_dict().keys()
    added = {name.split(".")[0] for name in fine.state_dict().keys() ^ plain.state_dict().keys()}
    assert added == {"fine"}
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        features = off.features(images)
        assert features.earlier == ()
        assert torch.equal(off(images).M, off.object_attention(features.X))
        fine.backbone.load_state_dict(plain.backbone.state_dict())
        torch.testing.assert_close(fine.features(images).X, plain.features(images).X)

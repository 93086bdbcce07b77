"""X is what a network's own classifier reads the mean of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from famcli_models import CAM, FAM, CAMConfig, FAMConfig, load_model
from famcli_models.backbones import BACKBONES, Backbone
from famcli_models.checkpoint import CONFIG_FILE, strict_json
from famcli_models.heads import Step, apply_as_to_mean, steps_to_classifier

METHOD_PAGE = Path(__file__).parents[2] / "docs/concepts/method.md"
ROUNDING = 2e-5  # of the standard deviation of the logits
TRIED = {
    name: columns
    for name, *columns in re.findall(
        r"^\| `(\w+)` \| ([\d,]+) \| (\d+) \| (\d+) \| (yes|no) \| (yes|no) \| (\S+) \|$",
        METHOD_PAGE.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
}


def lively(name: str, size: int) -> Any:
    """A timm network with random weights whose norms fit its features."""
    network = timm.create_model(name)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(4, 3, size, size))
    return network.eval()


def gap(name: str, folder: Path, size: int) -> tuple[CAM, float]:
    """A CAM at stride 32 on a network's weights, and how far its logits are from the network's, in their deviations."""
    network = lively(name, size)
    save_file(network.state_dict(), folder / "w.safetensors")
    model = CAM.from_backbone(CAMConfig(backbone=name, stride=32), str(folder / "w.safetensors")).eval()
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        found, wanted = model(images).logits, network(images)
    return model, float((found - wanted).abs().max() / wanted.std())


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_efficientnet", "test_convnext", "mobilenetv3_small_050", "mobilenetv4_conv_small_035"]
)
def test_the_classifier_of_the_mean_is_the_network(name: str, tmp_path: Path) -> None:
    """A pretrained classifier fits, and of the mean of X it gives the network's own logits."""
    model, difference = gap(name, tmp_path, 64)
    assert model.provenance["classifier"] == "pretrained"
    assert difference < ROUNDING


def test_rows_name_the_layers_that_are_found() -> None:
    """What the table of backbones says of a network is what following its layers finds."""
    for name in ("resnet50", "mobilenetv1", "efficientnet_lite0"):
        row = BACKBONES[name]
        assert row.head is not None
        assert steps_to_classifier(row.timm_name) == tuple(map(Step, row.head))
    assert steps_to_classifier("vgg16") is None


@pytest.mark.parametrize(
    "layer", [nn.LayerNorm(6), nn.Hardswish(inplace=True), nn.ReLU(), nn.Sequential(nn.Conv2d(6, 4, 1), nn.GELU())]
)
def test_layers_after_the_mean(layer: nn.Module) -> None:
    """The mean of the cells becomes the layer's output for their mean, in a map that scales with deviations from it."""
    if isinstance(layer, nn.LayerNorm):
        nn.init.normal_(layer.bias)
    X = torch.randn(3, 6, 5, 4) + torch.randn(3, 6, 1, 1)
    X[:, 0] = 0
    mean = X.mean((2, 3))
    wanted = layer(mean) if isinstance(layer, nn.LayerNorm) else layer(mean[..., None, None].clone()).flatten(1)
    found = apply_as_to_mean(layer, X)
    torch.testing.assert_close(found.mean((2, 3)), wanted)
    further = apply_as_to_mean(layer, X + (X - mean[..., None, None]))  # of the same mean, twice as far from it
    torch.testing.assert_close(further - found, found - wanted[..., None, None], rtol=1e-4, atol=1e-5)


def test_networks_whose_classifier_reads_no_mean(tmp_path: Path) -> None:
    """A class token is none: the classifier stays new, although its width is that of X."""
    save_file(timm.create_model("test_vit", num_classes=3).state_dict(), tmp_path / "w.safetensors")
    model = FAM.from_backbone(FAMConfig(backbone="test_vit", num_classes=3, size=160), str(tmp_path / "w.safetensors"))
    assert not model.backbone.for_classifier
    assert "classifier" not in model.provenance
    assert steps_to_classifier("test_vit") is None


def test_checkpoints_from_before_there_were_heads(tmp_path: Path) -> None:
    """A config that does not say has X of the last stage, as when it was written; a new one says."""
    model = FAM(FAMConfig(backbone="test_efficientnet", num_classes=3, backbone_head=False)).eval()
    assert model.channels == 64
    assert not model.backbone.for_classifier
    model.save_pretrained(tmp_path)
    config = tmp_path / CONFIG_FILE
    written = config.read_text(encoding="utf-8")
    assert strict_json(written)["model"]["backbone_head"] is False
    config.write_text(re.sub(r'\s*"backbone_head": false,', "", written), encoding="utf-8")
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path)(images).M, model(images).M)
    assert Backbone("test_efficientnet").channels == 256


@pytest.mark.slow
def test_a_dozen_networks_were_tried() -> None:
    """The table of the method page has twelve networks."""
    assert len(TRIED) == 12


@pytest.mark.slow
@pytest.mark.parametrize("name", TRIED)
def test_table_of_networks(name: str, tmp_path: Path) -> None:
    """Every row says what is so: X at 224 pixels, whether the classifier fits, and how exactly."""
    channels, stride, side, fits, fits_32, difference = TRIED[name]
    with torch.device("meta"):
        backbone = Backbone(name).eval()
        X: Tensor = backbone(torch.empty(1, 3, 224, 224)).X
    assert (f"{X.shape[1]:,}", str(backbone.reduction), str(X.shape[3])) == (channels, stride, side)
    assert ("no", "yes")[backbone.for_classifier] == fits
    cfg: Any = timm.get_pretrained_cfg(name)
    model, found = gap(name, tmp_path, 224 if cfg.fixed_input_size else 64)
    assert ("no", "yes")["classifier" in model.provenance] == fits_32
    assert fits_32 == "no" or max(found, float(difference)) < ROUNDING

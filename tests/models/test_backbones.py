"""Where each backbone is cut, and whether pretrained weights compute what they should."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file
from torch import Tensor, nn

from famcli_models import FAM, FAMConfig
from famcli_models.backbones import BACKBONES, HALF, IMAGENET_MEAN, Backbone, load_trunk, read_backbone_weights
from famcli_models.errors import ConfigError, UnknownNameError, WeightsError

SHAPES = {
    "vgg16": (512, 14, 14),
    "resnet50": (2048, 14, 14),
    "inceptionv3": (768, 12, 12),
    "mobilenetv1": (1024, 14, 14),
}
STAGES = ((32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2)) + (
    ((512, 512, 1),) * 5 + ((512, 1024, 2), (1024, 1024, 1))
)


def built(name: str, **options: Any) -> Backbone:
    """A backbone without memory or arithmetic: shapes alone."""
    with torch.device("meta"):
        return Backbone(name, **options).eval()


def shape(backbone: Backbone, height: int = 224, width: int = 224) -> tuple[int, ...]:
    return tuple(backbone(torch.empty(2, 3, height, width, device="meta")).shape)


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
    X = backbone(torch.rand(1, 3, size, size))
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


def folded_tensors(classes: int = 1001) -> dict[str, Tensor]:
    """Random weights in the layout of a converted TensorFlow MobileNetV1, sized to keep activations alive."""
    generator = torch.Generator().manual_seed(7)

    def normal(*size: int, scale: float) -> Tensor:
        return torch.randn(*size, generator=generator) * scale

    tensors = {
        "features.conv0.weight": normal(32, 3, 3, 3, scale=(2 / 27) ** 0.5),
        "features.conv0.bias": normal(32, scale=0.1),
        "classifier.weight": normal(classes, 1024, scale=0.03),
        "classifier.bias": normal(classes, scale=0.1),
    }
    for i, (c_in, c_out, _) in enumerate(STAGES, 1):
        tensors[f"features.conv{i}.dw.weight"] = normal(c_in, 1, 3, 3, scale=(2 / 9) ** 0.5)
        tensors[f"features.conv{i}.dw.bias"] = normal(c_in, scale=0.1)
        tensors[f"features.conv{i}.pw.weight"] = normal(c_out, c_in, 1, 1, scale=(2 / c_in) ** 0.5)
        tensors[f"features.conv{i}.pw.bias"] = normal(c_out, scale=0.1)
    return tensors


def same_conv(x: Tensor, weight: Tensor, bias: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
    """Convolution with TensorFlow's SAME padding: the odd pixel goes bottom and right."""
    pads = []
    for size, kernel in zip(reversed(x.shape[2:]), reversed(weight.shape[2:]), strict=True):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return F.conv2d(F.pad(x, pads), weight, bias, stride, groups=groups)


def literal_mobilenet(t: dict[str, Tensor], x: Tensor) -> Tensor:
    """MobileNetV1's trunk written out from the file."""
    x = F.relu6(same_conv(x, t["features.conv0.weight"], t["features.conv0.bias"], stride=2))
    for i, (c_in, _, stride) in enumerate(STAGES, 1):
        dw, pw = f"features.conv{i}.dw", f"features.conv{i}.pw"
        x = F.relu6(same_conv(x, t[f"{dw}.weight"], t[f"{dw}.bias"], stride, groups=c_in))
        x = F.relu6(same_conv(x, t[f"{pw}.weight"], t[f"{pw}.bias"]))
    return x


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in the folded layout, with the metadata that a conversion writes."""
    path = tmp_path_factory.mktemp("weights") / "mobilenet.safetensors"
    metadata = {"source": "a made-up network", "input": "RGB, x / 127.5 - 1", "padding": "TensorFlow SAME"}
    save_file(folded_tensors(), path, metadata=metadata)
    return path


@pytest.fixture(scope="module")
def folded_model(folded: Path) -> Callable[..., FAM]:
    """A function that puts the folded file into a FAM."""
    return lambda **options: FAM.from_backbone(FAMConfig(**options), str(folded)).eval()


def test_folded_file_is_read(folded: Path) -> None:
    """Normalisation and padding come from the file's header, and TensorFlow's background class is dropped."""
    weights = read_backbone_weights("mobilenetv1", str(folded))
    assert weights.same_padding
    assert weights.mean == weights.std == HALF
    assert weights.source == "a made-up network"
    assert len(weights.sha256) == 64
    assert weights.classifier is not None
    torch.testing.assert_close(weights.classifier[0], folded_tensors()["classifier.weight"][1:])
    torch.testing.assert_close(weights.classifier[1], folded_tensors()["classifier.bias"][1:])


def test_folded_file_computes_the_literal_network(folded_model: Callable[..., FAM]) -> None:
    """At stride 32 the trunk computes what MobileNetV1 written out from the file computes, odd sizes too."""
    model = folded_model(stride=32)
    for size in ((64, 64), (75, 97)):
        x = torch.rand(2, 3, *size) * 2 - 1
        with torch.no_grad():
            expected, X = literal_mobilenet(folded_tensors(), x), model.features(x)
        assert expected.std() > 0.1  # the made-up network is alive
        torch.testing.assert_close(X, expected, rtol=1e-4, atol=1e-4)


def test_folded_file_sets_the_config(folded_model: Callable[..., FAM]) -> None:
    """The model's config and provenance tell what its weights expect and where they are from."""
    model = folded_model()
    assert model.config.same_padding
    assert model.config.mean == model.config.std == HALF
    assert model.provenance["backbone_weights"] == "a made-up network"
    assert model.provenance["classifier"] == "pretrained"
    torch.testing.assert_close(model.classifier.weight.detach(), folded_tensors()["classifier.weight"][1:])


@pytest.mark.parametrize("options", [{}, {"similarity": "ratio-relu"}])
def test_dilated_map_holds_the_coarse_map(folded_model: Callable[..., FAM], options: dict[str, Any]) -> None:
    """Every second pixel of the dilated stride-16 map is a pixel of the stride-32 map, exactly where its kernel is."""
    x = torch.rand(1, 3, 128, 128) * 2 - 1
    with torch.no_grad():
        fine, coarse = folded_model(**options).features(x), folded_model(stride=32).features(x)
    assert fine.shape[2:] == (8, 8)
    torch.testing.assert_close(fine[:, :, 1::2, 1::2], coarse, rtol=1e-4, atol=1e-4)


def test_classifier_of_other_classes_is_left_new(folded: Path) -> None:
    """A model with another number of classes takes the trunk and keeps its own classifier."""
    model = FAM.from_backbone(FAMConfig(num_classes=7), str(folded))
    assert model.classifier.weight.shape == (7, 1024)
    assert "classifier" not in model.provenance


def test_timm_weights_round_trip(tmp_path: Path) -> None:
    """A safetensors file with timm's names gives the whole network's features, and its classifier."""
    whole = timm.create_model("test_resnet", num_classes=5).eval()
    with torch.no_grad():
        for name, buffer in whole.named_buffers():
            if "running" in name:
                buffer.uniform_(0.5, 1.5)
    path = tmp_path / "w.safetensors"
    save_file(whole.state_dict(), path)
    model = FAM.from_backbone(FAMConfig(backbone="test_resnet", num_classes=5, stride=32), str(path)).eval()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model.features(x), whole.forward_features(x))
        torch.testing.assert_close(model.classifier.weight, whole.get_classifier().weight)
    assert not model.config.same_padding
    assert model.provenance["backbone_weights"] == "w.safetensors"


@pytest.mark.parametrize("change", ["missing", "shape"])
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, change: str) -> None:
    """A tensor that is missing or has another shape is named, and nothing is loaded by halves."""
    state = timm.create_model("test_resnet", num_classes=5).state_dict()
    if change == "missing":
        del state["stem.conv1.weight" if "stem.conv1.weight" in state else next(iter(state))]
    else:
        first = next(iter(state))
        state[first] = torch.zeros(1, 1, 1, 1)
    path = tmp_path / "w.safetensors"
    save_file(state, path)
    backbone = Backbone("test_resnet")
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    with pytest.raises(WeightsError, match="do not fit"):
        load_trunk(backbone, read_backbone_weights("test_resnet", str(path)))
    assert all(torch.equal(v, backbone.state_dict()[k]) for k, v in before.items())


def test_weights_of_another_network_are_refused(folded: Path) -> None:
    """MobileNetV1's file in a ResNet50 is refused by the first tensor that is not there."""
    with pytest.raises(WeightsError, match="do not fit this backbone"):
        load_trunk(built("resnet50"), read_backbone_weights("resnet50", str(folded)))


def test_incomplete_folded_file_is_refused(tmp_path: Path) -> None:
    """A folded file without one of its layers is a weights error that names it, not a crash."""
    tensors = folded_tensors(11)
    del tensors["features.conv13.pw.bias"]
    path = tmp_path / "half.safetensors"
    save_file(tensors, path)
    with pytest.raises(WeightsError, match="conv13"):
        FAM.from_backbone(FAMConfig(num_classes=10), str(path))


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all", b"\x80\x04\x95."])
def test_unreadable_files_are_refused(tmp_path: Path, content: bytes | None) -> None:
    """A file that is absent, empty, text or a pickle is refused with the format that is needed."""
    path = tmp_path / "w.bin"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match="safetensors"):
        read_backbone_weights("mobilenetv1", str(path))


def test_imagenet_weights_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network 'imagenet' says what could not be had and what to do instead."""

    def offline(*_: Any, **__: Any) -> str:
        msg = "offline"
        raise LocalEntryNotFoundError(msg)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    with pytest.raises(WeightsError, match=r"timm/resnet50.*connect to the network, or pass the path"):
        FAM.from_backbone(FAMConfig(backbone="resnet50"), "imagenet")


def test_imagenet_weights_come_from_the_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """'imagenet' asks the Hub for the row's repository and takes the row's normalisation."""
    asked = []
    path = tmp_path / "model.safetensors"
    save_file({"conv1.weight": torch.zeros(1)}, path)

    def fake(repo: str, file: str, **_: Any) -> str:
        asked.append((repo, file))
        return str(path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fake)
    weights = read_backbone_weights("vgg16", "imagenet")
    assert asked == [("timm/vgg16.tv_in1k", "model.safetensors")]
    assert weights.mean == IMAGENET_MEAN
    assert not weights.same_padding
    assert weights.classifier is None


def test_weights_of_an_unknown_backbone() -> None:
    """An unknown backbone is refused before anything is downloaded."""
    with pytest.raises(UnknownNameError, match="backbone"):
        read_backbone_weights("no_such_network", "imagenet")


def test_no_weights() -> None:
    """'none' reads nothing and says so in the provenance."""
    model = FAM.from_backbone(FAMConfig(backbone="test_efficientnet", num_classes=2), "none")
    assert model.provenance == {"backbone_weights": "none"}

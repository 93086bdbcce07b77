"""Pretrained weights of backbones."""

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
from torch import Tensor

from famcli_models import FAM, FAMConfig
from famcli_models.backbones import BACKBONES, Backbone
from famcli_models.checkpoint import DEFAULT_MODEL, read_config, resolve
from famcli_models.config import HALF
from famcli_models.errors import UnknownNameError, WeightsError
from famcli_models.pretrained import load_trunk, read_backbone_weights

STAGES = ((32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2)) + (
    ((512, 512, 1),) * 5 + ((512, 1024, 2), (1024, 1024, 1))
)


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


def test_folded_file(folded: Path, folded_model: Callable[..., FAM]) -> None:
    """Normalisation, padding and source come from the file's header; TensorFlow's background class is dropped."""
    weights = read_backbone_weights("mobilenetv1", str(folded))
    assert (weights.same_padding, weights.mean, weights.std, weights.source) == (True, HALF, HALF, "a made-up network")
    assert len(weights.sha256) == 64
    assert weights.classifier is not None
    torch.testing.assert_close(weights.classifier[0], folded_tensors()["classifier.weight"][1:])
    torch.testing.assert_close(weights.classifier[1], folded_tensors()["classifier.bias"][1:])
    model = folded_model()
    assert (model.config.same_padding, model.config.mean, model.config.std) == (True, HALF, HALF)
    assert model.provenance["backbone_weights"] == "a made-up network"
    assert model.provenance["classifier"] == "pretrained"
    assert torch.equal(model.classifier.weight, weights.classifier[0])
    assert torch.equal(model.classifier.bias, weights.classifier[1])
    other = folded_model(num_classes=7)  # takes the trunk and keeps its own classifier
    assert other.classifier.weight.shape == (7, 1024)
    assert "classifier" not in other.provenance


def test_the_classifier_is_of_the_classes(folded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ImageNet's classifier is taken over for ILSVRC's classes in their order, or numbers, and for no other names."""
    weights = read_backbone_weights("mobilenetv1", str(folded))
    monkeypatch.setattr("famcli_models.methods.method.read_backbone_weights", lambda *_: weights)
    names = read_config(resolve(DEFAULT_MODEL))["class_names"]
    for classes, taken in (
        (names, True),
        (None, True),
        (names[::-1], False),
        ([f"bird {i}" for i in range(1000)], False),
    ):
        assert ("classifier" in FAM.from_backbone(FAMConfig(), "imagenet", classes).provenance) == taken
        assert "classifier" in FAM.from_backbone(FAMConfig(), str(folded), classes).provenance


def test_folded_file_computes_the_literal_network(folded_model: Callable[..., FAM]) -> None:
    """At stride 32 the trunk computes what MobileNetV1 written out from the file computes, odd sizes too."""
    model = folded_model(stride=32)
    for size in ((64, 64), (75, 97)):
        x = torch.rand(2, 3, *size) * 2 - 1
        with torch.no_grad():
            expected, X = literal_mobilenet(folded_tensors(), x), model.features(x).X
        assert expected.std() > 0.1  # the made-up network is alive
        torch.testing.assert_close(X, expected, rtol=1e-4, atol=1e-4)


def test_dilated_map_holds_the_coarse_map(folded_model: Callable[..., FAM]) -> None:
    """Every second pixel of the dilated stride-16 map is a pixel of the stride-32 map, exactly where its kernel is."""
    x = torch.rand(1, 3, 128, 128) * 2 - 1
    with torch.no_grad():
        fine, coarse = folded_model().features(x).X, folded_model(stride=32).features(x).X
    assert fine.shape[2:] == (8, 8)
    torch.testing.assert_close(fine[:, :, 1::2, 1::2], coarse, rtol=1e-4, atol=1e-4)


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
        torch.testing.assert_close(model.features(x).X, whole.forward_features(x))
        torch.testing.assert_close(model.classifier.weight, whole.get_classifier().weight)
    assert not model.config.same_padding
    assert model.provenance["backbone_weights"] == "w.safetensors"


@pytest.mark.parametrize("change", ["missing", "shape"])
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, change: str) -> None:
    """A tensor that is missing or has another shape is refused, and nothing is loaded by halves."""
    state = timm.create_model("test_resnet", num_classes=5).state_dict()
    first = next(iter(state))
    if change == "missing":
        del state[first]
    else:
        state[first] = torch.zeros(1, 1, 1, 1)
    path = tmp_path / "w.safetensors"
    save_file(state, path)
    backbone = Backbone("test_resnet")
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    with pytest.raises(WeightsError, match="do not fit"):
        load_trunk(backbone, read_backbone_weights("test_resnet", str(path)))
    assert all(torch.equal(v, backbone.state_dict()[k]) for k, v in before.items())


def test_other_networks_and_incomplete_files_are_refused(folded: Path, tmp_path: Path) -> None:
    """MobileNetV1's file is none of a ResNet50; a folded file without one of its layers is refused by its name."""
    with pytest.raises(WeightsError, match="do not fit this backbone"):
        load_trunk(Backbone("resnet50"), read_backbone_weights("resnet50", str(folded)))
    tensors = folded_tensors(11)
    del tensors["features.conv13.pw.bias"]
    save_file(tensors, tmp_path / "half.safetensors")
    with pytest.raises(WeightsError, match="conv13"):
        FAM.from_backbone(FAMConfig(num_classes=10), str(tmp_path / "half.safetensors"))


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

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", offline)  # which asks once; downloads are retried
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: pytest.fail("nothing can be downloaded"))
    with pytest.raises(WeightsError, match=r"timm/resnet50.*connect to the network, or start offline: from"):
        FAM.from_backbone(FAMConfig(backbone="resnet50"), "imagenet")


def test_imagenet_weights_come_from_the_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """'imagenet' asks the Hub for the row's file and takes the row's normalisation; another hash is not used."""
    asked = []
    path = tmp_path / "model.safetensors"
    save_file({"conv1.weight": torch.zeros(1)}, path)

    def fake(repo: str, file: str, revision: str | None) -> str:
        asked.append((repo, file, revision))
        return str(path)

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda *_, **__: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fake)
    weights, row = read_backbone_weights("mobilenetv1", "imagenet"), BACKBONES["mobilenetv1"]
    assert asked == [(row.hub_id, "model.safetensors", row.revision)]
    assert (weights.mean, weights.same_padding, weights.classifier) == (row.mean, False, None)
    with pytest.raises(WeightsError, match=r"SHA-256 .*, not 57b02691"):
        read_backbone_weights("vgg16", "imagenet")


def test_no_weights() -> None:
    """'none' reads nothing and says so; an unknown backbone is refused before anything is downloaded."""
    model = FAM.from_backbone(FAMConfig(backbone="test_efficientnet", num_classes=2), "none")
    assert model.provenance == {"backbone_weights": "none"}
    with pytest.raises(UnknownNameError, match="backbone"):
        read_backbone_weights("no_such_network", "imagenet")

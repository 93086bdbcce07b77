"""FAMConfig, FAM and FAMOutput."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from famcli_models import FAM, CAMConfig, FAMConfig, FAMOutput, MethodConfig
from famcli_models.errors import ConfigError, ShapeError, UnknownNameError
from famcli_models.features import Features
from famcli_models.methods.method import Batch

Make = Callable[..., FAM]

# ---- FAMConfig -------------------------------------------------------------------------------------------


def test_defaults_are_the_paper_s_numbers() -> None:
    """N=3, K=5, λ_spa=0.04, λ_div=0.01 and τ=0.5."""
    c = FAMConfig()
    assert (c.num_templates, c.num_parts, c.lambda_spa, c.lambda_div, c.tau) == (3, 5, 0.04, 0.01, 0.5)
    assert c.memory
    assert c.sparsity
    assert c.diversity
    assert c.importance


def test_paper_reading() -> None:
    """FAMConfig.paper() is equations (1) and (7) as printed, and still takes every other choice."""
    c = FAMConfig.paper(num_classes=7)
    assert (c.similarity, c.pooling, c.num_classes) == ("ratio", "features", 7)
    assert FAMConfig.paper(pooling="foreground").pooling == "foreground"


def test_configs_of_methods() -> None:
    """Each method has a config of its own; CAM starts from its own paper's threshold, and reads its older files."""
    assert (CAMConfig().method, CAMConfig().tau) == ("cam", 0.2)
    assert CAMConfig.from_dict({"method": "cam", "tau": 0.5, "num_parts": 5, "lambda_spa": 0.04}).tau == 0.5
    assert FAMConfig.from_dict({}).method == "fam"  # as in checkpoints that are older than the field
    with pytest.raises(ConfigError, match="unknown field 'lambda_cam' in a CAMConfig"):
        CAMConfig.from_dict({"lambda_cam": 1})
    with pytest.raises(ConfigError, match="method is 'cam'; it must be 'fam' in a FAMConfig"):
        FAMConfig.from_dict({"method": "cam"})


def test_config_is_frozen() -> None:
    """A config does not change under a model."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        FAMConfig().tau = 0.3  # type: ignore[misc]


@pytest.mark.parametrize(
    "config",
    [
        FAMConfig(),
        FAMConfig.paper(backbone="vgg16", mean=(0.1, 0.2, 0.3), std=(1, 2, 3)),
        CAMConfig(num_classes=3),
        FAMConfig(memory=False, tau=0, object_scale=2, value_bias=True, classifier="slow", stride=32),
        FAMConfig(fine_channels=128, fine_layers=2),
    ],
)
def test_json_round_trip(config: MethodConfig) -> None:
    """A config written as JSON reads back equal, tuples and all."""
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_unknown_fields_are_refused() -> None:
    """A field of another version is named."""
    with pytest.raises(ConfigError, match="'momentum'"):
        FAMConfig.from_dict({"tau": 0.4, "momentum": 0.9})


BAD = [
    ("method", "gradcam"),
    ("method", None),
    ("backbone", 3),
    ("backbone", None),
    ("num_classes", 0),
    ("num_classes", 1.5),
    ("num_classes", True),
    ("num_classes", "10"),
    ("num_templates", 0),
    ("num_templates", 1000),
    ("num_parts", 0),
    ("num_parts", -1),
    ("similarity", "cosine"),
    ("similarity", None),
    ("pooling", "max"),
    ("memory", "yes"),
    ("memory", 1),
    ("sparsity", None),
    ("diversity", 0),
    ("importance", "off"),
    ("lambda_spa", -0.1),
    ("lambda_spa", math.nan),
    ("lambda_spa", math.inf),
    ("lambda_div", -1),
    ("lambda_div", "0.1"),
    ("lambda_div", True),
    ("tau", -0.1),
    ("tau", 1),
    ("tau", math.nan),
    ("classifier", "finetuned"),
    ("sparsity_warmup", 1.5),
    ("part_std", -1),
    ("value_bias", 2),
    ("object_scale", 0),
    ("object_scale", math.inf),
    ("fine_channels", -1),
    ("fine_channels", 4097),
    ("fine_channels", 16.0),
    ("fine_channels", True),
    ("fine_layers", 0),
    ("fine_layers", 9),
    ("stride", 4),
    ("stride", 16.0),
    ("dilation", "no"),
    ("same_padding", None),
    ("frozen_norm", 1),
    ("size", 8),
    ("size", 100_000),
    ("mean", (0.5, 0.5)),
    ("mean", 0.5),
    ("mean", ("a", "b", "c")),
    ("mean", (math.nan, 0.5, 0.5)),
    ("mean", (0.5, math.inf, 0.5)),
    ("std", (0.5, 0, 0.5)),
    ("std", (0.5, -1, 0.5)),
    ("std", (0.5, math.nan, 0.5)),
    ("std", (0.5, 0.5, math.inf)),
    ("std", (True, True, True)),
]


@pytest.mark.parametrize(("field", "value"), BAD)
def test_bad_values_are_refused_by_name(field: str, value: object) -> None:
    """Every field refuses what it cannot use, and the message names the field."""
    with pytest.raises(ConfigError, match=field):
        FAMConfig(**{field: value})  # type: ignore[arg-type]


def test_every_field_has_a_bad_value_above() -> None:
    """A new field brings its own refusals."""
    assert {name for name, _ in BAD} == {f.name for f in dataclasses.fields(FAMConfig)}


# ---- FAM -------------------------------------------------------------------------------------------------


def test_output_shapes(model: FAM) -> None:
    """The letters of the paper have the shapes that FAMOutput promises."""
    out = model(torch.randn(2, 3, 64, 64))
    C = model.backbone.channels
    assert isinstance(out, FAMOutput)
    assert out.M.shape == (2, 1, 4, 4)
    assert out.A.shape == (2, 5, 4, 4)
    assert out.P.shape == (2, 5, C)
    assert out.t.shape == (2, 5)
    assert out.o.shape == (2, C)
    assert out.logits.shape == (2, 5)
    assert all(value.isfinite().all() for value in out)


def test_output_is_frozen(model: FAM) -> None:
    """forward returns one type that nobody changes on the way."""
    with pytest.raises(AttributeError):
        model(torch.randn(1, 3, 64, 64)).M = None


VARIANTS = [
    {},
    {"similarity": "ratio"},
    {"similarity": "ratio-relu"},
    {"memory": False},
    {"value_bias": True},
    {"value_bias": True, "similarity": "ratio-relu"},
    {"importance": False},
    {"pooling": "features"},
    {"memory": False, "importance": False},
    {"num_parts": 1},
    {"num_templates": 1},
    {"frozen_norm": False},
    {"object_scale": 2.0},
    {"fine_channels": 16},
    {"fine_channels": 32, "fine_layers": 2},
    {"fine_channels": 64, "memory": False},
    {"stride": 32},
    {"stride": 8},
    {"dilation": False},
    {"same_padding": True},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_gradients_reach_every_parameter(make_model: Make, variant: dict[str, Any]) -> None:
    """One training step moves every named parameter, and a gradient that is missing or zero is named."""
    model = make_model(seed=1, **variant).train()  # a seed with which no ReLU is closed for all pixels
    images = torch.randn(4, 3, 64, 64)
    model.loss(model(images), Batch(torch.tensor([0, 1, 2, 3]))).total.backward()
    # One template has the similarity 1 whatever its key is; one part has the importance 1.
    constant = {
        "num_templates": ("object_attention.encoder", "object_attention.keys"),
        "num_parts": ("part_attention.importance",),
    }
    idle = tuple(prefix for field, prefixes in constant.items() if variant.get(field) == 1 for prefix in prefixes)
    dead = [
        name
        for name, p in model.named_parameters()
        if not name.startswith(idle or ("-",)) and (p.grad is None or not p.grad.isfinite().all() or not p.grad.any())
    ]
    assert dead == []


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_batch_slices_are_equal(make_model: Make, variant: dict[str, Any]) -> None:
    """In evaluation mode an image's output does not depend on its neighbours in the batch."""
    model = make_model(**variant).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        both = model(images)
        for i in range(2):
            one = model(images[i : i + 1])
            for name in FAMOutput._fields:
                torch.testing.assert_close(
                    getattr(one, name)[0], getattr(both, name)[i], rtol=1e-4, atol=1e-4, msg=name
                )


@pytest.mark.parametrize("size_hw", [(63, 97), (33, 64), (17, 17), (101, 40)])
def test_odd_sizes(model: FAM, size_hw: tuple[int, int]) -> None:
    """Any height and width give a map and finite scores."""
    out = model(torch.randn(1, 3, *size_hw))
    assert out.M.shape[2:] == tuple(-(-side // 16) for side in size_hw)
    assert out.logits.isfinite().all()


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64), (1, 4, 64, 64), (1, 3, 64)])
def test_other_shapes_are_refused(model: FAM, shape: tuple[int, ...]) -> None:
    """What is no batch of RGB images is refused with its shape."""
    with pytest.raises(ShapeError, match=r"\(B, 3, h, w\)"):
        model(torch.randn(shape))


def test_double_precision(model: FAM) -> None:
    """The whole model runs in float64."""
    assert model.double()(torch.randn(1, 3, 64, 64, dtype=torch.float64)).M.dtype == torch.float64


def test_channels_last(model: FAM) -> None:
    """Channels-last memory changes the speed and not the numbers."""
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model(images)
        model.to(memory_format=torch.channels_last)
        out = model(images.contiguous(memory_format=torch.channels_last))
    for name in FAMOutput._fields:
        torch.testing.assert_close(getattr(out, name), getattr(expected, name), rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.parametrize(
    "variant", [{}, {"memory": False}, {"importance": False}, {"similarity": "ratio-relu"}], ids=str
)
def test_bfloat16_autocast(make_model: Make, variant: dict[str, Any]) -> None:
    """Under bf16 autocast a step forward and back works and stays near float32."""
    model = make_model(**variant).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(images)
        total = model.loss(out, Batch(torch.tensor([0, 1]))).total
    total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    with torch.no_grad():
        expected = model(images)
    assert (out.M.float() - expected.M).abs().max() < 0.1
    assert (out.logits.float() - expected.logits).abs().max() < 0.1


def test_training_mode_freezes_norms(make_model: Make) -> None:
    """In training mode the batch norms' statistics stay, unless the config lets them go."""
    for frozen in (True, False):
        model = make_model(frozen_norm=frozen).train()
        before = {k: v.clone() for k, v in model.state_dict().items() if "running" in k}
        with torch.no_grad():
            model(torch.randn(4, 3, 64, 64))
        assert any(not torch.equal(v, model.state_dict()[k]) for k, v in before.items()) is not frozen
        assert model.training


def test_object_scale_is_seen_by_the_classifier_alone(make_model: Make) -> None:
    """The classifier sees object_scale times o; o itself and the map do not change."""
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        one, two = make_model().eval()(images), make_model(object_scale=2.0).eval()(images)
        torch.testing.assert_close(one.o, two.o)
        model = make_model(object_scale=2.0)
        torch.testing.assert_close(two.logits, model.classifier(2 * two.o))


def test_own_backbone() -> None:
    """Any module with an attribute `channels` serves as backbone."""

    class Own(nn.Module):
        channels = 32

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 32, 3, stride=16)

        def forward(self, images: torch.Tensor) -> Features:
            return Features(self.conv(images))

    out = FAM(FAMConfig(num_classes=3), backbone=Own())(torch.randn(2, 3, 64, 64))
    assert out.M.shape == (2, 1, 4, 4)
    assert out.logits.shape == (2, 3)


def test_class_names_must_fit(make_model: Make) -> None:
    """As many names as classes, or none: then the names are the numbers."""
    with pytest.raises(ConfigError, match="2 class names for 3 classes"):
        FAM(FAMConfig(backbone="test_efficientnet", num_classes=3), ["a", "b"])
    assert make_model(num_classes=3).class_names == ("0", "1", "2")


def test_unknown_backbone() -> None:
    """A backbone that is in no table is named, with near ones."""
    with pytest.raises(UnknownNameError, match="mobilenetv1"):
        FAM(FAMConfig(backbone="mobilenet1"))


def test_same_seed_same_model(make_model: Make) -> None:
    """Building is seeded by torch alone."""
    one, two = make_model(seed=3).state_dict(), make_model(seed=3).state_dict()
    assert all(torch.equal(v, two[k]) for k, v in one.items())


def test_models_can_be_copied(model: FAM) -> None:
    """deepcopy gives a model of its own with the same numbers."""
    other = copy.deepcopy(model)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(other(images).logits, model(images).logits)
    assert other.classifier.weight.data_ptr() != model.classifier.weight.data_ptr()


# ---- Compilers and exporters -----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # tracers warn of themselves and of every shape they see
def test_torchscript_trace(model: FAM) -> None:
    """A traced model gives the same numbers, on another batch size and another input size too."""
    traced = torch.jit.trace(model, torch.randn(2, 3, 64, 64), check_trace=False)
    for shape in ((2, 3, 64, 64), (3, 3, 64, 64), (1, 3, 96, 80)):
        images = torch.randn(shape)
        with torch.no_grad():
            for name, value, expected in zip(FAMOutput._fields, traced(images), model(images), strict=True):
                torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-4, msg=f"{name} {shape}")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_torch_compile(model: FAM, backend: str) -> None:
    """torch.compile takes the model as one graph and gives the same numbers."""
    torch.compiler.reset()
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        out, expected = compiled(images), model(images)
    for name in FAMOutput._fields:
        torch.testing.assert_close(getattr(out, name), getattr(expected, name), rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("variant", [{}, {"importance": False, "similarity": "ratio"}, {"fine_channels": 16}], ids=str)
def test_onnx(make_model: Make, tmp_path: Path, variant: dict[str, Any]) -> None:
    """An ONNX file gives the same numbers in onnxruntime, on another batch size."""
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    model = make_model(**variant).eval()
    path = tmp_path / "fam.onnx"
    torch.onnx.export(
        model,
        (torch.randn(2, 3, 64, 64),),
        str(path),
        dynamo=False,  # needs no onnxscript
        input_names=["images"],
        output_names=list(FAMOutput._fields),
        dynamic_axes={"images": {0: "batch"}},
    )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        images = torch.randn(batch, 3, 64, 64)
        with torch.no_grad():
            expected = model(images)
        for name, value in zip(FAMOutput._fields, session.run(None, {"images": images.numpy()}), strict=True):
            np.testing.assert_allclose(value, getattr(expected, name).numpy(), rtol=1e-3, atol=1e-4, err_msg=name)

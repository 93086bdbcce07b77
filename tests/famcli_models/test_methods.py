"""What every method does: one step forward and back, other memory and precision, compilers and exporters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from famcli_models import CAM, FAM, METHODS, CAMConfig, FAMConfig, Method
from famcli_models.errors import ConfigError, ShapeError
from famcli_models.methods.method import Batch

Make = Callable[..., Method]
CAM_OPTIONS = {"method": "cam"}
VARIANTS: list[dict[str, Any]] = [
    {},
    CAM_OPTIONS,
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
    {"fine_channels": 16, "stride": 32, "fine_factor": 4, "class_evidence": True},
    {"memory": False, "class_evidence": True},
    {"stride": 32},
    {"stride": 8},
    {"dilation": False},
    {"same_padding": True},
]
every_variant = pytest.mark.parametrize("variant", VARIANTS, ids=str)
every_method = pytest.mark.parametrize("variant", [{}, CAM_OPTIONS], ids=str)


def assert_close(out: Any, expected: Any, **tolerances: float) -> None:
    """Every part of two outputs agrees."""
    for name, value, other in zip(expected._fields, out, expected, strict=True):
        torch.testing.assert_close(value, other, **{"rtol": 1e-4, "atol": 1e-4, **tolerances}, msg=name)


@every_variant
def test_gradients_reach_every_parameter(make_model: Make, variant: dict[str, Any]) -> None:
    """One training step moves every named parameter, and a gradient that is missing or zero is named."""
    model = make_model(seed=1, **variant).train()  # a seed with which no ReLU is closed for all pixels
    model.loss(model(torch.randn(4, 3, 64, 64)), Batch(torch.tensor([0, 1, 2, 3]))).total.backward()
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


@every_variant
def test_batch_slices_are_equal(make_model: Make, variant: dict[str, Any]) -> None:
    """In evaluation mode an image's output does not depend on its neighbours in the batch."""
    model = make_model(**variant).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        both = model(images)
        for i in range(2):
            assert_close([value[0] for value in model(images[i : i + 1])], type(both)(*(value[i] for value in both)))


@every_method
@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64), (1, 4, 64, 64), (1, 3, 64)])
def test_other_shapes_are_refused(make_model: Make, variant: dict[str, Any], shape: tuple[int, ...]) -> None:
    """What is no batch of RGB images is refused with its shape."""
    with pytest.raises(ShapeError, match=r"\(B, 3, h, w\)"):
        make_model(**variant)(torch.randn(shape))


@every_method
def test_channels_last(make_model: Make, variant: dict[str, Any]) -> None:
    """Channels-last memory changes the speed and not the numbers."""
    model, images = make_model(**variant).eval(), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model(images)
        model.to(memory_format=torch.channels_last)
        assert_close(model(images.contiguous(memory_format=torch.channels_last)), expected)


@pytest.mark.parametrize(
    "variant", [{}, CAM_OPTIONS, {"memory": False}, {"importance": False}, {"similarity": "ratio-relu"}], ids=str
)
def test_bfloat16_autocast(make_model: Make, variant: dict[str, Any]) -> None:
    """Under bf16 autocast a step forward and back works and stays near float32."""
    model, images = make_model(**variant).eval(), torch.randn(2, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(images)
        total = model.loss(out, Batch(torch.tensor([0, 1]))).total
    total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    with torch.no_grad():
        expected = model(images)
    assert (out.logits.float() - expected.logits).abs().max() < 0.1
    if variant != CAM_OPTIONS:  # its map is scaled image by image, and rounding with it
        assert (model.maps(out).float() - model.maps(expected)).abs().max() < 0.1


def test_a_table_of_methods() -> None:
    """Each method knows its own name, makes a default config of that name, and takes a config of no other."""
    assert all(kind.name() == kind.config_class().method == name for name, kind in METHODS.items())  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="a FAM is made from a FAMConfig, not CAMConfig"):
        FAM(CAMConfig(backbone="test_efficientnet"))
    with pytest.raises(ConfigError, match="a CAM is made from a CAMConfig, not FAMConfig"):
        CAM(FAMConfig(backbone="test_efficientnet"))


# ---- Compilers and exporters -----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # tracers warn of themselves and of every shape they see
@every_method
def test_torchscript_trace(make_model: Make, variant: dict[str, Any]) -> None:
    """A traced model gives the same numbers, on another batch size and another input size too."""
    model = make_model(**variant).eval()
    traced = torch.jit.trace(model, torch.randn(2, 3, 64, 64), check_trace=False)
    for shape in ((2, 3, 64, 64), (3, 3, 64, 64), (1, 3, 96, 80)):
        images = torch.randn(shape)
        with torch.no_grad():
            assert_close(traced(images), model(images))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_torch_compile(model: FAM, backend: str) -> None:
    """torch.compile takes the model as one graph and gives the same numbers."""
    torch.compiler.reset()
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert_close(compiled(images), model(images))


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
        dynamic_axes={"images": {0: "batch"}},
    )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        images = torch.randn(batch, 3, 64, 64)
        found = session.run(None, {"images": images.numpy()})
        with torch.no_grad():
            assert_close([torch.from_numpy(np.asarray(value)) for value in found], model(images), rtol=1e-3)

"""A model as one file: compared with the model, or not there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from famcli.checkpoints import ExportFormat, export as module
from famcli.checkpoints.export import EXPORT_FORMATS, OPSETS, Parity, export, parity
from famcli.checkpoints.graph import Graph
from famcli.checkpoints.reference import reference_images
from famcli_models import FAM
from famcli_models.errors import ConfigError, FamError

FORMS = ["onnx", "torchscript", "torch-export"]
# What is tested is the file, not torch's opinion of its own older parts.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def run_file(path: Path, form: str, images: np.ndarray) -> list[np.ndarray]:
    """What a runtime that knows nothing of ours gives for images."""
    if form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return list(session.run(None, {"images": images}))
    loaded: Any = torch.jit.load(str(path)) if form == "torchscript" else torch.export.load(path).module()
    return [output.detach().numpy() for output in loaded(torch.from_numpy(images))]


def test_the_names_are_those_of_the_table() -> None:
    """The command line offers what the table has."""
    assert get_args(ExportFormat) == tuple(EXPORT_FORMATS)


@pytest.mark.parametrize("tau", [None, 0.5])
@pytest.mark.parametrize("form", FORMS)
def test_formats(model: FAM, tmp_path: Path, form: ExportFormat, tau: float | None) -> None:
    """Every format takes any number of images, and gives the model's maps, probabilities and boxes."""
    path = tmp_path / f"fam{EXPORT_FORMATS[form].suffix}"
    found = export(model, path, form, tau=tau)
    assert found.good
    assert found.maps < 1e-4
    assert (found.boxes is None) == (tau is None)
    four = reference_images(64)
    for images in (four[1:2], four, np.concatenate([four, four])):
        with torch.no_grad():
            want = Graph(model, tau)(torch.from_numpy(images))
        for a, b in zip(run_file(path, form, images), want, strict=True):
            np.testing.assert_allclose(a, b.numpy(), rtol=0, atol=1e-4)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("form", ["onnx"])
@pytest.mark.parametrize("opset", OPSETS)
def test_onnx_describes_itself(model: FAM, tmp_path: Path, form: ExportFormat, opset: int) -> None:
    """Names, a free batch, the opset asked for, and the classes are in the file."""
    import onnx

    export(model, tmp_path / "fam.onnx", form, tau=0.4, opset=opset)
    proto = onnx.load(str(tmp_path / "fam.onnx"))
    onnx.checker.check_model(proto)
    facts = {entry.key: entry.value for entry in proto.metadata_props}
    assert (json.loads(facts["class_names"]), facts["threshold"]) == (list(model.class_names), "0.4")
    (images,) = proto.graph.input
    batch, *sizes = images.type.tensor_type.shape.dim
    assert (images.name, batch.dim_param, [d.dim_value for d in sizes]) == ("images", "batch", [64, 64, 3])
    assert [output.name for output in proto.graph.output] == ["maps", "probabilities", "boxes", "foreground"]
    assert [entry.version for entry in proto.opset_import if entry.domain in {"", "ai.onnx"}] == [opset]


@pytest.mark.parametrize("form", FORMS[1:])
def test_torch_files_describe_themselves(model: FAM, tmp_path: Path, form: ExportFormat) -> None:
    """The classes are in the files of torch too."""
    path, files = tmp_path / f"fam{EXPORT_FORMATS[form].suffix}", {module.FACTS: ""}
    export(model, path, form)
    if form == "torchscript":
        torch.jit.load(str(path), _extra_files=files)
    else:
        torch.export.load(path, extra_files=files)
    assert json.loads(json.loads(files[module.FACTS])["class_names"]) == list(model.class_names)


@pytest.mark.parametrize("variant", [{"memory": False}, {"importance": False, "similarity": "ratio"}], ids=str)
@pytest.mark.parametrize("form", ["onnx", "torch-export"])
def test_variants(make_model: Callable[..., FAM], tmp_path: Path, form: ExportFormat, variant: dict[str, Any]) -> None:
    """Models with other equations are exported too."""
    assert export(make_model(**variant), tmp_path / "fam", form).good


class Broken(Graph):
    """A graph whose maps are off by a hundredth."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        M, *rest = super().forward(images)
        return (M + 0.01, *rest)


@pytest.mark.parametrize("form", FORMS)
def test_a_wrong_file_is_not_kept(
    model: FAM, tmp_path: Path, form: ExportFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that gives other maps than the model is an error, and the file that was there before stays."""
    monkeypatch.setattr(module, "Graph", Broken)
    path = tmp_path / "fam"
    path.write_text("before")
    with pytest.raises(FamError, match=r"maps differ by at most 0\.01, .* allowed 0\.001.* not kept"):
        export(model, path, form)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failing_exporter(model: FAM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch says when it cannot export is one sentence, and no file is left."""

    def fail(*_: object) -> None:
        msg = "no such operator\nand a long story"
        raise RuntimeError(msg)

    monkeypatch.setitem(EXPORT_FORMATS, "torch-export", module.FormatRow(".pt2", fail, fail))
    with pytest.raises(FamError, match=r"cannot write this as torch-export: RuntimeError: no such operator$"):
        export(model, tmp_path / "fam.pt2", "torch-export")
    assert list(tmp_path.iterdir()) == []


def test_parity_compares_boxes_with_localize(model: FAM) -> None:
    """A box that is off by two pixels of the input is outside of the tolerance; NaN is never good."""

    def run(images: np.ndarray, shift: float) -> list[np.ndarray]:
        with torch.no_grad():
            out = [output.numpy() for output in Graph(model, 0.5)(torch.from_numpy(images))]
        out[2] = out[2] + shift / 64
        return out

    assert parity(model, lambda images: run(images, 0), 0.5).good
    off = parity(model, lambda images: run(images, 2), 0.5)
    assert off.boxes == pytest.approx(2, abs=1e-3)
    assert not off.good
    nan = float("nan")
    assert not parity(model, lambda images: run(images, nan), 0.5).good
    assert not any(Parity(*gaps).good for gaps in ((nan, 0.0, None), (0.0, nan, None), (0.0, 0.0, nan)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"form": "onnx", "opset": 17}, "opset 17 is not in 18 to 23"),
        ({"form": "onnx", "opset": 24}, "opset 24 is not in 18 to 23"),
        ({"form": "torch-export", "tau": 1.5}, r"threshold 1.5 is not in \[0, 1\)"),
    ],
)
def test_refused(model: FAM, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    """Values out of range are told before anything is written."""
    with pytest.raises(ConfigError, match=words):
        export(model, tmp_path / "fam", **options)
    assert list(tmp_path.iterdir()) == []

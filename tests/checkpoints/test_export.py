"""A model as one file: compared with the model, or not there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from famcli.checkpoints import export as module
from famcli.checkpoints.export import OPSETS, Parity, export, parity
from famcli.checkpoints.graph import Graph
from famcli.checkpoints.reference import draw
from famcli.names import ExportFormat
from famcli_models import FAM
from famcli_models.errors import ConfigError, FamError

Make = Callable[..., FAM]
ONNX = [
    pytest.param(
        ExportFormat.onnx,
        marks=pytest.mark.skipif(
            any(module.importlib.util.find_spec(n) is None for n in module.NEEDS), reason="no ONNX"
        ),
    )
]
IN_TORCH = [ExportFormat.torchscript, ExportFormat.torch_export]


def run_file(path: Path, form: ExportFormat, pictures: np.ndarray) -> list[np.ndarray]:
    """What a runtime that knows nothing of ours gives for pictures."""
    if form is ExportFormat.onnx:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return list(session.run(None, {"images": pictures}))
    loaded: Any = torch.jit.load(str(path)) if form is ExportFormat.torchscript else torch.export.load(path).module()
    return [output.detach().numpy() for output in loaded(torch.from_numpy(pictures))]


@pytest.mark.filterwarnings("ignore")  # what is tested is the file, not torch's opinion of its own older parts
@pytest.mark.parametrize("tau", [None, 0.5])
@pytest.mark.parametrize("form", [*ONNX, *IN_TORCH])
def test_formats(model: FAM, tmp_path: Path, form: ExportFormat, tau: float | None) -> None:
    """Every format takes any number of pictures, and gives the model's maps, probabilities and boxes."""
    path = tmp_path / f"fam{module.SUFFIXES[form]}"
    found = export(model, path, form, tau=tau)
    assert found.good
    assert found.maps < 1e-4
    assert (found.boxes is None) == (tau is None)
    for pictures in (draw(64)[1:2], draw(64), np.concatenate([draw(64), draw(64)])):
        with torch.no_grad():
            want = Graph(model, tau)(torch.from_numpy(pictures))
        got = run_file(path, form, pictures)
        assert len(got) == len(want)
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b.numpy(), rtol=0, atol=1e-4)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("form", ONNX)
@pytest.mark.parametrize("opset", OPSETS)
def test_onnx_describes_itself(model: FAM, tmp_path: Path, form: ExportFormat, opset: int) -> None:
    """Names, a free batch, the opset asked for, and the classes are in the file."""
    import onnx

    export(model, tmp_path / "fam.onnx", form, tau=0.4, opset=opset)
    proto = onnx.load(str(tmp_path / "fam.onnx"))
    onnx.checker.check_model(proto)
    facts = {entry.key: entry.value for entry in proto.metadata_props}
    assert json.loads(facts["class_names"]) == list(model.class_names)
    assert facts["threshold"] == "0.4"
    (images,) = proto.graph.input
    dimensions = images.type.tensor_type.shape.dim
    assert (images.name, dimensions[0].dim_param) == ("images", "batch")
    assert [d.dim_value for d in dimensions[1:]] == [64, 64, 3]
    assert [output.name for output in proto.graph.output] == ["maps", "probabilities", "boxes", "foreground"]
    assert [entry.version for entry in proto.opset_import if entry.domain in {"", "ai.onnx"}] == [opset]


@pytest.mark.filterwarnings("ignore")
def test_torch_files_describe_themselves(model: FAM, tmp_path: Path) -> None:
    """The classes are in the files of torch too."""
    export(model, tmp_path / "fam.pt", ExportFormat.torchscript)
    files = {module.FACTS: ""}
    torch.jit.load(str(tmp_path / "fam.pt"), _extra_files=files)
    assert json.loads(json.loads(files[module.FACTS])["class_names"]) == list(model.class_names)
    export(model, tmp_path / "fam.pt2", ExportFormat.torch_export)
    files = {module.FACTS: ""}
    torch.export.load(tmp_path / "fam.pt2", extra_files=files)
    assert json.loads(json.loads(files[module.FACTS])["class_names"]) == list(model.class_names)


@pytest.mark.parametrize("variant", [{"memory": False}, {"importance": False, "similarity": "ratio"}], ids=str)
@pytest.mark.parametrize("form", [*ONNX, ExportFormat.torch_export])
def test_variants(make_model: Make, tmp_path: Path, form: ExportFormat, variant: dict[str, Any]) -> None:
    """Models with other equations are exported too."""
    assert export(make_model(**variant), tmp_path / "fam", form).good


class Broken(Graph):
    """A graph whose maps are off by a hundredth."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        M, *rest = super().forward(images)
        return (M + 0.01, *rest)


@pytest.mark.parametrize("form", [*ONNX, *IN_TORCH])
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

    monkeypatch.setitem(module.WRITERS, ExportFormat.torch_export, fail)
    with pytest.raises(FamError, match=r"cannot write this as torch-export: RuntimeError: no such operator$"):
        export(model, tmp_path / "fam.pt2", ExportFormat.torch_export)
    assert list(tmp_path.iterdir()) == []


def test_parity_compares_boxes_with_localize(model: FAM) -> None:
    """A box that is off by two pixels of the input is outside of the tolerance; NaN is never good."""

    def run(pictures: np.ndarray, shift: float) -> list[np.ndarray]:
        with torch.no_grad():
            out = [output.numpy() for output in Graph(model, 0.5)(torch.from_numpy(pictures))]
        out[2] = out[2] + shift / 64
        return out

    assert parity(model, lambda p: run(p, 0), 0.5).good
    off = parity(model, lambda p: run(p, 2), 0.5)
    assert off.boxes == pytest.approx(2, abs=1e-3)
    assert not off.good
    assert not parity(model, lambda p: run(p, float("nan")), 0.5).good
    assert not Parity(float("nan"), 0.0, None).good
    assert not Parity(0.0, float("nan"), None).good
    assert not Parity(0.0, 0.0, float("nan")).good


def test_without_onnx(model: FAM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the packages the error names them and the command that installs them."""
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None if "script" in name else object())
    with pytest.raises(ConfigError, match=r"needs onnxscript; install with: pip install 'famcli\[export\]'"):
        export(model, tmp_path / "fam.onnx", ExportFormat.onnx)


@pytest.mark.parametrize("form", ONNX)
@pytest.mark.parametrize("opset", [17, 24])
def test_opsets(model: FAM, tmp_path: Path, form: ExportFormat, opset: int) -> None:
    """An opset out of range is refused with the range."""
    with pytest.raises(ConfigError, match=r"opset \d+ is not in 18 to 23"):
        export(model, tmp_path / "fam.onnx", form, opset=opset)


def test_old_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """An old torch is told to be too old for ONNX."""
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(module.torch, "__version__", "2.5.1+cu121")
    with pytest.raises(ConfigError, match="2.6 or newer, not 2.5.1"):
        module.check_onnx(18)


def test_threshold(model: FAM, tmp_path: Path) -> None:
    """A threshold out of range is refused."""
    with pytest.raises(ConfigError, match=r"threshold 1.5 is not in \[0, 1\)"):
        export(model, tmp_path / "fam", ExportFormat.torch_export, tau=1.5)

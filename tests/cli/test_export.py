"""``fam export``, and the guide's program for onnxruntime."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from famcli.checkpoints.export import NEEDS, Parity
from famcli.demo import photo_folder
from famcli.inference.predictor import Predictor
from famcli_models import FAM
from famcli_models.boxes import box_iou

Fam = Callable[..., Result]
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "export.md"
needs_onnx = pytest.mark.skipif(any(find_spec(name) is None for name in NEEDS), reason="no ONNX")


def test_path_is_the_result(fam: Fam, checkpoint: Path, tmp_path: Path) -> None:
    """Standard output is the path of the file; the differences from PyTorch are talk."""
    out = tmp_path / "new" / "fam.pt2"
    result = fam("export", checkpoint, "--format", "torch-export", "--out", out)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{out}\n"
    assert re.search(r"compared with PyTorch on batches of 1 and 3: maps differ by at most [\d.e-]+,", result.stderr)
    assert out.stat().st_size > 10_000


@pytest.mark.filterwarnings("ignore")
def test_default_name_and_json(fam: Fam, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --out the file has the model's name and the format's ending; --json gives the differences."""
    monkeypatch.chdir(tmp_path)
    result = fam("export", checkpoint, "--format", "torchscript", "--with-boxes", "--threshold", "0.4", "--json")
    assert result.exit_code == 0, result.stderr
    assert "TorchScript is deprecated" in result.stderr
    report = json.loads(result.stdout)
    assert (report["out"], report["threshold"], report["opset"]) == ("tiny.pt", 0.4, None)
    assert report["map_difference"] <= report["tolerance"]
    assert report["bytes"] == (tmp_path / "tiny.pt").stat().st_size


@pytest.mark.parametrize(
    ("model", "name"), [("org/bird-model@refs/pr/1", "bird-model.pt2"), ("fam-x", "fam-x.pt2"), ("tiny", "tiny.pt2")]
)
def test_default_names(
    fam: Fam, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: str, name: str
) -> None:
    """The file of a model of the Hub has the repository's name, without organisation and revision."""
    (tmp_path / "tiny").symlink_to(checkpoint)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("famcli.hub.find_model", lambda name, say: checkpoint)
    monkeypatch.setattr(
        "famcli.checkpoints.export.export", lambda fam, out, *_, **__: out.touch() or Parity(0, 0, None)
    )
    assert fam("export", model, "--format", "torch-export").stdout == f"{name}\n"


def test_beyond_tolerance(fam: Fam, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Differences beyond the tolerance are exit code 1, one line, and no file."""
    monkeypatch.setattr("famcli.checkpoints.export.TOLERANCE", -1.0)
    result = fam("export", checkpoint, "--format", "torch-export", "--out", tmp_path / "fam.pt2")
    assert result.exit_code == 1
    assert "not the model's" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("out", ["folder", "file/fam.pt2", "pipe"])
def test_bad_targets(fam: Fam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str) -> None:
    """A file that cannot be written is told before the model is looked for, with the option that names another."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr("famcli.hub.find_model", lambda *_: pytest.fail("the model was looked for"))
    result = fam("export", "org/name", "--format", "torch-export", "--out", tmp_path / out)
    assert result.exit_code == 1
    assert f"cannot write '{tmp_path / out}'" in result.stderr
    assert "--out" in result.stderr
    assert ".fam." not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [("--format", "tflite"), ("--threshold", "0.4"), ("--format", "torch-export", "--opset", "18"), ("--opset", "new")],
    ids=" ".join,
)
def test_wrong_usage(fam: Fam, checkpoint: Path, arguments: tuple[str, ...]) -> None:
    """Options that do not go together are wrong usage."""
    result = fam("export", checkpoint, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""


def test_without_the_extra(fam: Fam, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ONNX's packages the command says how to install them before it looks for the model."""
    monkeypatch.setattr("famcli.checkpoints.export.importlib.util.find_spec", lambda name: None)
    result = fam("export", "no-such-model")
    assert result.exit_code == 1
    assert "pip install 'famcli[export]'" in result.stderr


@needs_onnx
def test_the_guide(fam: Fam, make_model: Callable[..., FAM], tmp_path: Path) -> None:
    """The program of the guide, as it is printed, runs without torch and without fam, and finds the model's box."""
    model = make_model(size=224)
    model.save_pretrained(tmp_path / "m")
    result = fam("export", tmp_path / "m", "--with-boxes", "--out", tmp_path / "fam.onnx")
    assert result.exit_code == 0, result.stderr
    with Image.open(photo_folder() / "coffee.png") as photo:
        photo.convert("RGB").save(tmp_path / "photo.jpg", quality=95)
    (program,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in program.splitlines() if line and "import" not in line]) == 5
    alone = "import sys\nsys.modules |= dict.fromkeys(('torch', 'famcli', 'famcli_models', 'cv2'))\n"
    done = subprocess.run(
        [sys.executable, "-c", alone + program], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    *corners, best = map(float, re.findall(r"[\d.]+(?:e[+-]\d+)?", done.stdout))
    prediction = Predictor(model, "cpu")(tmp_path / "photo.jpg")
    assert best == prediction.classes[0].index
    if prediction.regions:
        assert box_iou(np.array(corners), prediction.regions[0].xyxy)[0, 0] > 0.9
    else:
        assert corners == [0.0] * 4

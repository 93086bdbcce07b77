"""``fam export`` and the guide's program for onnxruntime, ``fam verify`` and ``fam doctor``."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from famcli.checkpoints.doctor import Finding
from famcli.checkpoints.export import Parity
from famcli.demo import photo_folder
from famcli.inference.predictor import Predictor
from famcli_models import FAM
from famcli_models.boxes import box_iou
from famcli_models.checkpoint import DEFAULT_MODEL

Fam = Callable[..., Result]
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "export.md"


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint."""
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


@pytest.mark.filterwarnings("ignore")
def test_export(fam: Fam, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard output is the path of the file, or with --json the differences from PyTorch, which else are talk."""
    out = tmp_path / "new" / "fam.pt"
    result = fam("export", checkpoint, "--format", "torchscript", "--out", out)
    assert (result.exit_code, result.stdout) == (0, f"{out}\n"), result.stderr
    assert "TorchScript is deprecated" in result.stderr
    assert re.search(r"compared with PyTorch on batches of 1 and 3: maps differ by at most [\d.e-]+,", result.stderr)
    monkeypatch.chdir(tmp_path)
    result = fam("export", checkpoint, "--format", "torchscript", "--with-boxes", "--threshold", "0.4", "--json")
    report = json.loads(result.stdout)
    assert (report["out"], report["threshold"], report["opset"]) == ("tiny.pt", 0.4, None)
    assert report["map_difference"] <= report["tolerance"]
    assert {"probability_difference", "box_difference", "format"} < set(report)
    assert report["bytes"] == (tmp_path / "tiny.pt").stat().st_size


def test_default_names(fam: Fam, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The file of a model of the Hub has the repository's name, without organisation and revision."""
    (tmp_path / "tiny").symlink_to(checkpoint)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("famcli.hub.find_model", lambda name, say: checkpoint)
    done = Parity(0, 0, None)
    monkeypatch.setattr("famcli.checkpoints.export.export", lambda fam, out, *_, **__: out.touch() or done)
    for model, name in (("org/bird-model@refs/pr/1", "bird-model"), ("fam-x", "fam-x"), ("tiny", "tiny")):
        assert fam("export", model, "--format", "torch-export").stdout == f"{name}.pt2\n"


def test_bad_targets(fam: Fam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be written is told before the model is looked for."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setattr("famcli.hub.find_model", lambda *_: pytest.fail("the model was looked for"))
    (tmp_path / "circle").symlink_to("circle")
    for out in ("folder", "file/fam.pt2", "circle"):
        result = fam("export", "org/name", "--format", "torch-export", "--out", tmp_path / out)
        assert result.exit_code == 1
        assert f"cannot write '{tmp_path / out}'" in result.stderr
        assert ("--out" in result.stderr, ".fam." in result.stderr) == (True, False)


@pytest.mark.parametrize(
    "arguments",
    [("--format", "tflite"), ("--threshold", "0.4"), ("--format", "torch-export", "--opset", "18"), ("--opset", "new")],
    ids=" ".join,
)
def test_wrong_usage(fam: Fam, checkpoint: Path, arguments: tuple[str, ...]) -> None:
    """Options that do not go together are wrong usage."""
    result = fam("export", checkpoint, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")


@pytest.mark.slow
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


def test_verify_packaged(fam: Fam) -> None:
    """The default model is good: a table on stdout, exit code 0; an unknown name or device is an error."""
    result = fam("verify", DEFAULT_MODEL, "--device", "cpu")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split("|")[2].strip() for line in result.stdout.splitlines()[2:]] == ["ok", "ok", "ok"]
    unknown = (
        (("no-such-model",), DEFAULT_MODEL),
        ((DEFAULT_MODEL, "--device", "cuda:77"), "use --device auto or cpu"),
    )
    for arguments, words in unknown:
        result = fam("verify", *arguments)
        assert (result.exit_code, result.stdout, words in result.stderr) == (1, "", True)


def test_verify_record(fam: Fam, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--record stores the reference outputs, which the table missed; a problem is WRONG, a line, exit code 1."""
    before = fam("verify", folder, "--device", "cpu")
    assert before.exit_code == 0
    assert f"fam verify {folder} --record" in before.stdout
    recorded = fam("verify", folder, "--record", "--device", "cpu", "--json")
    assert recorded.exit_code == 0
    assert "stored the reference outputs" in recorded.stderr
    report = json.loads(recorded.stdout)
    assert (report["ok"], report["problems"], len(report["sha256"])) == (True, [], 64)
    assert report["golden"]["map_difference"] < report["golden"]["tolerance"]
    names = ["config and weights", "SHA-256", "reference outputs, PyTorch on the CPU", "graph.onnx"]
    assert [check["name"] for check in report["checks"]] == names
    assert "the same to the last stored digit" in report["checks"][2]["detail"]
    (folder / "README.md").write_text(f"model.safetensors {'0' * 64}")
    result = fam("verify", folder, "--device", "cpu")
    assert result.exit_code == 1
    assert "| WRONG |" in result.stdout
    assert "README.md states 000" in result.stderr
    result = fam("verify", tmp_path, "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["ok"]) == (1, False)
    assert "missing" in report["problems"][0]
    monkeypatch.setattr("famcli.hub.find_model", lambda name, say: folder)
    before = (folder / "config.json").read_bytes()
    result = fam("verify", "org/name", "--record")
    assert result.exit_code == 1
    assert "needs a folder of yours" in result.stderr
    assert (folder / "config.json").read_bytes() == before


@pytest.mark.slow
def test_doctor_in_a_real_process() -> None:
    """On this machine, offline, nothing is broken, and JSON on stdout says so."""
    command = [sys.executable, "-m", "famcli", "doctor", "--offline", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["ok"] is True
    assert {"group", "name", "value", "state", "fix"} == set(report["findings"][0])


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("note", 0), ("broken", 1)])
def test_doctor_exit_codes(fam: Fam, monkeypatch: pytest.MonkeyPatch, state: str, code: int) -> None:
    """Only what fam predict needs makes the exit code 1; what is wrong is told on stderr with its fix."""
    fix = "" if state == "ok" else "mend it"

    def examine(*, offline: bool) -> Iterator[Finding]:
        assert offline
        yield Finding("cpu", "2 cores", group="devices")
        yield Finding("thing", "odd", state, fix, "hub")  # type: ignore[arg-type]

    monkeypatch.setattr("famcli.checkpoints.doctor.examine", examine)
    result = fam("doctor", "--offline")
    assert result.exit_code == code
    assert f"| thing | odd     | {state}" in result.stdout
    assert result.stderr == ("" if state == "ok" else f"fam: {state}: thing: odd. To fix it: mend it\n")
    report = json.loads(fam("doctor", "--offline", "--json").stdout)
    assert report["ok"] is (state != "broken")
    assert report["findings"][1]["fix"] == fix


@pytest.mark.slow
@pytest.mark.graphs
def test_export_graph(fam: Fam, make_model: Callable[..., FAM], tmp_path: Path) -> None:
    """A checkpoint gets its graph, which is run from then on; both engines agree, and saving anew drops it."""
    model = make_model(classifier="frozen")
    model.provenance["classifier"] = "pretrained"
    model.save_pretrained(tmp_path / "m")
    assert fam("verify", tmp_path / "m", "--record", "--device", "cpu").exit_code == 0
    result = fam("export", tmp_path / "m", "--format", "graph")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'm' / 'graph.onnx'}\n"), result.stderr
    assert str(tmp_path) not in (tmp_path / "m" / "graph.onnx").read_bytes().decode("latin-1")
    checked = json.loads(fam("verify", tmp_path / "m", "--engine", "both", "--json", "--device", "cpu").stdout)
    assert checked["ok"], checked
    assert [check["name"].partition(", ")[2][:4] for check in checked["checks"][2:]] == ["PyTo", "ONNX"]
    photo = photo_folder() / "coffee.png"
    found, wanted = (fam("predict", photo, "--model", tmp_path / "m", "--engine", name) for name in ("auto", "torch"))
    assert "ONNX Runtime on the CPU" in found.stderr
    assert found.stdout == wanted.stdout
    assert fam("predict", photo, "--model", tmp_path / "m", "--method", "cam", "--engine", "onnx").exit_code == 0
    model.save_pretrained(tmp_path / "m")
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["config.json", "model.safetensors"]


def test_export_graph_usage(fam: Fam, checkpoint: Path) -> None:
    """The graph has its own place, and a model that is no folder of the user's gets none."""
    assert fam("export", checkpoint, "--format", "graph", "--with-boxes").exit_code == 2
    result = fam("export", "org/name", "--format", "graph")
    assert (result.exit_code, "needs a folder of yours" in result.stderr) == (1, True)

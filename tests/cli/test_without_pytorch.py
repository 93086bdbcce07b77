"""An installation without PyTorch, as containers and web pages have it: what works, and what the rest says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from famcli.version import PYTORCH, requirements

# None in sys.modules is to Python a module that is not installed.
WITHOUT = f"""
import sys
sys.modules.update(dict.fromkeys({PYTORCH!r}))
from famcli.__main__ import main
main()
"""
SENTENCE = (
    "this needs PyTorch, which is not installed: pip install torch torchvision timm accelerate tensorboard onnxscript"
)


def fam(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line where :data:`PYTORCH` is not installed."""
    line = [sys.executable, "-c", WITHOUT, *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize(
    "command",
    [
        *("predict IMAGES --engine torch", "predict IMAGES --device cuda", "train --data IMAGES --out OUT"),
        *("export fam-lite0-ilsvrc", "push fam-lite0-ilsvrc --repo birds/fam --dry-run"),
    ],
)
def test_what_needs_it_says_so(image_dir: Path, tmp_path: Path, command: str) -> None:
    """One sentence names it and the command that installs it and its companions; nothing is written."""
    places = {"IMAGES": image_dir, "OUT": tmp_path / "out"}
    done = fam(*(places.get(word, word) for word in command.split()))
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"fam: error: {SENTENCE}\n")
    assert not (tmp_path / "out").exists()


def test_what_works(image_dir: Path, tmp_path: Path) -> None:
    """A model with a graph predicts, models are listed, and fam doctor finds nothing broken."""
    out = tmp_path / "boxes.json"
    done = fam("predict", image_dir, "--out", out, "--json")
    assert done.returncode in {0, 1}, done.stderr  # 1: the folder has an image that cannot be read
    assert "PyTorch" not in done.stderr
    assert json.loads(out.read_text())["annotations"]
    assert "fam-lite0-ilsvrc" in fam("models").stdout
    done = fam("doctor", "--offline", "--json")
    assert done.returncode == 0, done.stderr
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert findings["torch"]["state"] == "note"
    assert findings["torch"]["fix"].endswith(f"pip install {' '.join(PYTORCH)}")
    assert findings["fam-lite0-ilsvrc"]["value"].endswith("reference outputs, ONNX Runtime on the CPU")


def test_requirements() -> None:
    """Without PyTorch its packages are left out and nothing else; each has its bound, and markers are gone."""
    every, some = requirements(pytorch=True), requirements(pytorch=False)
    names = [text.partition(">=")[0] for text in every]
    assert [name for name in names if name not in PYTORCH] == [text.partition(">=")[0] for text in some]
    assert set(PYTORCH) <= set(names)
    assert not [text for text in every if ";" in text or ">=" not in text]

"""The page "Add your own method": its file and its commands are run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "guides" / "own-method.md"
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# The commands as they stand, but for a small network that is trained for an epoch.
PRELUDE = """set -e
small="--backbone test_efficientnet --init none --set size=64 --set epochs=1"
python() { "$PYTHON" "$@" $([ "$2" = train ] && echo $small); }
fam() { "$PYTHON" -m famcli "$@" $([ "$1" = train ] && echo $small); }
"""


@pytest.mark.slow
def test_the_page_runs(make_splits: Callable[..., Path], tmp_path: Path) -> None:
    """Its method trains, is evaluated and predicts by its commands, and is compared with a CAM that fam trains."""
    make_splits("birds", train_weaksup=[0, 1, 2, 3, 4, 5], test=[6, 7])
    (tmp_path / "photos").symlink_to("labelled")
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    (code,) = (text for kind, text in blocks if kind == "python")
    (tmp_path / "lse.py").write_text(code, encoding="utf-8")
    commands = "".join(text for kind, text in blocks if kind == "sh")
    done = subprocess.run(
        ["bash", "-c", PRELUDE + commands],
        cwd=tmp_path,
        env={**os.environ, "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sharpness = 8" in (tmp_path / "runs/lse/recipe.toml").read_text(encoding="utf-8")
    assert '"method": "lse"' in (tmp_path / "boxes.json").read_text(encoding="utf-8")
    assert re.search(r"\| LSE +\|", done.stdout)

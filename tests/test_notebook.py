"""docs/notebooks/first_steps.ipynb: a notebook that runs, and the page that shows it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "notebooks"


@pytest.fixture(scope="module")
def notebook() -> dict[str, Any]:
    """The notebook as it is kept."""
    return json.loads((FOLDER / "first_steps.ipynb").read_text(encoding="utf-8"))


def test_what_is_kept_is_of_one_run(notebook: dict[str, Any]) -> None:
    """Every cell was run, in order and without an error, and the file is small enough for a page."""
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"stream", "display_data"}
    assert {output["name"] for output in outputs if output["output_type"] == "stream"} == {"stdout"}
    assert sum("image/jpeg" in output.get("data", ()) for output in outputs) >= 4
    assert (FOLDER / "first_steps.ipynb").stat().st_size < 400_000


def test_the_page_shows_the_notebook(load_script: Callable[[str], ModuleType], notebook: dict[str, Any]) -> None:
    """The page has every cell's text or code, what it prints and what it draws, under one title."""
    page = FOLDER / "first-steps.md"
    file = SimpleNamespace(file=SimpleNamespace(abs_src_path=str(page)))
    shown = load_script("docs_hooks.py").on_page_markdown(page.read_text(encoding="utf-8"), file)
    assert [line for line in shown.splitlines() if line.startswith("# ")] == ["# First steps in a notebook"]
    for cell in notebook["cells"]:
        assert "".join(cell["source"]).removeprefix("# First steps\n\n") in shown
        for output in cell.get("outputs", ()):
            assert "".join(output.get("text", "")).strip() in shown
    assert shown.count("data:image/jpeg;base64,") >= 4


@pytest.mark.slow
def test_it_runs_from_top_to_bottom() -> None:
    """A new run of all cells, offline, prints and draws what is kept, but for numbers."""
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    command = [sys.executable, ROOT / "scripts" / "notebook.py", "--check"]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=offline, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

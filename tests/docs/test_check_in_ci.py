"""The page "Check data at every commit": its files are of the right form, and their commands do as it says."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pages
import pytest
import yaml
from typer.testing import Result

PAGE = "docs/guides/check-in-ci.md"
COMMAND = ["fam", "data", "check", "birds/"]


@pytest.fixture(scope="module")
def files() -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration of pre-commit, and the workflow."""
    hooks, workflow = (yaml.safe_load(block.text) for block in pages.blocks(PAGE) if block.language == "yaml")
    return hooks, workflow


def test_the_files_are_of_the_form_that_their_programs_read(files: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """A local hook that needs no file names, and a job that installs fam before it checks; both check alike."""
    hooks, workflow = files
    ((repo,), (job,)) = hooks["repos"], workflow["jobs"].values()
    (hook,) = repo["hooks"]
    assert repo["repo"] == "local"
    assert set(hook) == {"id", "name", "entry", "language", "pass_filenames", "always_run"}
    assert (hook["language"], hook["pass_filenames"], hook["always_run"]) == ("system", False, True)
    assert shlex.split(hook["entry"]) == COMMAND
    assert all(set(step) <= {"uses", "with", "run"} for step in job["steps"])
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert [line.startswith("pip install ") for line in commands] == [True, True, False]
    assert shlex.split(commands[-1]) == COMMAND
    assert True in workflow  # "on", which YAML 1.1 takes for a truth value, and GitHub does not


def test_the_hook_passes_and_fails(
    files: tuple[dict[str, Any], dict[str, Any]],
    fam: Callable[..., Result],
    pictures: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exit code 0 on good data; 1, with what is wrong, on a photograph that is cut short and one in two classes."""
    entry = shlex.split(files[0]["repos"][0]["hooks"][0]["entry"])[1:]
    names = ("cat/0.jpg", "cat/1.jpg", "rocket/0.jpg", "rocket/1.jpg")
    birds = pictures(tmp_path / "birds", *names, size_hw=(120, 160))
    monkeypatch.chdir(tmp_path)
    good = fam(*entry)
    assert (good.exit_code, good.stdout) == (0, "")
    assert "nothing is wrong" in good.stderr

    whole = (birds / "cat" / "1.jpg").read_bytes()
    (birds / "cat" / "9.jpg").write_bytes(whole[: len(whole) // 2])
    shutil.copy(birds / "cat" / "0.jpg", birds / "rocket" / "7.jpg")
    broken = fam(*entry)
    assert broken.exit_code == 1
    assert "cat/9.jpg (damaged image (it is cut short))" in broken.stdout
    assert "rocket/7.jpg = cat/0.jpg" in broken.stdout
    assert "2 problems" in broken.stderr
    assert fam("data", "check", "--fast", "birds/").exit_code == 0  # as the page says of --fast

"""That the runner sees what it looks for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from runner import Case, Runner, problems


def test_the_runner_sees_faults(runner: Runner, new_folder: Callable[[], Path]) -> None:
    """A wrong exit code, a name that is not said, a command that hangs and one without memory are each found."""
    folder = new_folder()
    os.mkfifo(folder / "list")
    (folder / "zero.jpg").touch()
    cases = [
        Case("right", str(folder), ["predict", "zero.jpg"], codes=(1,), named=("zero.jpg",)),
        Case("code", str(folder), ["predict", "zero.jpg"], codes=(0,), silent=("zero.jpg",)),
        Case("name", str(folder), ["predict", "zero.jpg"], codes=(1,), named=("one.jpg",)),
        Case("hangs", str(folder), ["predict", "-"], stdin="list", seconds=1),
    ]
    said = {case.name: problems(case, runner.run(case)) for case in cases}
    assert said["right"] == []
    assert said["code"] == ["exit code 1, not one of (0,)", "'zero.jpg' is named, and is good"]
    assert said["name"] == ["'one.jpg' is in 0 lines"]
    assert "still running after 1 s" in said["hangs"]


def test_the_runner_sees_files(runner: Runner, new_folder: Callable[[], Path]) -> None:
    """A file outside of the folder, what is left behind, and JSON with NaN are found."""
    folder = new_folder()
    case = Case("files", str(folder), ["models"])
    done = runner.run(case)
    (folder.parent / "evil").touch()
    (folder / ".fam.1.tmp").touch()
    (folder / "nan.json").write_text(json.dumps([float("nan")]))
    wrong = ["written outside of the folder: ['evil']", "left behind: .fam.1.tmp", "nan.json is no strict JSON"]
    assert problems(case, done) == wrong

"""The Dockerfile, read as text: no daemon is needed. What it installs is tested in test_without_pytorch.py."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from famcli.version import PYTORCH

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage, as pairs of name and arguments."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = [line.partition(" ") for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    made: list[list[tuple[str, str]]] = [[]]
    for name, _, arguments in lines:
        if name == "FROM":
            made.append([])
        made[-1].append((name, arguments.strip()))
    return made[1:]


def test_final_stage(stages: list[list[tuple[str, str]]]) -> None:
    """Nothing is installed or copied from the checkout, the user is not root, and what runs is fam, ended by Ctrl-C."""
    final = dict(stages[-1])
    assert [name for name, _ in stages[-1]].count("USER") == 1
    user, group = map(int, final["USER"].split(":"))
    assert user > 0 < group
    assert "RUN" not in final
    assert final["COPY"] == "--from=build /opt/fam /opt/fam"
    assert (json.loads(final["ENTRYPOINT"]), final["STOPSIGNAL"]) == (["fam"], "SIGINT")
    assert "HOME=/tmp" in final["ENV"].split()


def test_what_is_copied(stages: list[list[tuple[str, str]]]) -> None:
    """What is copied exists, .dockerignore lets it through and nothing else, and the wheel is made of it."""
    copied = [path for name, text in stages[0] if name == "COPY" for path in text.split()[:-1]]
    assert all((ROOT / path).exists() for path in copied)
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignored
    assert {line[1:] for line in ignored if line.startswith("!")} == set(copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert set(copied) == {
        "pyproject.toml",
        project["project"]["readme"],
        *project["project"]["license-files"],
        *packages,
    }


def test_requirements(stages: list[list[tuple[str, str]]]) -> None:
    """The build's own line of Python lists what pip installs: Gradio is among it, and PyTorch is not."""
    (run,) = [text for name, text in stages[0] if name == "RUN"]
    (line,) = re.findall(r'python -c "([^"]*)"', run)
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    names = {text.partition(">=")[0] for text in done.stdout.splitlines()}
    assert {"gradio", "onnxruntime", "numpy"} <= names
    assert not names & set(PYTORCH)

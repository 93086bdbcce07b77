"""What a run ran on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from famcli.checkpoints.doctor import PACKAGES
from famcli.training import environment as environment_module
from famcli.training.accelerator import make_accelerator
from famcli.training.environment import commit, environment


def test_the_facts_of_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions, device, processes and command are there, as JSON."""
    monkeypatch.setattr(sys, "argv", ["/somewhere/fam", "train", "--data", "x"])
    facts = environment(make_accelerator("cpu"))
    assert json.loads(json.dumps(facts)) == facts
    assert facts["command"] == ["fam", "train", "--data", "x"]
    assert set(facts["versions"]) == {"python", *PACKAGES}
    assert facts["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert (facts["device"], facts["processes"]) == ("cpu", 1)
    assert facts["started"].endswith("+00:00")


def test_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing from the process's environment variables is kept, tokens least of all."""
    for name in ("HF_TOKEN", "WANDB_API_KEY", "MY_PASSWORD"):
        monkeypatch.setenv(name, "hunter2-secret")
    assert "hunter2" not in json.dumps(environment(make_accelerator("cpu")))


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed copy, and a machine without git, have no commit and no error."""
    monkeypatch.setenv("PATH", "")
    assert commit() is None


def test_a_copy_inside_another_checkout_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit is that of the project's own checkout, and never that of one an installed copy lies in."""
    path = tmp_path / "lib" / "environment.py"
    path.parent.mkdir()
    path.write_text("")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@y"]
    for arguments in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run([*git, *arguments], check=True)
    monkeypatch.setattr(environment_module, "__file__", str(path))
    assert commit() is None
    subprocess.run([*git, "add", "lib/environment.py"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert commit() == head

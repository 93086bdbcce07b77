"""``fam verify``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from famcli_models.checkpoint import DEFAULT_MODEL

Fam = Callable[..., Result]


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint."""
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def test_packaged(fam: Fam) -> None:
    """The packaged model is good: a table on stdout, nothing on stderr, exit code 0."""
    result = fam("verify", DEFAULT_MODEL, "--device", "cpu")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split("|")[2].strip() for line in result.stdout.splitlines()[2:]] == ["ok", "ok", "ok"]


def test_record(fam: Fam, folder: Path) -> None:
    """--record stores the golden prediction; without it the table says that there is none, which is no error."""
    before = fam("verify", folder, "--device", "cpu")
    assert before.exit_code == 0
    assert f"fam verify {folder} --record" in before.stdout
    recorded = fam("verify", folder, "--record", "--device", "cpu")
    assert recorded.exit_code == 0
    assert "stored the golden prediction" in recorded.stderr
    assert "the same to the last stored digit" in fam("verify", folder, "--device", "cpu").stdout


def test_wrong(fam: Fam, folder: Path) -> None:
    """A problem is a line on stderr, WRONG in the table, and exit code 1."""
    (folder / "README.md").write_text(f"model.safetensors {'0' * 64}")
    result = fam("verify", folder, "--device", "cpu")
    assert result.exit_code == 1
    assert "| WRONG |" in result.stdout
    assert "README.md states 000" in result.stderr


def test_a_folder_that_is_no_checkpoint(fam: Fam, tmp_path: Path) -> None:
    """A folder without the files is told as a finding."""
    result = fam("verify", tmp_path, "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["ok"] is False
    assert "missing" in report["problems"][0]


def test_json(fam: Fam, folder: Path) -> None:
    """--json gives everything that was found."""
    fam("verify", folder, "--record", "--device", "cpu")
    report = json.loads(fam("verify", folder, "--json", "--device", "cpu").stdout)
    assert (report["ok"], report["problems"]) == (True, [])
    assert len(report["sha256"]) == 64
    assert report["golden"]["map_difference"] < report["golden"]["tolerance"]
    assert [check["name"] for check in report["checks"]] == ["config and weights", "SHA-256", "golden prediction"]


def test_record_needs_a_folder_of_yours(fam: Fam, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy from the Hub is not changed."""
    monkeypatch.setattr("famcli.hub.find_model", lambda name, say: folder)
    before = (folder / "config.json").read_bytes()
    result = fam("verify", "org/name", "--record")
    assert result.exit_code == 1
    assert "needs a folder of yours" in result.stderr
    assert (folder / "config.json").read_bytes() == before


def test_unknown_name(fam: Fam) -> None:
    """An unknown name is an error that lists the known ones."""
    result = fam("verify", "no-such-model")
    assert result.exit_code == 1
    assert DEFAULT_MODEL in result.stderr


def test_unknown_device(fam: Fam) -> None:
    """A device that is not there is an error, and no finding about the checkpoint."""
    result = fam("verify", DEFAULT_MODEL, "--device", "cuda:77")
    assert result.exit_code == 1
    assert "use --device auto or cpu" in result.stderr
    assert result.stdout == ""

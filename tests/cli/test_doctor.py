"""``fam doctor``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from typer.testing import Result

from famcli.checkpoints.doctor import Finding

Fam = Callable[..., Result]


def test_a_real_process() -> None:
    """On this machine, offline, nothing is broken, and JSON on stdout says so."""
    done = subprocess.run(
        [sys.executable, "-m", "famcli", "doctor", "--offline", "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["ok"] is True
    assert {"group", "name", "value", "state", "fix"} == set(report["findings"][0])


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("note", 0), ("broken", 1)])
def test_exit_codes(fam: Fam, monkeypatch: pytest.MonkeyPatch, state: str, code: int) -> None:
    """Only what fam predict needs makes the exit code 1; what is wrong is told on stderr with its fix."""

    def examine(*, offline: bool) -> Iterator[Finding]:
        assert offline
        yield Finding("devices", "cpu", "2 cores")
        yield Finding("hub", "thing", "odd", state, "" if state == "ok" else "mend it")  # type: ignore[arg-type]

    monkeypatch.setattr("famcli.checkpoints.doctor.examine", examine)
    result = fam("doctor", "--offline")
    assert result.exit_code == code
    assert f"| thing | odd     | {state}" in result.stdout
    assert result.stderr == ("" if state == "ok" else f"fam: {state}: thing: odd. To fix it: mend it\n")
    report = json.loads(fam("doctor", "--offline", "--json").stdout)
    assert report["ok"] is (state != "broken")
    assert report["findings"][1]["fix"] == ("" if state == "ok" else "mend it")

"""The page, served as users serve it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the page with the packaged models, in a process of its own that leaves nothing behind."""
    folder = tmp_path_factory.mktemp("tmp")
    line = [sys.executable, "-m", "famcli", "app", "--no-browser"]
    environment = {**os.environ, "TMPDIR": str(folder)}
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "fam: error: interrupted\n")
    assert not any(Path(folder).iterdir())

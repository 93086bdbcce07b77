"""`fam eval` in four processes of a launcher, one of which is killed and run again alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).parents[2]
RANKS = 4


def begin(*arguments: object, rank: int | None = None) -> subprocess.Popen[str]:
    """A process of its own, as one of four if a rank is given."""
    paths = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "PYTHONWARNINGS": "ignore"}
    if rank is not None:
        environ |= {"RANK": str(rank), "WORLD_SIZE": str(RANKS)}
    command = [sys.executable, "-m", "famcli", "eval", "--device", "cpu", *map(str, arguments)]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until(true: Callable[[], object], seconds: float = 600) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


def written(out: Path) -> tuple[dict[str, Any], bytes]:
    """The files of a result, but for when it was made."""
    return {**json.loads((out / "results.json").read_text()), "created": ""}, (out / "images.jsonl").read_bytes()


@pytest.mark.parametrize("protocol", ["fam", "wsoleval-v2"])
def test_a_killed_rank_is_run_again_alone(
    make_dataset: Callable[..., Path], checkpoint: Path, tmp_path: Path, protocol: str
) -> None:
    """Rank 0 waits for it and writes what a single process writes, and nothing else is left."""
    data = make_dataset([(f"{i}.png", i % 3, [(5 + i, 5, 30, 30)], (40, 50)) for i in range(11)])
    common = ("--data", data, "--model", checkpoint, "--protocol", protocol, "--batch-size", 2, "--processes", 1)
    single, out = begin(*common, "--out", tmp_path / "one"), tmp_path / "four"
    assert not single.communicate(timeout=600)[1].startswith("fam: error")
    ranks = {i: begin(*common, "--out", out, rank=i) for i in (2, 0, 1, 3)}
    wait_until((out / "results.json.2-of-4.partial").exists)
    ranks[2].send_signal(signal.SIGKILL)
    ranks[2].communicate()
    assert not (out / "results.json.2-of-4.done").exists()
    wait_until(lambda: all((out / f"results.json.{i}-of-4.done").exists() for i in (0, 1, 3)))
    assert ranks[0].poll() is None
    again = begin(*common, "--out", out, "--resume", rank=2)
    for rank, process in {**ranks, 2: again}.items():
        stdout, stderr = process.communicate(timeout=600)
        assert process.returncode == 0, stderr
        assert bool(stdout) == (rank == 0)
    assert written(out) == written(tmp_path / "one")
    assert sorted(path.name for path in out.iterdir()) == ["images.jsonl", "results.json", "results.md"]

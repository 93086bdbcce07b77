"""`fam predict` in several processes, as launchers start it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

COUNT = 4
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def photos(tmp_path: Path, picture: Callable[..., Any]) -> Path:
    """A folder of two hundred pictures, one of them damaged."""
    folder = tmp_path / "many"
    for i in range(200):
        path = folder / f"{i // 70}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(30 + i % 17, 40 + i % 13, seed=i)).save(path)
    path.write_bytes(path.read_bytes()[:100])
    return folder


@pytest.fixture
def start(photos: Path, checkpoint: Path, tmp_path: Path, fam: Callable[..., Any]) -> Iterator[Start]:
    """A function that starts the command with options, as a rank of a launcher if one is given."""
    started: list[subprocess.Popen[str]] = []
    model = shutil.copytree(checkpoint, tmp_path / "model")
    assert fam("export", model, "--format", "graph").exit_code == 0  # so that no process loads PyTorch

    def run(*options: str, rank: int | None = None) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "famcli", "predict", photos, "--model", model, "--device", "cpu"]
        launcher = {} if rank is None else {"RANK": str(rank), "WORLD_SIZE": str(COUNT)}
        process = subprocess.Popen(
            [*map(str, command), "--batch-size", "2", *options],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", **launcher},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.graphs
def test_four_processes_of_which_one_is_killed(start: Start, tmp_path: Path) -> None:
    """Four ranks write the file of one process; if one of them is killed, it alone is resumed, and all are joined."""
    _, talk = start("--out", "one.json").communicate()
    assert "200.png" not in talk
    assert "199.png: damaged image" in talk
    ranks = [start("--out", "four.json", rank=i) for i in range(COUNT)]
    talks = [rank.communicate()[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [1, 0, 0, 0]  # one that ends with an error would end the launcher
    assert "199.png: damaged image" in talks[0]
    assert "rank 3 of 4: 49 images" in talks[3]
    assert (tmp_path / "four.json").read_bytes() == (tmp_path / "one.json").read_bytes()

    (tmp_path / "four.json").unlink()
    ranks = [start("--out", "four.json", rank=i) for i in range(COUNT)]
    journal = tmp_path / "four.json.2-of-4.partial"
    while not journal.is_file() or journal.read_bytes().count(b"\n") < 4:
        assert ranks[2].poll() is None
        time.sleep(0.001)
    ranks[2].send_signal(signal.SIGKILL)
    for i in (1, 2, 3):
        ranks[i].communicate()
    ranks[0].send_signal(signal.SIGTERM)  # as launchers do
    ranks[0].communicate()
    for shard in (0, 2):
        resumed = start("--out", "four.json", "--shard", f"{shard}/{COUNT}", "--resume")
        assert "images were done before" in resumed.communicate()[1]
    joined = start("--out", "four.json", "--join")
    assert "199 images" in joined.communicate()[1]
    assert joined.returncode == 1
    assert (tmp_path / "four.json").read_bytes() == (tmp_path / "one.json").read_bytes()
    assert not list(tmp_path.glob("four.json.*"))

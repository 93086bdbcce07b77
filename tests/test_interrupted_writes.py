"""Every command that writes, killed at a random moment, and run twice at once: what is there is whole."""

from __future__ import annotations

import json
import random
import shutil
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from runner import SEED, Case, Done, Runner, server
from safetensors import safe_open

KILLS = 3  # of each command, in the slow tests; one of those that take longer than
LONG = 3  # seconds
FEW = ("--engine", "torch", "--device", "cpu", "--workers", "1")
TINY = ("--backbone", "test_efficientnet", "--workers", "0")
SETTINGS = tuple(f"--set={pair}" for pair in ("backbone_weights=none", "size=64", "epochs=2", "batch_size=2"))
# What follows `fam`, in a folder with photos, data, results and a model; everything is written below `out`.
COMMANDS: dict[str, tuple[str, ...]] = {
    "predict": ("predict", "photos", "--model", "model", *FEW, "--batch-size", "1", "--out", "out/boxes.json"),
    "predict a folder": ("predict", "photos", "--model", "model", *FEW, "--format", "yolo", "--out", "out/yolo"),
    "predict files of images": (
        *("predict", "photos", "--model", "model", *FEW, "--out", "out/boxes.csv"),
        *("--overlays", "out/overlays", "--maps", "out/maps", "--masks", "out/masks"),
    ),
    "eval": ("eval", "--data", "data", "--model", "model", *FEW, "--out", "out"),
    "compare": ("compare", "first", "second", "--out", "out"),
    "report": ("report", "first", "--no-parts", "--out", "out/report.html"),
    "report several": ("report", "first", "second", "--out", "out/compare.html"),
    "export": ("export", "model", "--format", "torchscript", "--out", "out/model.pt"),
    "convert to COCO": ("data", "convert", "data", "--to", "coco", "--exist-ok", "--out", "out"),
    "convert to wsol": ("data", "convert", "data", "--to", "wsol", "--exist-ok", "--out", "out"),
    "prepare": ("data", "prepare", "mine", "--from", "photos", "--format", "folder", "--out", "out"),
    "train": ("train", "--data", "labelled", *TINY, *SETTINGS, "--exist-ok", "--out", "out/run"),
    "demo": ("demo", "--out", "out"),
}
DEFAULT = ("predict", "report several", "convert to wsol")  # a small part of it, always
every_command = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in DEFAULT else pytest.mark.slow) for n in COMMANDS]
)


@pytest.fixture(scope="module")
def runners() -> Iterator[list[Runner]]:
    """Two processes that run commands, so that two may run at once."""
    with server() as first, server() as second:
        yield [Runner(first), Runner(second)]


@pytest.fixture
def work(
    tmp_path: Path,
    checkpoint: Path,
    image_dir: Path,
    make_dataset: Callable[..., Path],
    make_splits: Callable[..., Path],
    make_evaluation: Callable[..., Path],
) -> Path:
    """The folder that commands run in."""
    for folder in ("cat", "dog"):
        (image_dir / folder).mkdir()
        Image.new("RGB", (40, 30), "red").save(image_dir / folder / "one.jpg")
    make_dataset([(f"{i}.png", i, [(5, 5, 20, 20)], (40, 50)) for i in range(4)]).rename(tmp_path / "data")
    make_splits("labelled", train_weaksup=[0, 1, 2, 3])
    make_evaluation("first", [0.2, 0.6])
    make_evaluation("second", [0.7, 0.6], "FAM")
    shutil.copytree(checkpoint, tmp_path / "model")
    return anew(tmp_path)


def anew(work: Path) -> Path:
    """Remove all that was written."""
    shutil.rmtree(work / "out", ignore_errors=True)
    (work / "out").mkdir()
    return work


def run(runner: Runner, work: Path, name: str, seconds: float = 120) -> Done:
    """Run a command, and kill it after so many seconds."""
    own = work / f"of-{id(runner)}" / "work"  # the runner keeps what is printed beside the folder's parent
    if not own.exists():
        own.parent.mkdir()
        own.symlink_to(work)
    return runner.run(Case(name, str(own), [*COMMANDS[name]], seconds=seconds, memory=4 << 30))


def written(work: Path) -> list[str]:
    """The names of all files that are there."""
    paths = (path for path in (work / "out").rglob("*") if not path.is_dir())
    return sorted(str(path.relative_to(work)) for path in paths if "tfevents" not in path.name)


def _json_lines(path: Path) -> None:
    assert all(json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n") or 1 / 0)


def _tensors(path: Path) -> None:
    with safe_open(path, "np") as tensors:
        assert [tensors.get_tensor(name) for name in tensors.keys()]  # noqa: SIM118  (it is no mapping)


def _picture(path: Path) -> None:
    with Image.open(path) as picture:
        picture.load()


def _torchscript(path: Path) -> None:
    import torch

    torch.jit.load(str(path))


def _ends(*endings: str) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        assert path.read_text().endswith(endings)

    return check


# Reads a file to its end; an error says that it is not whole.
READERS: dict[str, Callable[[Path], Any]] = {
    ".json": lambda path: json.loads(path.read_text()),
    ".jsonl": _json_lines,
    ".xml": ET.parse,
    ".html": _ends("</html>", "</html>\n"),
    ".npy": np.load,
    ".safetensors": _tensors,
    ".pt": _torchscript,
    **dict.fromkeys((".bmp", ".jpg", ".png", ".webp"), _picture),
    **dict.fromkeys((".csv", ".md", ".txt", ".toml", ".yaml"), _ends("\n")),
}


def assert_whole(work: Path) -> None:
    """Every file that has its name is whole; of an interrupted run more may be there, under other names."""
    for name in written(work):
        path = work / name
        if ".fam." not in name and path.suffix not in {".partial", ".onnx"} and path.stat().st_size:
            READERS[path.suffix](path)


def assert_done(work: Path, expected: list[str]) -> None:
    """The run has left what it is for, and nothing else."""
    assert written(work) == expected
    assert_whole(work)
    assert sorted(path.name for path in work.rglob(".fam.*") if path.name != ".fam-prepared.json") == []


@every_command
@pytest.mark.filterwarnings("ignore")  # torch's opinion of its own older parts
def test_a_kill_at_a_random_moment(name: str, work: Path, runners: list[Runner]) -> None:
    """What is there after kill -9 is whole, and the same command then leaves what it leaves at any time."""
    sys.stdout.write(f"FAM_HOSTILE_SEED={SEED}\n")
    rng = random.Random(f"{SEED} {name}")
    whole = run(runners[0], work, name)
    assert whole.code == int(name == "train"), whole.stderr  # so few steps teach nothing
    expected = written(work)
    assert_done(work, expected)
    for _ in range(1 if name in DEFAULT or whole.seconds > LONG else KILLS):
        if rng.random() < 0.5:  # else there are results of an earlier run
            anew(work)
        shutil.rmtree(work / "out" / "yolo", ignore_errors=True)  # a folder that is there is refused
        run(runners[0], work, name, seconds=rng.uniform(0.1, max(0.2, whole.seconds)))
        assert_whole(work)
        if (work / "out" / "yolo").exists():
            continue  # it was faster this time
        again = run(runners[0], work, name)
        assert again.code == whole.code, again.stderr
        assert_done(work, expected)


@every_command
@pytest.mark.filterwarnings("ignore")
def test_two_at_once(name: str, work: Path, runners: list[Runner]) -> None:
    """Of two runs at once one does its work, and the other does too, or is refused in one sentence."""
    with ThreadPoolExecutor(2) as pool:
        two = list(pool.map(lambda runner: run(runner, work, name), runners))
    refused = [done for done in two if "is writing '" in done.stderr or "is there already" in done.stderr]
    others = [done for done in two if done not in refused]
    assert others, [done.stderr for done in two]
    assert {done.code for done in others} == {int(name == "train")}, [done.stderr for done in others]
    for done in refused:
        assert done.code == 1
        assert len([line for line in done.stderr.splitlines() if line.startswith("fam: error: ")]) == 1
    shutil.copytree(work / "out", work / "found" / "out", symlinks=True)
    anew(work)
    alone = run(runners[0], work, name)
    assert alone.code == int(name == "train"), alone.stderr
    assert_done(work / "found", written(work))

"""Run folders that nobody vouches for: resuming one goes on, or ends with one sentence."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from runner import Case, Runner

VALUES = (
    "null",
    "true",
    "-1",
    "1e400",
    '"x"',
    "[]",
    "{}",
    "[" * 3000 + "]" * 3000,
    "9" * 5000,
    "NaN",
    '"\\ud800"',
    "0.5",
)
LAST, RECIPE = "last.safetensors", "recipe.toml"


def _states(data: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Header, facts and tensors of a saved state."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    return header, json.loads(header["__metadata__"]["facts"]), data[8 + length :]


def _state(header: dict[str, Any], facts: str, tensors: bytes) -> bytes:
    header["__metadata__"]["facts"] = facts
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + tensors


def _half(path: Path) -> None:
    """Turn a finished run into one that was interrupted after its first epoch."""
    header, facts, tensors = _states(path.read_bytes())
    facts["step"], facts["history"] = facts["steps"] // 2, facts["history"][:1]
    path.write_bytes(_state(header, json.dumps(facts), tensors))


def _facts(data: bytes, rng: random.Random) -> bytes:
    """A fact with another value, or without one."""
    header, facts, tensors = _states(data)
    tables = [
        facts,
        facts["run"],
        facts["meter"],
        facts["history"][0],
        facts["run"]["provenance"],
        facts["run"]["recipe"],
    ]
    table = rng.choice(tables)
    key = rng.choice([*table, "own"])
    if rng.random() < 0.3:
        table.pop(key, None)
    else:
        table[key] = "@@"
    return _state(header, json.dumps(facts).replace('"@@"', rng.choice(VALUES)), tensors)


def _header(data: bytes, rng: random.Random) -> bytes:
    """A tensor that is missing, of another type or another shape, or two that are exchanged."""
    header, facts, tensors = _states(data)
    names = [name for name in header if name != "__metadata__"]
    a, b = rng.sample(names, 2)
    kind = rng.randrange(3)
    if kind == 0:
        header[a + ".own"] = header.pop(a)
    elif kind == 1:
        header[a], header[b] = header[b], header[a]
    else:
        header[a]["dtype"] = rng.choice(("F32", "I32", "BF16", "BOOL"))
    return _state(header, json.dumps(facts), tensors)


def _bytes(data: bytes, rng: random.Random) -> bytes:
    """Bytes changed, half of the time near the beginning, or cut off."""
    if rng.random() < 0.3:
        return data[: rng.randrange(len(data))]
    changed = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        changed[rng.randrange(rng.choice((min(4000, len(data)), len(data))))] = rng.randrange(256)
    return bytes(changed)


@pytest.fixture
def interrupted(runner: Runner, new_folder: Callable[[], Path]) -> Path:
    """A folder with photographs and an interrupted run on them."""
    folder = new_folder()
    for i in range(4):
        place = folder / "photos" / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(place / f"{i}.png")
    words = ["train", "--data", "photos", "--init", "none", "--backbone", "test_efficientnet", "--workers", "0"]
    words += [f"--set={field}" for field in ("size=64", "batch_size=2", "epochs=2")] + ["--out", "run"]
    done = runner.run(Case("train", str(folder), words, seconds=200))
    assert (folder / "run" / LAST).is_file(), done.stderr
    _half(folder / "run" / LAST)
    return folder


@pytest.mark.slow
def test_changed_runs(runner: Runner, rng: random.Random, new_folder: Callable[[], Path], interrupted: Path) -> None:
    """Whatever is changed in the state, the recipe or the checkpoint of a run, it goes on or says why it cannot."""

    def cases() -> Iterator[Case]:
        for number in range(30):
            folder = new_folder()
            shutil.copytree(interrupted, folder, dirs_exist_ok=True)
            file = rng.choice((LAST, LAST, LAST, RECIPE, "config.json"))
            path = folder / "run" / file
            change = rng.choice((_facts, _facts, _header, _bytes)) if file == LAST else _bytes
            path.write_bytes(change(path.read_bytes(), rng))
            command = ["train", "--resume", "run", "--workers", "0"]
            yield Case(f"run {number}: {file} {change.__name__}", str(folder), command, codes=(0, 1), seconds=120)

    assert runner.check(cases()) == 30

"""Checkpoints that nobody vouches for: predicting with them and checking them ends with a result or one sentence."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from runner import Case, Runner
from safetensors.numpy import load, save

from famcli_models.checkpoint import CONFIG_FILE, DEFAULT_MODEL, GRAPH_FILE, WEIGHTS_FILE, packaged

MODEL = packaged()[DEFAULT_MODEL]
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
DEEP = "[" * 100_000 + "]" * 100_000
# What a field of a config may be instead of what it should be, as JSON.
VALUES = ("null", "true", "-1", "0", "1e308", "NaN", "-Infinity", "[]", "{}", '"' + "x" * 5000 + '"', DEEP, "9" * 5000)
VALUES += ('"\\ud800"', '"\\u001b[31m"', "[1, 2, 3]", "0.5", "4096", '"fam"')
Change = Callable[[bytes, random.Random], bytes]


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def _flip(data: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, half of the time in what comes first, where headers are."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        changed[rng.randrange(rng.choice((min(4096, len(data)), len(data))))] = rng.randrange(256)
    return bytes(changed)


def _grow(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + rng.randbytes(rng.choice((1, 100, 100_000))) + data[at:]


def _value(data: bytes, rng: random.Random) -> bytes:
    """A field of a config, or of one of its objects, with another value."""
    config = json.loads(data)
    table = rng.choice((config, config["model"], config["provenance"]))
    key = rng.choice([*table, "backbone", "own"])
    table[key] = "@@"
    return json.dumps(config).replace('"@@"', rng.choice(VALUES)).encode()


def _absent(data: bytes, rng: random.Random) -> bytes:
    config = json.loads(data)
    table = rng.choice((config, config["model"], config["provenance"]))
    del table[rng.choice(list(table))]
    return json.dumps(config).encode()


def _tensors(change: Callable[[dict[str, Any], str, random.Random], object]) -> Change:
    def changed(data: bytes, rng: random.Random) -> bytes:
        tensors = {name: array.copy() for name, array in load(data).items()}
        change(tensors, rng.choice(sorted(tensors)), rng)
        return save(tensors, {"format": "pt"})

    return changed


def _not_finite(tensors: dict[str, Any], _: str, rng: random.Random) -> None:
    name = rng.choice([name for name, array in tensors.items() if array.dtype.kind == "f"])
    tensors[name].reshape(-1)[rng.randrange(tensors[name].size)] = rng.choice((np.nan, np.inf, -np.inf))


def _header(data: bytes, rng: random.Random) -> bytes:
    """The header of a weights file with another length, shape or offset, of sizes that are not there."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    entry = header[rng.choice([name for name in header if name != "__metadata__"])]
    key = rng.choice(("shape", "data_offsets", "dtype"))
    entry[key] = rng.choice(([2**62, 2**62], [-1, 5], ["a"], "F64", 7, [], [0, 2**40]))
    text = json.dumps(header).encode()
    size = rng.choice((len(text), len(text), 2**63, 2**40, 0, len(text) + 8))
    return size.to_bytes(8, "little") + text + data[8 + length :]


CONFIGS: tuple[Change, ...] = (_cut, _flip, _grow, _value, _value, _value, _value, _absent)
CONFIGS += (lambda data, _: b"\xef\xbb\xbf" + data, lambda data, _: data.decode().encode("utf-16"), lambda *_: LFS)
CONFIGS += (lambda *_: b"", lambda *_: b"[]", lambda *_: DEEP.encode(), lambda *_: b"9" * 10_000)
WEIGHTS: tuple[Change, ...] = (_cut, _flip, _grow, _header, _header, lambda *_: LFS, lambda *_: b"")
WEIGHTS += (
    _tensors(lambda tensors, name, _: tensors.pop(name)),
    _tensors(lambda t, n, _: t.update({f"{n}.own": t[n]})),
)
WEIGHTS += (_tensors(lambda tensors, name, _: tensors.update({name: tensors[name].astype(np.float64)})),)
GRAPHS: tuple[Change, ...] = (_cut, _flip, _grow, lambda *_: LFS, lambda *_: b"")


def _other(path: Path, rng: random.Random) -> None:
    """Something that is no regular file in the place of a file."""
    path.unlink()
    kind = rng.randrange(4)
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        path.mkdir()
    elif kind == 2:
        path.symlink_to(path.name)
    else:
        path.symlink_to("/dev/zero")


def cases(rng: random.Random, count: int, new_folder: Callable[[], Path]) -> Iterator[Case]:
    """Commands on copies of the default model, each with something changed."""
    for number in range(count):
        folder = new_folder()
        Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(folder / "one.png")
        shutil.copytree(MODEL, folder / "model")
        file = rng.choice((CONFIG_FILE, CONFIG_FILE, WEIGHTS_FILE, WEIGHTS_FILE, GRAPH_FILE))
        path = folder / "model" / file
        changes = {CONFIG_FILE: CONFIGS, WEIGHTS_FILE: WEIGHTS, GRAPH_FILE: GRAPHS}[file]
        kind = rng.randrange(len(changes) + 1)
        if kind == len(changes):
            _other(path, rng)
        else:
            path.write_bytes(changes[kind](path.read_bytes(), rng))
        verifies = rng.random() < 0.3
        command = ["verify", "model"] if verifies else ["predict", "one.png", "--model", "model", "--out", "o.json"]
        command += [] if verifies or rng.random() < 0.7 else ["--engine", "torch"]
        yield Case(f"checkpoint {number}: {file}, change {kind}", str(folder), command, codes=(0, 1))


@pytest.mark.parametrize("count", [6, pytest.param(150, marks=pytest.mark.slow)])
def test_changed_checkpoints(runner: Runner, rng: random.Random, new_folder: Callable[[], Path], count: int) -> None:
    """Any change of a config, of weights or of a graph ends in a result, or in one sentence."""
    assert runner.check(cases(rng, count, new_folder)) == count


@pytest.mark.parametrize("engine", ["auto", "torch"])
def test_weights_that_are_not_finite(
    runner: Runner, rng: random.Random, new_folder: Callable[[], Path], engine: str
) -> None:
    """They are refused when the model is loaded, with the name of a tensor, and nothing is written."""
    folder = new_folder()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(folder / "one.png")
    shutil.copytree(MODEL, folder / "nan")
    weights = folder / "nan" / WEIGHTS_FILE
    weights.write_bytes(_tensors(_not_finite)(weights.read_bytes(), rng))
    command = ["predict", "one.png", "--model", "nan", "--engine", engine, "--out", "o.json"]
    case = Case("not finite", str(folder), command, codes=(1,), named=("values that are not finite, first ",))
    done = runner.run(case)
    assert not (folder / "o.json").exists(), done
    runner.check([case])


def test_a_card_is_read_in_linear_time(runner: Runner, new_folder: Callable[[], Path]) -> None:
    """A card of 3 MB that names the weights in every word is read at once."""
    folder = new_folder()
    shutil.copytree(MODEL, folder / "model")
    (folder / "model" / "README.md").write_text(f"{WEIGHTS_FILE} " * 180_000)
    runner.check([Case("card", str(folder), ["verify", "model"], codes=(0,), seconds=10)])

"""Settings, recipes, options and environments that nobody means: each ends with a result or one sentence."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from runner import Case, Runner

from famcli.training.config import TrainConfig
from famcli.training.recipe import RunConfig
from famcli_models.methods import METHODS

NUMBERS = ("9" * 5000, "-" + "9" * 400, "1e29", "1e400", "nan", "-inf", "0x" + "f" * 5000, "1_0", "-0.0", "99999999999")
DEEP = "[" * 5000 + "]" * 5000
VALUES = (*NUMBERS, DEEP, "{a = 1}", '"' + "x" * 100_000 + '"', '"\\ud800"', "true", "", "[]", "[1, 'a']", "1979-05-27")
VALUES += ('"\\u001b[31m"', "'../../etc'", "=", "\x00", "\udcff", "[" * 5000, "'''", "1.", "a\nb = 2")
FIELDS = sorted({f"{f.name}" for kind in (TrainConfig, RunConfig) for f in fields(kind)})
FIELDS += sorted({f.name for method in METHODS.values() for f in fields(method.config_class)})
FIELDS += ["run.data", "model.tau", "train.seed", "no.such", "", ".", "x" * 5000, "\x1b[31m"]
OPTIONS = ("--batch-size", "--workers", "--threshold", "--max-boxes", "--topk", "--scales", "--format", "--method")
OPTIONS += ("--label", "--labels", "--coco-images", "--masks", "--device", "--engine", "--shard", "--model", "--memory")
OPTIONS += ("--range", "--out", "--overlays")
PLAIN = (
    "9" * 5000,
    "1e29",
    "nan",
    "-1",
    "",
    " ",
    "x" * 5000,
    "\x1b[31m",
    "0",
    "1/0",
    "0/0",
    "-1/3",
    "a,b",
    "--",
    "/",
    "~",
)
PLAIN += (
    "cuda:99999999999999999999",
    "no/such",
    "..",
    "\udcff",
    "=",
    "1,1,",
    "'",
    "http://",
    "LOW,HIGH",
    "5,5",
    "inf,nan",
)
VARIABLES = ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT", "HF_HUB_OFFLINE", "HF_HOME", "HF_ENDPOINT", "FAM_DATA")
VARIABLES += ("OMP_NUM_THREADS", "RANK", "WORLD_SIZE", "SLURM_PROCID", "COLUMNS", "LANG", "TMPDIR", "XDG_CACHE_HOME")
VARIABLES += ("HF_HUB_VERBOSITY", "TERM", "NO_COLOR", "CUDA_VISIBLE_DEVICES", "LOCAL_RANK", "FAM_HUB_ORG", "HOME")


def _photos(folder: Path) -> None:
    for i in range(4):
        (folder / "photos" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(i).integers(0, 255, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "photos" / "ab"[i % 2] / f"{i}.png")


def _recipe(rng: random.Random) -> bytes:
    """A recipe with one odd field, perhaps with bytes changed, in another encoding, or cut off."""
    table = rng.choice(("run", "model", "train", "run.data", "x" * 3000, '"\\ud800"'))
    text = f"[{table}]\n{rng.choice(FIELDS)} = {rng.choice(VALUES)}\n"
    data = bytearray(text.encode("utf-8", "surrogateescape"))
    kind = rng.randrange(6)
    if kind == 0:
        data = bytearray(text.encode("utf-16", "surrogatepass"))
    elif kind == 1:
        del data[rng.randrange(len(data)) :]
    elif kind == 2:
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def cases(rng: random.Random, count: int, new_folder: Callable[[], Path]) -> Iterator[Case]:
    """Commands with a setting, an option, a recipe or a variable that is odd."""
    for number in range(count):
        folder = new_folder()
        _photos(folder)
        kind, env = rng.choice(("set", "recipe", "option", "option", "variable")), {}
        train = ["train", "--data", "photos", "--init", "none", "--backbone", "test_efficientnet", "--workers", "0"]
        train += ["--set", "size=64", "--set", "batch_size=2", "--out", "run", "--dry-run"]
        predict = ["predict", "photos", "--out", "o.json"]
        if kind == "set":
            command = [*train, "--set", f"{rng.choice(FIELDS)}={rng.choice(VALUES)}".replace("\x00", "0")]
        elif kind == "recipe":
            (folder / "r.toml").write_bytes(_recipe(rng))
            command = [*train, "--recipe", "r.toml"]
        elif kind == "option":
            command = [*predict, rng.choice(OPTIONS), rng.choice(PLAIN)]
        else:
            command, env = predict, {rng.choice(VARIABLES): rng.choice(PLAIN)}
        name = f"{kind} {number}: {env or command[-2:]}"[:300]
        yield Case(ascii(name), str(folder), command, env=env)


@pytest.mark.parametrize("count", [6, pytest.param(250, marks=pytest.mark.slow)])
def test_odd_settings(runner: Runner, rng: random.Random, new_folder: Callable[[], Path], count: int) -> None:
    """Whatever a setting, a recipe, an option or a variable says, a command does its work or says why not."""
    assert runner.check(cases(rng, count, new_folder)) == count

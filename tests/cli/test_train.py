"""`fam train`: the command itself, killed, interrupted, and in two processes."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.main import get_command
from typer.testing import CliRunner, Result

from famcli.cli.app import app
from famcli.data.dataset import write_dataset
from famcli.data.sample import NO_BOXES, Sample
from famcli.interrupt import SIGNALS
from famcli.state import read_state
from famcli_models.errors import WeightsError

Fam = Callable[..., Result]
Begin = Callable[..., subprocess.Popen[str]]
REPOSITORY = Path(__file__).parents[2]
HERE = ("--device", "cpu", "--workers", "0")
SMALL = ("--backbone", "test_efficientnet", "--backbone-weights", "none", *HERE)
SETTINGS = tuple(f"--set={pair}" for pair in ("size=64", "epochs=2", "batch_size=2"))


@pytest.fixture
def data(make_splits: Callable[..., Path]) -> Path:
    """Four images with labels; no boxes."""
    return make_splits(train_weaksup=[0, 1, 2, 3])


@pytest.fixture
def train(fam: Fam, data: Path) -> Fam:
    """A function that runs a small `fam train`."""
    return lambda *arguments: fam("train", "--data", data, *SMALL, *SETTINGS, *arguments)


def test_run_folder(train: Fam, fam: Fam, labelled: list[Sample], tmp_path: Path) -> None:
    """A run says its whole recipe, prints its folder and nothing else, and predict takes the folder at once."""
    out = tmp_path / "run"
    result = train("--out", out)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{out}\n"
    assert (out / "recipe.toml").read_text() in result.stderr
    assert "4 images from tiny into" in result.stderr
    assert "epoch 2 of 2:" in result.stderr
    assert fam("predict", labelled[0].path, "--model", out, "--device", "cpu").exit_code == 0


def test_quiet(train: Fam, tmp_path: Path) -> None:
    """With --quiet only the result is printed."""
    result = train("--out", tmp_path / "run", "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")


def test_the_folder_has_a_name(train: Fam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --out the folder is named for backbone and data, and never one that exists."""
    monkeypatch.chdir(tmp_path)
    assert train().stdout == "runs/test_efficientnet-tiny\n"
    assert train().stdout == "runs/test_efficientnet-tiny-2\n"


def test_saved_recipe_repeats_the_run(train: Fam, fam: Fam, tmp_path: Path) -> None:
    """The weights of a run made from the saved recipe, and from nothing else, are those of the first."""
    first, second = tmp_path / "a", tmp_path / "b"
    train("--out", first, "--set=train.backbone=trained", "--set=ema=0.5", "--set=lr=0.01")
    result = fam("train", "--recipe", first / "recipe.toml", "--out", second, *HERE)
    assert result.exit_code == 0, result.stderr
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    assert (first / "recipe.toml").read_bytes() == (second / "recipe.toml").read_bytes()


def test_a_full_folder_is_refused(train: Fam, tmp_path: Path) -> None:
    """An existing run is not overwritten unless that is said."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    refused = train("--out", out)
    assert refused.exit_code == 1
    assert "--exist-ok" in refused.stderr
    assert [path.name for path in out.iterdir()] == ["notes.txt"]
    assert train("--out", out, "--exist-ok").exit_code == 0
    assert (out / "notes.txt").read_text() == "mine"


def test_class_names(train: Fam, tmp_path: Path) -> None:
    """Names come from a file, WordNet ids left out."""
    names = tmp_path / "names.txt"
    names.write_text("n00000001 tabby, tabby cat\nn00000002 crane\n")
    result = train("--out", tmp_path / "run", f"--set=class_names={names}")
    assert result.exit_code == 0, result.stderr
    assert json.loads((tmp_path / "run/config.json").read_text())["class_names"] == ["tabby", "crane"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "epoch=3"), "did you mean: epochs"),
        (("--set", "backbone=trained"), "train.backbone"),
        (("--recipe", "nope"), "unknown recipe 'nope'"),
        (("--set", "split=val"), "has no split"),
        (("--set", "split=test"), "--i-know-this-is-test"),
        (("--set", "num_classes=1"), "leave it out"),
        (("--set", "lambda_target=1"), "class activation maps"),
        (("--set", "accumulate=3"), "multiple of 3"),
        (("--set", "precision=fp16"), "bf16"),
    ],
)
def test_bad_input(train: Fam, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    """What is wrong is one sentence and exit code 1."""
    result = train("--out", tmp_path / "run", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_no_data(fam: Fam) -> None:
    """Without data the message says how to name some."""
    result = fam("train", *SMALL)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "--data NAME or FOLDER" in result.stderr


def test_the_recipe_for_backbone_and_data(
    fam: Fam, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A packaged recipe named for both is taken by itself; one that is named by hand comes first."""
    monkeypatch.setenv("FAM_DATA", str(data.parent))
    monkeypatch.setattr("famcli.recipe.RECIPES_DIR", tmp_path / "recipes")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/test_efficientnet-tiny.toml").write_text("[model]\nnum_parts = 2\n")
    (tmp_path / "recipes/mine.toml").write_text("[model]\nnum_parts = 3\n")
    for i, (more, parts) in enumerate((((), 2), (("--recipe", "mine"), 3))):
        assert fam("train", "--data", "tiny", *SMALL, *SETTINGS, *more, "--out", tmp_path / str(i)).exit_code == 0
        assert json.loads((tmp_path / str(i) / "config.json").read_text())["model"]["num_parts"] == parts


def test_the_test_split_is_marked(fam: Fam, make_splits: Callable[..., Path], tmp_path: Path) -> None:
    """Selecting by the test split needs the option, which marks the run and its recipe."""
    root = make_splits(train_weaksup=[0, 1, 2, 3], test=[4, 5])
    command = ("train", "--data", root, *SMALL, *SETTINGS, "--set=select=test", "--out", tmp_path / "run")
    refused = fam(*command)
    assert refused.exit_code == 1
    assert "--i-know-this-is-test" in refused.stderr
    assert not (tmp_path / "run").exists()
    assert fam(*command, "--i-know-this-is-test").exit_code == 0
    assert json.loads((tmp_path / "run/config.json").read_text())["provenance"]["tuned_on_test"] is True
    again = fam("train", "--recipe", tmp_path / "run/recipe.toml", "--out", tmp_path / "again", *HERE)
    assert again.exit_code == 0, again.stderr
    assert json.loads((tmp_path / "again/config.json").read_text())["provenance"]["tuned_on_test"] is True


@pytest.mark.parametrize(
    "option",
    [
        ("--data", "x"),
        ("--out", "x"),
        ("--recipe", "x"),
        ("--backbone", "vgg16"),
        ("--backbone-weights", "none"),
        ("--set", "lr=1"),
        ("--exist-ok",),
        ("--i-know-this-is-test",),
    ],
)
def test_resume_takes_no_other_settings(train: Fam, fam: Fam, tmp_path: Path, option: tuple[str, ...]) -> None:
    """A run goes on with its own recipe: what would change it is refused, with the way to a new run."""
    result = fam("train", "--resume", tmp_path, *option, *HERE)
    assert result.exit_code == 1
    assert "--resume goes on with the run's own recipe" in result.stderr
    assert f"--recipe {tmp_path / 'recipe.toml'} --set KEY=VALUE" in result.stderr


def test_resume_needs_a_run(fam: Fam, tmp_path: Path) -> None:
    """A folder without a run cannot be resumed, and is not written to."""
    result = fam("train", "--resume", tmp_path, *HERE)
    assert result.exit_code == 1
    assert "is not a run folder" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_dozen_options() -> None:
    """Everything else is a setting."""
    commands: dict[str, Any] = vars(get_command(app))["commands"]
    options = [parameter.name for parameter in commands["train"].params]
    assert len(options) == 12
    assert {"data", "out", "recipe", "settings", "resume"} <= set(options)


def ilsvrc_tree(root: Path) -> Path:
    """ILSVRC as its users extract it: training images by class, flat validation images, an XML file for each."""
    wnids = ("n01440764", "n01443537")
    for label, wnid in enumerate(wnids):
        for i in range(3):
            photo(root / "train" / wnid / f"{wnid}_{i}.JPEG", label)
        name = f"ILSVRC2012_val_{label + 1:08d}"
        photo(root / "val" / f"{name}.JPEG", label)
        corners = "<xmin>10</xmin><ymin>10</ymin><xmax>80</xmax><ymax>60</ymax>"
        thing = f"<object><name>{wnid}</name><bndbox>{corners}</bndbox></object>"
        size = "<size><width>120</width><height>90</height><depth>3</depth></size>"
        (root / "boxes/val").mkdir(parents=True, exist_ok=True)
        (root / "boxes/val" / f"{name}.xml").write_text(f"<annotation>{size}{thing}</annotation>")
    (root / "LOC_synset_mapping.txt").write_text("".join(f"{w} fish {w[-1]}, Piscis\n" for w in wnids))
    return root


def photo(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="JPEG")


@pytest.mark.slow
def test_ilsvrc(fam: Fam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`fam data prepare ilsvrc` and `fam train --backbone inceptionv3 --data ilsvrc` give a model that predicts."""
    monkeypatch.setenv("FAM_DATA", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    tree = ilsvrc_tree(tmp_path / "imagenet")
    prepared = fam("data", "prepare", "ilsvrc", "--from", tree)
    assert prepared.exit_code == 0, prepared.stderr
    settings = ("--set=size=64", "--set=epochs=1", "--set=batch_size=2")
    result = fam(
        *("train", "--backbone", "inceptionv3", "--data", "ilsvrc", "--backbone-weights", "none"), *settings, *HERE
    )
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "runs/inceptionv3-ilsvrc\n"
    config = json.loads((tmp_path / "runs/inceptionv3-ilsvrc/config.json").read_text())
    assert config["class_names"] == ["fish 4", "fish 7"]
    assert (config["provenance"]["data"], config["provenance"]["images"]) == (["ilsvrc"], 6)
    assert config["provenance"]["recipe"] == "inceptionv3-ilsvrc"  # the one for this backbone and these data
    assert "no boxes" in config["provenance"]["selected_by"]  # its train-fullsup, imagenetv2, is not prepared here
    image = tree / "val/ILSVRC2012_val_00000001.JPEG"
    predicted = fam("predict", image, "--model", "runs/inceptionv3-ilsvrc", "--device", "cpu")
    assert predicted.exit_code == 0, predicted.stderr


# What follows runs `fam train` as a process of its own, beside a run of the same recipe that nothing disturbs.

LONG = tuple(
    f"--set={pair}"
    for pair in ("size=64", "epochs=15", "batch_size=4", "save_minutes=0", "ema=0.9", "train.backbone=trained")
)

STEPS = 30


def command(*arguments: object, launcher: tuple[str, ...] = ()) -> list[str]:
    return [sys.executable, *launcher, "-m", "famcli", "train", *HERE, *map(str, arguments)]


def environ() -> dict[str, str]:
    # One thread, as the tests' own process: sums of more are rounded otherwise.
    paths = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "PYTHONWARNINGS": "ignore"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of 30 steps that nothing disturbed; its data lie beside it."""
    home = tmp_path_factory.mktemp("long")
    samples = []
    for i in range(11):
        array = np.random.default_rng(i).integers(0, 60, (40, 60, 3), dtype=np.uint8)
        array[..., i % 2] = 255 - array[..., i % 2]
        path = home / f"{i}.png"
        Image.fromarray(array).save(path)
        samples.append(Sample(path.name, path, i % 2, np.array([[20.0, 10.0, 40.0, 20.0]])))
    weak = [Sample(s.name, s.path, s.label, NO_BOXES) for s in samples[:8]]
    splits = {"train-weaksup": weak, "train-fullsup": samples[8:]}
    write_dataset(home / "tiny", name="tiny", images=home, class_names=("red", "green"), splits=splits)
    arguments = ["train", "--data", str(home / "tiny"), *SMALL, *LONG, "--out", str(home / "whole")]
    result = CliRunner().invoke(app, arguments, prog_name="fam")
    assert result.exit_code == 0, result.stderr
    return home / "whole"


@pytest.fixture
def begin(undisturbed: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """A function that starts the same run, in a folder of its own, as a process."""
    processes = []

    def start(out: Path, *options: object, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        line = command("--recipe", undisturbed / "recipe.toml", "--out", out, *options, launcher=launcher)
        with out.with_suffix(".err").open("w") as stderr, out.with_suffix(".out").open("w") as stdout:
            process = subprocess.Popen(
                line, stdout=stdout, stderr=stderr, env=environ(), text=True, start_new_session=True
            )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def signal_at(step: int, runs: dict[Path, tuple[subprocess.Popen[str], signal.Signals]]) -> None:
    """Send each run its signal as soon as it has saved the step."""
    until, left = time.monotonic() + 120, dict(runs)
    while left:
        time.sleep(0.005)
        for out, (process, number) in list(left.items()):
            assert process.poll() is None, out.with_suffix(".err").read_text()
            assert time.monotonic() < until
            if saved_step(out) >= step:
                if number == signal.SIGINT:  # a terminal sends it to the loading processes too
                    os.killpg(process.pid, number)
                else:
                    process.send_signal(number)
                del left[out]


def saved_step(run: Path) -> int:
    try:
        return int(read_state(run / "last.safetensors").facts["step"])
    except WeightsError:
        return -1


def same_files(first: Path, second: Path) -> None:
    for name in ("model.safetensors", "config.json", "best/model.safetensors", "best/config.json"):
        ours, theirs = (
            json.loads(p.read_text()) if p.suffix == ".json" else p.read_bytes() for p in (first / name, second / name)
        )
        if isinstance(ours, dict):
            for config in (ours, theirs):
                del config["provenance"]["recipe"]  # the name of its file
        assert ours == theirs, name


def metrics(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_killed_at_any_step(begin: Begin, undisturbed: Path, fam: Fam, tmp_path: Path) -> None:
    """A run that is killed at a random step and resumed ends with the very bytes of one that was not."""
    out, step = tmp_path / "run", random.randint(1, 15)
    process = begin(out)
    signal_at(step, {out: (process, signal.SIGKILL)})
    assert process.wait() == -signal.SIGKILL
    assert step <= saved_step(out) < STEPS
    result = fam("train", "--resume", out, *HERE)
    assert result.exit_code == 0, result.stderr
    same_files(out, undisturbed)
    assert [row["epoch"] for row in metrics(out)] == [str(i) for i in range(1, 16)]


@pytest.mark.slow
def test_interrupted(begin: Begin, undisturbed: Path, fam: Fam, tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM end a run with exit code 130 and the command that goes on exactly."""
    runs = {tmp_path / n.name: (begin(tmp_path / n.name, "--workers", 2), n) for n in SIGNALS}
    signal_at(3, runs)
    for out, (process, _) in runs.items():
        assert process.wait(60) == 130
        stderr = out.with_suffix(".err").read_text()
        assert "stopping after this step" in stderr
        found = re.search(r"stopped at step (\d+) of 30; go on with: fam (train --resume .*)", stderr)
        assert found
        assert int(found[1]) == saved_step(out) < STEPS
        assert "Traceback" not in stderr
        assert out.with_suffix(".out").read_text() == ""
        assert fam(*found[2].split(), *HERE).exit_code == 0
        same_files(out, undisturbed)


def two_processes() -> tuple[str, ...]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return (
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-addr",
        "127.0.0.1",
        f"--master-port={port}",
    )


def assert_close(first: Path, second: Path) -> None:
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (first, second))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(
            tensor, theirs[name], rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.slow
def test_two_processes_are_one(undisturbed: Path, tmp_path: Path) -> None:
    """Two processes on this machine end with the weights of one, up to rounding, and write each thing once."""
    arguments = ("--recipe", undisturbed / "recipe.toml", "--out", tmp_path / "run")
    done = subprocess.run(
        command(*arguments, launcher=two_processes()), capture_output=True, text=True, env=environ(), check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'run'}\n"
    assert done.stderr.count("epoch 15 of 15:") == 1
    assert_close(tmp_path / "run", undisturbed)
    ours, theirs = metrics(tmp_path / "run"), metrics(undisturbed)
    for name in ("epoch", "total", "cla", "foreground", "spread", "top1", "images", "gt_known"):
        assert [float(row[name]) for row in ours] == pytest.approx([float(row[name]) for row in theirs], abs=1e-4)
    sessions = json.loads((tmp_path / "run/environment.json").read_text())
    assert [session["processes"] for session in sessions] == [2]


@pytest.mark.slow
def test_interrupted_in_two_and_resumed_in_one(begin: Begin, undisturbed: Path, fam: Fam, tmp_path: Path) -> None:
    """SIGTERM to torchrun stops both processes after a step; one process goes on and ends with the same weights."""
    out = tmp_path / "run"
    process = begin(out, launcher=two_processes())
    signal_at(3, {out: (process, signal.SIGTERM)})
    assert process.wait(60) != 0
    stderr = out.with_suffix(".err").read_text()
    assert stderr.count("go on with: fam train --resume") == 1, stderr
    assert 3 < saved_step(out) < STEPS
    result = fam("train", "--resume", out, *HERE)
    assert result.exit_code == 0, result.stderr
    assert_close(out, undisturbed)
    sessions = json.loads((out / "environment.json").read_text())
    assert [session["processes"] for session in sessions] == [2, 1]

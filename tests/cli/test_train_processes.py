"""`fam train` as a process of its own: killed, interrupted, and in two, beside a run that nothing disturbs."""

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
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from famcli.cli.app import app
from famcli.data.dataset import write_dataset
from famcli.data.sample import NO_BOXES, Sample
from famcli.training.environment import SIGNALS
from famcli.training.resume import read_state
from famcli_models.errors import WeightsError

Fam = Callable[..., Result]
Begin = Callable[..., subprocess.Popen[str]]
REPOSITORY = Path(__file__).parents[2]
HERE = ("--device", "cpu", "--workers", "0")
SMALL = ("--backbone", "test_efficientnet", "--set", "backbone_weights=none", *HERE)
LONG = tuple(
    f"--set={pair}"
    for pair in ("size=64", "epochs=15", "batch_size=4", "save_minutes=0", "ema=0.9", "train.backbone=trained")
)
STEPS = 30  # of such a run
pytestmark = pytest.mark.graphs  # as in the processes that they are compared with


def command(*arguments: object, launcher: tuple[str, ...] = ()) -> list[str]:
    return [sys.executable, *launcher, "-m", "famcli", "train", *HERE, *map(str, arguments)]


def environ() -> dict[str, str]:
    # One thread, as the tests' own process: sums of more are rounded otherwise.
    paths = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "PYTHONWARNINGS": "ignore"}


def ended(exit_code: int, stderr: str) -> None:
    """A training came to its end, with a model that is of no use if it says so: these images teach little."""
    assert exit_code == int("the training has failed" in stderr), stderr


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
    ended(result.exit_code, result.stderr)
    return home / "whole"


@pytest.fixture
def begin(undisturbed: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """A function that starts the same run, in a folder of its own, as a process."""
    processes = []

    def start(
        out: Path,
        *options: object,
        launcher: tuple[str, ...] = (),
        prefix: tuple[str, ...] = (),
        log: Path | None = None,
    ) -> subprocess.Popen[str]:
        run = command("--recipe", undisturbed / "recipe.toml", "--out", out, *options, launcher=launcher)
        line, log = [*prefix, *run], log or out
        with log.with_suffix(".err").open("w") as stderr, log.with_suffix(".out").open("w") as stdout:
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


def resumed_alone(out: Path, undisturbed: Path, fam: Fam) -> None:
    """One process finishes the run of two, with the weights of one that was not disturbed."""
    result = fam("train", "--resume", out, *HERE)
    ended(result.exit_code, result.stderr)
    assert_close(out, undisturbed)
    sessions = json.loads((out / "environment.json").read_text())
    assert [session["processes"] for session in sessions] == [2, 1]


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
    ended(result.exit_code, result.stderr)
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
        again = fam(*found[2].split(), *HERE)
        ended(again.exit_code, again.stderr)
        same_files(out, undisturbed)


def processes_of(group: int) -> list[int]:
    """Those of a process group that are alive, zombies left out."""
    found = []
    for process in psutil.process_iter(["status"]):
        with suppress(ProcessLookupError):
            if process.info["status"] != psutil.STATUS_ZOMBIE and os.getpgid(process.pid) == group:
                found.append(process.pid)
    return found


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("again", [False, True])
def test_sigterm_to_the_group(
    begin: Begin, undisturbed: Path, fam: Fam, tmp_path: Path, workers: int, again: bool
) -> None:
    """What `timeout`, Slurm and `docker stop` send to all processes saves after the step, and no process stays."""
    out = tmp_path / "run"
    process = begin(out, "--workers", workers)
    wait_for(lambda: saved_step(out) >= 3)
    assert len(processes_of(process.pid)) == 1 + workers
    os.killpg(process.pid, signal.SIGTERM)
    if again:  # `timeout` sends it to its child and to the group
        process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    stderr = out.with_suffix(".err").read_text()
    found = re.search(r"stopped at step (\d+) of 30", stderr)
    assert found, stderr
    assert "Traceback" not in stderr
    assert int(found[1]) == saved_step(out) < STEPS
    assert processes_of(process.pid) == []
    if not again:
        result = fam("train", "--resume", out, *HERE)
        ended(result.exit_code, result.stderr)
        same_files(out, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_features_are_cached(
    begin: Begin, undisturbed: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """Before the first step a signal ends the run at once: exit code 130, nothing written, and no process stays."""
    out = tmp_path / "run"
    settings = ("--set", "cached_views=1000", "--set", "train.backbone=frozen")
    process = begin(out, "--workers", 2, *settings)
    wait_for(lambda: len(processes_of(process.pid)) == 3)
    os.killpg(process.pid, number)
    assert process.wait(60) == 130
    stderr = out.with_suffix(".err").read_text()
    assert (stderr.count("interrupted"), "Traceback" in stderr) == (1, False), stderr
    assert not out.exists()
    assert processes_of(process.pid) == []


@pytest.mark.slow
def test_loading_processes_do_not_outlive_the_run(begin: Begin, undisturbed: Path, tmp_path: Path) -> None:
    """They ignore signals to the group, and end by themselves when the main process has been killed."""
    out = tmp_path / "run"
    process = begin(out, "--workers", 2)
    wait_for(lambda: saved_step(out) >= 1)
    process.kill()
    process.wait()
    wait_for(lambda: processes_of(process.pid) == [], 30)


def two_processes() -> tuple[str, ...]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    module = ("-m", "torch.distributed.run", "--nproc-per-node", "2")
    return (*module, "--master-addr", "127.0.0.1", f"--master-port={port}")


def assert_close(first: Path, second: Path) -> None:
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (first, second))
    # Weights are saved in half precision: a sum rounded otherwise may change the last bit of one.
    torch.testing.assert_close(ours, theirs, rtol=2**-10, atol=1e-5)


@pytest.mark.slow
def test_two_processes_are_one(undisturbed: Path, tmp_path: Path) -> None:
    """Two processes on this machine end with the weights of one, up to rounding, and write each thing once."""
    arguments = ("--recipe", undisturbed / "recipe.toml", "--out", tmp_path / "run")
    done = subprocess.run(
        command(*arguments, launcher=two_processes()), capture_output=True, text=True, env=environ(), check=False
    )
    ended(done.returncode, done.stderr)
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
    resumed_alone(out, undisturbed, fam)


@pytest.mark.slow
def test_two_processes_share_the_pseudo_labels(undisturbed: Path, tmp_path: Path) -> None:
    """Each gives labels to some of the batches; all are those of one process, as are the weights."""
    (tmp_path / "more").mkdir()
    for i in range(40):  # more than one batch
        array = np.random.default_rng(i).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(array).save(tmp_path / f"more/{i}.png")
    save_file(timm.create_model("test_resnet", num_classes=2).state_dict(), tmp_path / "resnet.safetensors")
    settings = ("classifier=frozen", "lambda_target=0", "teacher=", "size=64", "epochs=2", "batch_size=4")
    settings += (f"backbone_weights={tmp_path / 'resnet.safetensors'}", f"unlabelled={tmp_path / 'more'}")
    settings += ("unlabelled_confidence=0.5", "cached_views=0")
    given = ("--data", undisturbed.parent / "tiny", "--backbone", "test_resnet", *(f"--set={s}" for s in settings))
    for name, launcher in (("one", ()), ("two", two_processes())):
        line = command(*given, "--out", tmp_path / name, launcher=launcher)
        done = subprocess.run(line, capture_output=True, text=True, env=environ(), check=False)
        assert done.stderr.count("40 of 40 unlabelled images have a pseudo-label") == 1, done.stderr
    assert_close(tmp_path / "one", tmp_path / "two")
    one, two = (json.loads((tmp_path / name / "config.json").read_text())["provenance"] for name in ("one", "two"))
    assert one["pseudo_labels_sha256"] == two["pseudo_labels_sha256"]


Across = Callable[..., list[subprocess.Popen[str]]]


@pytest.fixture
def begin_across(begin: Begin, hosts: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> Across:
    """A function that starts the same run on two hosts, one process each, with other options for the second."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth0")

    def start(out: Path, *second: object) -> list[subprocess.Popen[str]]:
        meeting = ("--nnodes=2", f"--master-addr={hosts[0].address}", "--nproc-per-node=1")
        return [
            begin(
                out,
                *(second if rank else ()),
                launcher=("-m", "torch.distributed.run", *meeting, f"--node-rank={rank}"),
                prefix=host.prefix,
                log=out.with_name(f"{out.name}-{rank}"),
            )
            for rank, host in enumerate(hosts)
        ]

    return start


@pytest.mark.slow
def test_two_hosts_are_one(begin_across: Across, undisturbed: Path, tmp_path: Path) -> None:
    """Two hosts that share a folder and a cable end with the weights of one, up to rounding; the first alone writes."""
    out = tmp_path / "run"
    for rank, process in enumerate(begin_across(out)):
        stderr = (tmp_path / f"run-{rank}.err").read_text
        ended(process.wait(300), stderr())
        assert (tmp_path / f"run-{rank}.out").read_text() == ("" if rank else f"{out}\n")
        assert stderr().count("epoch 15 of 15:") == 1 - rank
    assert_close(out, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_host_is_lost_and_the_other_goes_on_alone(
    begin_across: Across, hosts: tuple[Any, Any], undisturbed: Path, fam: Fam, tmp_path: Path, killed: int
) -> None:
    """When a host dies the other ends and says so; alone it resumes the run and ends with the same weights."""
    out = tmp_path / "run"
    processes = begin_across(out)
    wait_for(lambda: saved_step(out) >= 3)
    hosts[killed].kill()
    assert processes[1 - killed].wait(60) != 0
    stderr = (tmp_path / f"run-{1 - killed}.err").read_text()
    assert stderr.count("no connection to another process of this run") == 1, stderr
    assert 3 <= saved_step(out) < STEPS
    resumed_alone(out, undisturbed, fam)


@pytest.mark.slow
def test_hosts_that_disagree(begin_across: Across, tmp_path: Path) -> None:
    """Hosts with other settings, or other copies of the data, are stopped before the first step, both of them."""
    out = tmp_path / "run"
    for rank, process in enumerate(begin_across(out, "--set", "seed=1")):
        assert process.wait(120) == 1
        stderr = (tmp_path / f"run-{rank}.err").read_text()
        assert "process 1 of this run has other images, labels or settings than process 0" in stderr
    assert not out.exists()

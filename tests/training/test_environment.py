"""What a run runs on: processes and devices, signals, and the facts of a session."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from famcli.checkpoints.doctor import PACKAGES
from famcli.training import environment as environment_module
from famcli.training.environment import SAME, SIGNALS, Interrupt, commit, connected, environment, make_accelerator
from famcli_models.errors import ConfigError, FamError


def test_one_run_after_another() -> None:
    """Each run has the precision it asks for, whatever ran before; fp16 needs a GPU, and a device must be there."""
    for precision, theirs in (("fp32", "no"), ("bf16", "bf16"), ("fp32", "no")):
        accelerator = make_accelerator("cpu", precision)
        assert (accelerator.device.type, accelerator.mixed_precision) == ("cpu", theirs)
        assert (accelerator.num_processes, accelerator.is_main_process) == (1, True)
    with pytest.raises(ConfigError, match="bf16"):
        make_accelerator("cpu", "fp16")
    assert make_accelerator("cpu").mixed_precision == "no"
    with pytest.raises(FamError, match="cuda:99|tpu"):
        make_accelerator("tpu")


@pytest.mark.parametrize("words", ["Gloo connectFullMesh failed", "NCCL error: remote process exited"])
def test_a_lost_connection(words: str) -> None:
    """It is one sentence with what to do."""
    with pytest.raises(FamError, match=f"{words}.*--resume.*set GLOO_SOCKET_IFNAME"), connected():
        raise RuntimeError(words)


def test_other_errors_are_not_about_the_connection() -> None:
    """They stay as they are."""
    with pytest.raises(RuntimeError, match="^a bug$"), connected():
        raise RuntimeError("a bug")


def test_the_facts_of_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions, device, processes and command are there as JSON; nothing of the environment variables is."""
    monkeypatch.setattr(sys, "argv", ["/somewhere/fam", "train", "--data", "x"])
    for name in ("HF_TOKEN", "WANDB_API_KEY", "MY_PASSWORD"):
        monkeypatch.setenv(name, "hunter2-secret")
    facts = environment(make_accelerator("cpu"))
    assert json.loads(json.dumps(facts)) == facts
    assert facts["command"] == ["fam", "train", "--data", "x"]
    assert set(facts["versions"]) == {"python", "famcli", *PACKAGES}
    assert facts["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert (facts["device"], facts["processes"]) == ("cpu", 1)
    assert facts["started"].endswith("+00:00")
    assert "hunter2" not in json.dumps(facts)


def test_a_copy_inside_another_checkout_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit is that of the project's own checkout, and never that of one an installed copy lies in."""
    path = tmp_path / "lib" / "environment.py"
    path.parent.mkdir()
    path.write_text("")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@y"]
    for arguments in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run([*git, *arguments], check=True)
    monkeypatch.setattr(environment_module, "__file__", str(path))
    assert commit() is None
    subprocess.run([*git, "add", "lib/environment.py"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert commit() == head
    monkeypatch.setenv("PATH", "")  # a machine without git
    assert commit() is None


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The time in seconds, to be set; the handlers of before are there again afterwards."""
    now = [100.0]
    before = [signal.getsignal(number) for number in SIGNALS]
    monkeypatch.setattr(environment_module.time, "monotonic", lambda: now[0])
    yield now
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_remembered_and_the_second_interrupts(number: signal.Signals, clock: list[float]) -> None:
    """One signal is a wish, told once; torchrun passes it on, which is the same wish; another one later interrupts."""
    told: list[int] = []
    with Interrupt(lambda: told.append(1)) as stopping:
        stopping.patient = True
        signal.raise_signal(number)
        assert stopping.wanted
        clock[0] += SAME / 2
        signal.raise_signal(signal.SIGTERM)
        clock[0] += SAME
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert told == [1]


def test_before_the_first_step_a_signal_interrupts(clock: list[float]) -> None:
    """Before a step nobody has to wait; after an error Ctrl-C is Ctrl-C again; another thread sets no handlers."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it starts with & ignore it
    with Interrupt() as stopping:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert not stopping.wanted
    with pytest.raises(ValueError, match="x"), Interrupt():
        raise ValueError("x")
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    wanted: list[bool] = []

    def work() -> None:
        with Interrupt() as stopping:
            wanted.append(stopping.wanted)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert wanted == [False]

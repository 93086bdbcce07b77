"""What holds for the whole command line."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from typer.testing import Result

import famcli.version
from famcli.cli.app import app

Fam = Callable[..., Result]
COMMANDS = [command.name for command in app.registered_commands]


def test_a_real_process() -> None:
    """`python -m famcli --version` prints the version and nothing else."""
    done = subprocess.run(
        [sys.executable, "-m", "famcli", "--version"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"fam {version('famcli')}\n", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(fam: Fam, command: str) -> None:
    """Help says in a sentence what a command does and lists its options, on stdout, with exit code 0."""
    (registered,) = [c for c in app.registered_commands if c.name == command]
    assert registered.callback is not None
    first = (registered.callback.__doc__ or "").strip().splitlines()[0]
    assert len(first) > 15
    assert first.endswith(".")
    for flag in ("--help", "-h"):
        result = fam(command, flag)
        assert (result.exit_code, result.stderr) == (0, "")
        assert f"fam {command}" in result.stdout
        assert "--help" in result.stdout
        assert len(result.stdout.splitlines()) > 5


def test_help_lists_the_commands(fam: Fam) -> None:
    """`fam --help` names every command, those of the documentation too, and the exit codes; `fam` alone shows it."""
    assert {"predict", "demo", "eval", "train"} <= set(COMMANDS)
    result = fam("--help")
    assert result.exit_code == 0
    assert "predict" in fam().output
    assert all(command in result.stdout for command in COMMANDS)
    assert "130 interrupted" in " ".join(result.stdout.split())  # wherever the line is wrapped


@pytest.mark.parametrize(
    "arguments",
    [
        *("no-such-command", "--no-such-option", "predict", "predict x --no-such-option", "predict x --format xml"),
        *(
            "predict x --batch-size 0",
            "predict x --batch-size many",
            "predict x --max-boxes 0",
            "predict x --scales big",
        ),
        *("predict x --resume", "predict x --json --format csv"),
    ],
)
def test_wrong_usage(fam: Fam, arguments: str) -> None:
    """Wrong usage is exit code 2 with the reason on stderr and nothing on stdout."""
    result = fam(*arguments.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr
    assert "Traceback" not in result.stderr


def test_an_error_is_one_line(fam: Fam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the user can put right is one line and exit code 1, with --json JSON on stdout; Ctrl-C is exit code 130."""
    result = fam("predict", tmp_path, "--quiet")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert result.stderr.startswith("fam: error: no images in ")
    result = fam("predict", tmp_path, "--out", tmp_path / "o.json", "--json", "--quiet")
    assert result.exit_code == 1
    assert "no images" in json.loads(result.stdout)["error"]
    assert fam("predict", tmp_path).stdout == ""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("famcli.inference.job.list_images", interrupted)
    result = fam("predict", tmp_path)
    assert (result.exit_code, result.stdout) == (130, "")
    assert "interrupted" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("--help >/dev/full", "fam: error: No space left on device"),
        ("models --json >/dev/full", "fam: error: standard output cannot be written to: No space left on device"),
        ("models --json >&-", "fam: error: standard output cannot be written to: Bad file descriptor"),
        ("predict no.jpg 2>/dev/full", ""),
    ],
)
def test_streams_that_take_nothing(command: str, said: str) -> None:
    """A standard stream that is full or closed ends a command with one line and exit code 1."""
    line = f"{sys.executable} -m famcli {command}"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)  # noqa: S602
    assert (done.returncode, done.stderr.strip()) == (1, said)


def test_an_error_that_nobody_foresaw(fam: Fam, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one line that names its type and how to see more, and its traceback with --debug."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError("at\x1b[31m dawn")

    monkeypatch.setattr("famcli.hub.listing.all_models", fail)
    result = fam("models")
    said = "ZeroDivisionError: at\\x1b[31m dawn; this is a fault of fam, 'fam --debug ...' shows where it is"
    assert (result.exit_code, result.stderr) == (1, f"fam: error: {said}: please report it\n")
    assert isinstance(fam("--debug", "models").exception, ZeroDivisionError)


def test_a_user_without_a_home(fam: Fam, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packaged models are listed, and what needs a home folder names the variable."""
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("FAM_DATA")
    monkeypatch.setattr("pwd.getpwuid", lambda _: (_ for _ in ()).throw(KeyError("uid")))
    assert "fam-mobilenetv1-ilsvrc" in fam("models").stdout
    result = fam("data", "list")
    assert result.exit_code == 1
    assert "set HOME" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_checkout_that_is_not_installed(
    fam: Fam, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, image_dir: Path
) -> None:
    """Without the metadata of an installed package the version is unknown, and the work is done."""

    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    with monkeypatch.context() as hidden:
        hidden.setattr("importlib.metadata.version", absent)
        importlib.reload(famcli.version)
        assert fam("--version").stdout == "fam unknown\n"
        assert fam("predict", image_dir, "--out", tmp_path / "boxes.json").exit_code == 0
    importlib.reload(famcli.version)

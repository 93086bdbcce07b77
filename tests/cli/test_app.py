"""What holds for the whole command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import Result

from famcli.cli.app import app

Fam = Callable[..., Result]
COMMANDS = [command.name for command in app.registered_commands]


def test_a_real_process() -> None:
    """`python -m famcli --version` prints the version and nothing else."""
    done = subprocess.run(
        [sys.executable, "-m", "famcli", "--version"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"fam {version('famcli')}\n", "")


def test_commands() -> None:
    """The words that the documentation uses are there."""
    assert {"predict", "demo", "eval", "train"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_has_help(fam: Fam, command: str, flag: str) -> None:
    """Help says what a command does and lists its options, on stdout, with exit code 0."""
    result = fam(command, flag)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert f"fam {command}" in result.stdout
    assert "--help" in result.stdout
    assert len(result.stdout.splitlines()) > 5


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_sentence(command: str) -> None:
    """The list of commands says what each is for."""
    (registered,) = [c for c in app.registered_commands if c.name == command]
    assert registered.callback is not None
    first = (registered.callback.__doc__ or "").strip().splitlines()[0]
    assert len(first) > 15
    assert first.endswith(".")


def test_help_lists_the_commands(fam: Fam) -> None:
    """`fam --help` names every command and the exit codes."""
    result = fam("--help")
    assert result.exit_code == 0
    assert all(command in result.stdout for command in COMMANDS)
    assert "130 interrupted" in " ".join(result.stdout.split())  # wherever the line is wrapped


def test_no_arguments_show_help(fam: Fam) -> None:
    """`fam` alone shows how it is used."""
    result = fam()
    assert "predict" in result.stdout + result.stderr
    assert result.exit_code in {0, 2}


@pytest.mark.parametrize(
    "arguments",
    [
        ("no-such-command",),
        ("--no-such-option",),
        ("predict",),
        ("predict", "x", "--no-such-option"),
        ("predict", "x", "--format", "xml"),
        ("predict", "x", "--batch-size", "0"),
        ("predict", "x", "--batch-size", "many"),
        ("predict", "x", "--max-boxes", "0"),
        ("predict", "x", "--scales", "big"),
        ("predict", "x", "--resume"),
        ("predict", "x", "--json"),
    ],
    ids=" ".join,
)
def test_wrong_usage(fam: Fam, arguments: tuple[str, ...]) -> None:
    """Wrong usage is exit code 2 with the reason on stderr and nothing on stdout."""
    result = fam(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr
    assert "Traceback" not in result.stderr


def test_an_error_is_one_line(fam: Fam, tmp_path: Path) -> None:
    """What the user can put right is one line on stderr and exit code 1, without a traceback."""
    result = fam("predict", tmp_path, "--quiet")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("fam: error: no images in ")


def test_errors_as_json(fam: Fam, tmp_path: Path) -> None:
    """With --json an error is JSON on stdout too, for the program that reads it."""
    result = fam("predict", tmp_path, "--out", tmp_path / "o.json", "--json")
    assert result.exit_code == 1
    assert "no images" in json.loads(result.stdout)["error"]


def test_json_mode_does_not_stick(fam: Fam, tmp_path: Path) -> None:
    """A run with --json does not change the next one in the same process."""
    fam("predict", tmp_path, "--out", tmp_path / "o.json", "--json", "--quiet")
    assert fam("predict", tmp_path).stdout == ""


def test_interrupt(fam: Fam, monkeypatch: pytest.MonkeyPatch, image_dir: Path) -> None:
    """Ctrl-C is exit code 130 and one line, without a traceback."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("famcli.inference.job.list_images", interrupted)
    result = fam("predict", image_dir)
    assert result.exit_code == 130
    assert result.stdout == ""
    assert "interrupted" in result.stderr
    assert "Traceback" not in result.stderr

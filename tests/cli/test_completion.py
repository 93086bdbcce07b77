"""What a shell completes, asked for as the shells ask."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from famcli.cli import completion
from famcli.cli.app import app
from famcli_models import BACKBONES, METHODS, packaged

NAMED = {"model", "method", "backbone", "format", "recipe", "init", "protocol", "engine", "device", "quality", "data"}
SHOW = {  # the first line of what each shell is told, which names the function or the command that it is to call
    "bash": "_fam_completion() {",
    "zsh": "#compdef fam",
    "fish": "complete --command fam --no-files",
}


# As a shell's process, but for all lines in one: Python takes longer to start than an answer does.
PROCESS = """
import contextlib, io, json, os, sys
from famcli.__main__ import main
answers = []
for environment in json.load(sys.stdin):
    os.environ.update(environment)
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
        main()
    answers.append(printed.getvalue())
json.dump([answers, list(sys.modules)], sys.stdout)
"""


def ask(*lines: str, shell: str = "bash") -> list[list[str]]:
    """What a shell gets for the last word of each line; nothing heavy is imported to answer."""
    asked = {"_FAM_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    environments = [
        {**asked, "COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_TYPER_COMPLETE_ARGS": line}
        for line in lines
    ]
    done = subprocess.run(
        [sys.executable, "-c", PROCESS], input=json.dumps(environments), capture_output=True, text=True, check=True
    )
    answers, modules = json.loads(done.stdout)
    assert done.stderr == ""
    assert not {"torch", "timm", "onnxruntime"} & set(modules)
    return [answer.split("\n")[:-1] if answer.strip() else [] for answer in answers]


def test_names() -> None:
    """Commands, options and names are completed by what begins as the last word does, without loading a network."""
    expected = {
        "fam ": {"predict", "train", "data"},
        "fam data ": {"check", "prepare"},
        "fam predict --mo": {"--model"},
        "fam predict --model ": set(packaged()),
        "fam eval -m fam-m": {"fam-mobilenetv1-butterflies", "fam-mobilenetv1-ilsvrc"},
        "fam predict photos --format c": {"coco", "coco-results", "csv", "cvat"},
        "fam predict --engine ": {"auto", "onnx", "torch"},
        "fam predict --quality ": {"fast", "best"},
        "fam train --backbone ": set(BACKBONES),
        "fam train --method ": set(METHODS),
        "fam train --recipe vgg16": {"vgg16-cub", "vgg16-ilsvrc"},
        "fam train --init ": {"imagenet", "none", *packaged()},
        "fam eval --protocol ws": {"wsoleval-v1", "wsoleval-v2"},
        "fam data prepare birds --format ": {"auto", "coco", "voc"},
        "fam models fam-vgg": {"fam-vgg16-cub", "fam-vgg16-ilsvrc"},
        "fam export --format t": {"torchscript", "torch-export"},
    }
    for (line, among), found in zip(expected.items(), ask(*expected), strict=True):
        assert among <= set(found), line
        assert all(name.startswith(line.rpartition(" ")[2]) for name in found), line


def test_datasets_that_are_prepared(make_splits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--data and the commands on datasets complete what was prepared on this machine; without any, files."""
    make_splits("birds", train_weaksup=[0, 1])
    lines = ("fam train --data ", "fam eval --data b", "fam data check ")
    assert ask(*lines) == [[], [], []]
    monkeypatch.setenv("FAM_DATA", str(tmp_path))
    assert ask(*lines) == [["birds"]] * 3


def test_files_are_left_to_the_shell() -> None:
    """Where no name fits nothing is answered, and shells complete files."""
    lines = ("fam predict ph", "fam predict --model runs/", "fam predict --out ")
    for shell, answer in {"bash": [], "fish": [], "zsh": ["_files"]}.items():
        assert ask(*lines, shell=shell) == [answer] * 3


@pytest.mark.parametrize("shell", SHOW)
def test_every_shell_has_a_script(shell: str) -> None:
    """`_FAM_COMPLETE=source_SHELL fam` prints what the shell is to run, and the shell gets names in its own form."""
    environment = {**os.environ, "_FAM_COMPLETE": f"source_{shell}"}
    command = [sys.executable, "-m", "famcli"]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert shown.strip().startswith(SHOW[shell])
    found = "_arguments '*: :((\"csv\"))'" if shell == "zsh" else "csv"
    assert ask("fam predict --format cs", shell=shell) == [[found]]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_in_bash(tmp_path: Path) -> None:
    """bash, told what fam prints for it, calls fam and offers what it says."""
    program = tmp_path / "fam"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m famcli "$@"\n')
    program.chmod(0o755)
    script = (
        'eval "$(_FAM_COMPLETE=source_bash fam)"; complete -p fam; '
        'COMP_WORDS=(fam predict --model fam-lite); COMP_CWORD=3; _fam_completion fam; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["complete -o default -F _fam_completion fam", "fam-lite0-ilsvrc"]


def parameters(command: Any, path: str = "fam") -> Iterator[tuple[str, Any]]:
    """All parameters of a command and of those below it."""
    yield from ((path, parameter) for parameter in command.params)
    for name, below in getattr(command, "commands", {}).items():
        yield from parameters(below, f"{path} {name}")


def test_nothing_that_takes_a_name_was_forgotten() -> None:
    """Every option of these names completes values: by a function of its own, or as a choice."""
    found = [(path, p) for path, p in parameters(get_command(app)) if p.name in NAMED]
    assert {p.name for _, p in found} == NAMED
    forgotten = [
        f"{path} {p.name}" for path, p in found if not (p._custom_shell_complete or p.shell_complete(None, ""))
    ]
    assert forgotten == []


def test_names_that_are_not_read_from_their_tables() -> None:
    """The tables of backbones and methods load PyTorch; what is completed in their place is the same."""
    assert set(completion.BACKBONES) == set(BACKBONES)
    assert set(completion.methods()) == set(METHODS)
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in completion.all_models())

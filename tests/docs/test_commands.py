"""Every command of the pages is run, or marked with the reason why not; all of them are ones that fam has."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pages
import pytest
from pages import LANGUAGES, PAGES
from PIL import Image
from typer.main import get_command

from famcli.cli.app import app
from famcli.data.dataset import write_dataset
from famcli.data.sample import NO_BOXES, Sample
from famcli.demo import PHOTOS, photo_folder

HERE = Path(__file__).parent
WITHOUT_TRAINING = {"docs/index.md", "docs/getting-started.md", "docs/guides/my-photos.md"}
PRELUDE = """set -e
fam() { "$PYTHON" -SE "$SERVER" "$SOCKET" fam "$@"; }
.venv/bin/fam() { fam "$@"; }
python() { "$PYTHON" -SE "$SERVER" "$SOCKET" "$@"; }
"""
CLASSES = ("Bobolink", "Cardinal", "Mallard")  # unknown to the default model, as most of CUB's are
COMMAND = get_command(app)
Scratch = Callable[[str], None]


def photos(folder: Path) -> None:
    """A cat, a cup and a rocket."""
    folder.mkdir()
    for photo, name in zip(PHOTOS[2::2] + PHOTOS[-1:], ("cat", "cup", "rocket"), strict=True):
        with Image.open(photo_folder() / photo.file) as picture:
            picture.convert("RGB").save(folder / f"{name}.jpg", quality=95)


def class_folders(folder: Path) -> dict[str, list[Sample]]:
    """Small photographs of three things, six of each in the folder of its class; four of them without boxes."""
    splits: dict[str, list[Sample]] = {"train-weaksup": [], "train-fullsup": [], "test": []}
    for label, photo in enumerate(photo for photo in PHOTOS if photo.class_name and photo.file != "rocket.jpg"):
        with Image.open(photo_folder() / photo.file) as picture:
            whole = picture.convert("RGB")
        (folder / CLASSES[label]).mkdir(parents=True)
        for i in range(6):
            left, top = 6 * i, 3 * i
            width, height = whole.width - 40, whole.height - 20
            path = folder / CLASSES[label] / f"{i}.jpg"
            whole.crop((left, top, left + width, top + height)).resize((160, 120)).save(path)
            box = (np.array(photo.box) - [left, top, left, top]) * ([160 / width, 120 / height] * 2)
            box = np.clip(box.round(), 0, [160, 120, 160, 120])
            split = "train-weaksup" if i < 4 else "train-fullsup" if i == 4 else "test"
            boxes = NO_BOXES if i < 4 else box[None]
            splits[split].append(Sample(f"{CLASSES[label]}/{i}.jpg", path, label, boxes))
    return splits


def dataset(folder: Path) -> None:
    """The same, with lists and boxes."""
    splits = class_folders(folder)
    write_dataset(folder, name=folder.name, images=folder, class_names=CLASSES, splits=splits)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The socket of server.py."""
    folder = tmp_path_factory.mktemp("server")
    address = str(folder / "s")
    command = [sys.executable, str(HERE / "server.py"), address]
    with subprocess.Popen(command) as process:
        while not Path(address).exists() and process.poll() is None:
            time.sleep(0.05)
        yield address
        process.terminate()


@pytest.fixture(scope="session")
def shell(server: str) -> Callable[[str, Path], subprocess.CompletedProcess[str]]:
    """A function that runs a script in a folder, offline, with what it prints together."""

    def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
        home = folder / ".home"
        env = {"PYTHON": sys.executable, "SERVER": str(HERE / "server.py"), "SOCKET": server}
        env |= {"FAM_DATA": str(home / "data"), "HF_HOME": str(home / "hub"), "HF_HUB_OFFLINE": "1"}
        env |= {"CUDA_VISIBLE_DEVICES": "", "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        return subprocess.run(
            ["bash", "-c", PRELUDE + script],
            cwd=folder,
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def trained(shell: Callable[..., subprocess.CompletedProcess[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run on :func:`dataset`."""
    folder = tmp_path_factory.mktemp("trained")
    dataset(folder / "birds")
    done = shell("fam train --data birds --out run", folder)
    assert done.returncode == 0, done.stdout
    return folder / "run"


@pytest.fixture
def lay(tmp_path: Path, request: pytest.FixtureRequest) -> Scratch:
    """A function that puts what a page needs into the scratch folder, if it is not there."""

    def put(thing: str) -> None:
        name, path = Path(thing), tmp_path / thing
        if name.parent.name == "runs":
            shutil.copytree(request.getfixturevalue("trained"), path)
        elif thing.endswith("photos"):
            photos(path)
        elif thing.endswith("/"):
            class_folders(path)
        else:
            dataset(tmp_path / ".home/data" / thing)

    return put


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[] if page in WITHOUT_TRAINING else pytest.mark.slow)
        for page in PAGES
        if any("not run" not in block.marks for block in pages.commands(page))
    ],
)
def test_the_commands_of_a_page_run(page: str, lay: Scratch, shell: Callable, tmp_path: Path) -> None:
    """From top to bottom, each block ends as it says, and prints what it shows but for the numbers."""
    for block in pages.blocks(page):
        for thing in block.marks.get("with", "").split(", ") if "with" in block.marks else ():
            lay(thing)
        if "file" in block.marks:
            (tmp_path / block.marks["file"]).write_text(block.text, encoding="utf-8")
        if block.language not in {"sh", "console"} or "not run" in block.marks:
            continue
        fails = any(line.startswith("fam: error: ") for line in block.shown)
        done = shell(block.typed, tmp_path)
        assert done.returncode == fails, f"{page}:{block.line}\n{done.stdout}"
        place = 0
        for line in block.shown:
            match = re.compile(form(line), re.MULTILINE).search(done.stdout, place)
            assert match, f"{page}:{block.line} shows\n{line}\nand not\n{done.stdout[place:]}"
            place = match.end()


def form(line: str) -> str:
    """A regular expression for lines like one that is shown: other numbers, other widths, and anything for dots."""
    pieces = re.split(r"(\.\.\.|\d+(?:\.\d+)?| +|-{2,})", line)
    other = {".": ".*", " ": " +", "-": "-+"}
    return "^" + "".join(
        other.get(piece[0], r"\d+(\.\d+)?") if i % 2 else re.escape(piece) for i, piece in enumerate(pieces)
    )


@pytest.mark.parametrize("page", PAGES)
def test_blocks_are_found(page: str) -> None:
    """Each fence belongs to a block of a known language, and what is not run is a block of commands."""
    found = list(pages.blocks(page))
    assert len(re.findall(r"^ *```", PAGES[page].read_text(encoding="utf-8"), re.MULTILINE)) == 2 * len(found)
    assert {block.language for block in found} <= LANGUAGES
    assert all(block.language in {"sh", "console"} for block in found if "not run" in block.marks)


@pytest.mark.parametrize("page", PAGES)
def test_commands_exist(page: str) -> None:
    """Each command of a block is parsed, whether it is run or not; those in a sentence have their options."""
    for block in pages.commands(page):
        for arguments in pages.arguments(block.typed):
            command, rest = resolved(arguments)
            if not hasattr(command, "commands"):
                command.make_context(arguments[0], rest)
    for quoted in re.findall(r"`fam ([^`]*)`", PAGES[page].read_text(encoding="utf-8")):
        command, rest = resolved(quoted.split())
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        options = {word.partition("=")[0] for word in rest if re.match("--?[a-z]", word)}
        assert options <= {*known, "--help", "--debug"}, f"fam {quoted}"


def resolved(arguments: list[str]) -> tuple[Any, list[str]]:
    """The command that is named, and what it is given."""
    command, rest = COMMAND, [word for word in arguments if word != "--debug"]
    while rest and rest[0] in getattr(command, "commands", {}):
        command, rest = command.commands[rest[0]], rest[1:]
    assert not hasattr(command, "commands") or not rest or rest[0].startswith("-") or rest[0].isupper(), arguments
    return command, rest

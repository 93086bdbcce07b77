"""Every command of the pages is run, or marked with the reason why not; all of them are ones that fam has."""

from __future__ import annotations

import json
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
from loopback import Hub
from pages import LANGUAGES, PAGES, SHELLS
from PIL import Image
from typer.main import get_command

from famcli.cli.app import app
from famcli.data.dataset import write_dataset
from famcli.data.sample import NO_BOXES, Sample
from famcli.demo import PHOTOS, photo_folder

HERE = Path(__file__).parent
WITHOUT_TRAINING = {"docs/index.md", "docs/getting-started.md", "docs/guides/my-photos.md"}
NUMBER = r"[-+]?\d+(?:\.\d+)?"
LIKE = {r"\.\.\.": ".*", "-{2,}": "-+", " +": " +", NUMBER: NUMBER}  # what may stand for a piece of a line
# `torchrun` takes a free port.
PRELUDE = """set -e
torchrun() { command torchrun --standalone "$@"; }
fam() { "$PYTHON" -SE "$SERVER" "$SOCKET" fam "$@"; }
.venv/bin/fam() { fam "$@"; }
python() { "$PYTHON" -SE "$SERVER" "$SOCKET" "$@"; }
"""
NAMED = [photo for photo in PHOTOS if photo.class_name and photo.file != "rocket.jpg"]
SPECIES = ("Bobolink", "Cardinal", "Mallard")  # unknown to the packaged models, as most of CUB's are
CLASSES = {"ilsvrc": tuple(str(photo.class_name) for photo in NAMED), "sorted": ("mugs", "tabbby")}
COMMAND = get_command(app)
Lay = Callable[[str], dict[str, str]]
Shell = Callable[..., subprocess.CompletedProcess[str]]
CHECKPOINT = {"config.json", "model.safetensors"}
HOME = ".home"  # in the scratch folder


def photos(folder: Path) -> None:
    """A cat, a cup and a rocket."""
    folder.mkdir()
    for name, file in (("cat", "chelsea.png"), ("cup", "coffee.png"), ("rocket", "rocket.jpg")):
        with Image.open(photo_folder() / file) as picture:
            picture.convert("RGB").save(folder / f"{name}.jpg", quality=95)


def annotations(file: Path) -> None:
    """COCO ids for :func:`photos`."""
    images = [{"id": 70 + i, "file_name": f"{name}.jpg"} for i, name in enumerate(("cat", "cup", "rocket"))]
    categories = [{"id": 3, "name": "Egyptian cat"}, {"id": 5, "name": "espresso"}]
    file.write_text(json.dumps({"images": images, "annotations": [], "categories": categories}))


def class_folders(folder: Path) -> dict[str, list[Sample]]:
    """Small photographs of three things, six of each in the folder of its class; boxes for the last two."""
    splits: dict[str, list[Sample]] = {"train-weaksup": [], "train-fullsup": [], "test": []}
    for label, (photo, name) in enumerate(zip(NAMED, CLASSES.get(folder.name, SPECIES), strict=False)):
        with Image.open(photo_folder() / photo.file) as picture:
            whole = picture.convert("RGB")
        (folder / name).mkdir(parents=True)
        for i in range(6):
            left, top, width, height = 6 * i, 3 * i, whole.width - 40, whole.height - 20
            path = folder / name / f"{i}.jpg"
            whole.crop((left, top, left + width, top + height)).resize((160, 120)).save(path)
            box = (np.array(photo.box) - [left, top, left, top]) * ([160 / width, 120 / height] * 2)
            boxes = NO_BOXES if i < 4 else np.clip(box.round(), 0, [160, 120, 160, 120])[None]
            split = ("train-weaksup", "train-fullsup", "test")[max(i - 3, 0)]
            splits[split].append(Sample(f"{name}/{i}.jpg", path, label, boxes))
    return splits


def dataset(folder: Path) -> None:
    """The same with lists, a prepared dataset."""
    splits = class_folders(folder)
    names = CLASSES.get(folder.name, SPECIES)
    write_dataset(folder, name=folder.name, images=folder, class_names=names, splits=splits)


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
def shell(server: str) -> Shell:
    """A function that runs a script in a folder, offline, with what it prints together."""

    def run(script: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
        home = folder / HOME
        env = {"PYTHON": sys.executable, "SERVER": str(HERE / "server.py"), "SOCKET": server}
        env |= {"FAM_DATA": str(home / "data"), "HF_HOME": str(home / "hub"), "HF_HUB_OFFLINE": "1"}
        env |= {"CUDA_VISIBLE_DEVICES": "", "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        return subprocess.run(
            ["bash", "-c", PRELUDE + script],
            cwd=folder,
            env={**os.environ, **env, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def trained(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run on :func:`dataset`."""
    folder = tmp_path_factory.mktemp("trained")
    dataset(folder / "birds")
    done = shell("fam train --data birds --out run", folder)
    assert done.returncode == 0, done.stdout
    return folder / "run"


@pytest.fixture
def hub(trained: Path) -> Iterator[dict[str, str]]:
    """The environment for a Hub on loopback that has a model."""
    served = Hub()
    files = {path.name: path.read_bytes() for path in trained.iterdir() if path.name in CHECKPOINT}
    for name in ("ORG/NAME", "our-lab/fam-resnet50-cub"):
        served.add(name, files)
        served.repos[name].refs["v1.0"] = served.repos[name].refs["main"]
    served.writers.add("hf_of_the_tests")
    yield {"HF_ENDPOINT": served.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": "hf_of_the_tests"}
    served.close()


@pytest.fixture
def lay(tmp_path: Path, request: pytest.FixtureRequest) -> Lay:
    """A function that puts what a page needs into the scratch folder, and gives what to add to the environment."""

    def put(thing: str) -> dict[str, str]:
        path = tmp_path / thing
        if thing == "hub":
            return request.getfixturevalue("hub")
        if thing.startswith("runs/"):
            shutil.copytree(request.getfixturevalue("trained"), path)
        elif thing == "annotations.json":
            annotations(path)
        elif thing.endswith("photos"):
            photos(path)
        elif thing.endswith("/"):
            class_folders(path)
        else:
            dataset(tmp_path / HOME / "data" / thing)
        return {}

    return put


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[] if page in WITHOUT_TRAINING else pytest.mark.slow)
        for page in PAGES
        if any(block.runs for block in pages.blocks(page))
    ],
)
def test_the_commands_of_a_page_run(page: str, lay: Lay, shell: Shell, tmp_path: Path) -> None:
    """From top to bottom, each block ends as it says, and prints what it shows but for the numbers."""
    environment: dict[str, str] = {}
    for block in pages.blocks(page):
        for mark, said in block.marks:
            if mark == "with":
                for thing in said.split(", "):
                    environment |= lay(thing)
            elif mark == "before":
                done = shell(said, tmp_path, **environment)
                assert done.returncode == 0, f"{page}:{block.line} before\n{done.stdout}"
            elif mark == "file":
                (tmp_path / said).write_text(block.text, encoding="utf-8")
        if not block.runs:
            continue
        done = shell(block.typed, tmp_path, **environment)
        fails = any(line.startswith("fam: error: ") for line in block.shown)
        assert done.returncode == fails, f"{page}:{block.line}\n{done.stdout}"
        place = 0
        for line in block.shown:
            match = re.compile(form(line), re.MULTILINE).search(done.stdout, place)
            assert match, f"{page}:{block.line} shows\n{line}\nand not\n{done.stdout[place:]}"
            place = match.end()


def form(line: str) -> str:
    """A regular expression for lines like one that is shown: other numbers, other widths, and anything for dots."""
    pieces = re.split(f"({'|'.join(LIKE)})", line)
    return "^" + "".join(next((LIKE[of] for of in LIKE if re.fullmatch(of, p)), re.escape(p)) for p in pieces)


@pytest.mark.parametrize("page", PAGES)
def test_blocks_are_found(page: str) -> None:
    """Each fence belongs to a block of a known language, and what is not run is a block of commands."""
    found = list(pages.blocks(page))
    assert len(re.findall(r"^ *```", PAGES[page].read_text(encoding="utf-8"), re.MULTILINE)) == 2 * len(found)
    assert {block.language for block in found} <= LANGUAGES
    assert all(block.language in SHELLS for block in found if "not run" in dict(block.marks))


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

"""A Hub on loopback, a cache that is thrown away, and commands in processes of their own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

CANARY = "hf_canaryNeverToBeSeenAnywhere0123456789"
HERE = Path(__file__).parent


def load(name: str) -> ModuleType:
    """A module beside this file."""
    if f"fam_tests_{name}" in sys.modules:
        return sys.modules[f"fam_tests_{name}"]
    spec = importlib.util.spec_from_file_location(f"fam_tests_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[f"fam_tests_{name}"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class Done:
    """A process that has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def last(self) -> str:
        """The last line on stdout."""
        return self.stdout.splitlines()[-1]


class Commands:
    """The command line in processes of their own; see processes.py."""

    def __init__(self) -> None:
        self.server = subprocess.Popen(
            [sys.executable, str(HERE / "processes.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent.parent), *sys.path])},
        )

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """One question."""
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        answer: dict[str, Any] = json.loads(self.server.stdout.readline())
        return answer

    def close(self) -> None:
        """End."""
        with self.server:  # closes its pipes, which ends it
            pass


@dataclass
class Running:
    """A process that may still run."""

    commands: Commands
    pid: int
    out: Path

    def wait(self) -> Done:
        """Until it has ended."""
        code = self.commands.ask({"wait": self.pid})["code"]
        texts = [self.out.with_suffix(f".{name}").read_text() for name in ("stdout", "stderr")]
        return Done(code, *texts)


@pytest.fixture(scope="session")
def commands() -> Iterator[Commands]:
    """What starts processes."""
    made = Commands()
    yield made
    made.close()


@pytest.fixture(scope="session")
def loopback() -> ModuleType:
    """The module of the Hub."""
    return load("loopback")


@pytest.fixture(scope="session")
def the_hub(loopback: ModuleType) -> Iterator[Any]:
    """One Hub for all tests."""
    pages = load("pages")
    made = loopback.Hub(pages.HubPages, pages.Storage)
    yield made
    made.close()


@pytest.fixture
def hub(the_hub: Any) -> Iterator[Any]:
    """An empty Hub."""
    the_hub.reset()
    the_hub.writers.add(CANARY)
    yield the_hub
    the_hub.reset()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """An empty HF_HOME."""
    return tmp_path / "hf-home"


@pytest.fixture
def start(commands: Commands, hub: Any, cache: Path, tmp_path: Path) -> Callable[..., Running]:
    """A function that starts ``fam`` with an unmodified huggingface_hub pointed at the Hub."""
    count = 0

    def run(*arguments: object, token: str | None = None, home: Path = cache, **more: str) -> Running:
        nonlocal count
        count += 1
        out = tmp_path / "talk" / str(count)
        out.parent.mkdir(exist_ok=True)
        env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        # Xet is off: it is a protocol of its own to another service, and LFS is what every client can do.
        env |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HOME": str(tmp_path / "home")}
        env |= ({"HF_TOKEN": token} if token else {}) | {"FAM_DATA": str(tmp_path / "fam-data")} | more
        request = {"arguments": [str(a) for a in arguments], "env": env, "cwd": str(tmp_path)}
        streams = {name: str(out.with_suffix(f".{name}")) for name in ("stdout", "stderr")}
        return Running(commands, commands.ask({**request, **streams})["pid"], out)

    return run


@pytest.fixture
def fam_process(start: Callable[..., Running]) -> Callable[..., Done]:
    """A function that runs ``fam`` to its end; see :func:`start`."""
    return lambda *arguments, **options: start(*arguments, **options).wait()


@pytest.fixture
def files(checkpoint: Path) -> dict[str, bytes]:
    """The files of a repository with a tiny checkpoint, and one that nobody should fetch."""
    card = b"---\nlicense: mit\n---\n# Tiny\n"
    stored = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    return {**stored, "README.md": card, "pytorch_model.bin": b"pickle", "modeling.py": b"import os"}


def everything_below(folder: Path) -> dict[Path, bytes]:
    """Content of all files."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()}


@pytest.fixture
def no_canary(tmp_path: Path) -> Iterator[None]:
    """After the test the token is in no file that was written, standard streams included."""
    yield
    found = [path for path, data in everything_below(tmp_path).items() if CANARY.encode() in data]
    assert not found


@pytest.fixture
def canary() -> str:
    """A token that may write."""
    return CANARY

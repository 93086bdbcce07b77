"""A Hub on loopback, a cache that is thrown away, and commands in processes of their own."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

CANARY = "hf_canaryNeverToBeSeenAnywhere0123456789"
HERE = Path(__file__).parent


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


@dataclass
class Running:
    """A process that may still run."""

    ask: Callable[..., int]
    pid: int
    out: Path

    def wait(self) -> Done:
        """Until it has ended."""
        code = self.ask(wait=self.pid)
        return Done(code, *(self.out.with_suffix(f".{name}").read_text() for name in ("stdout", "stderr")))


@pytest.fixture(scope="session")
def ask() -> Iterator[Callable[..., int]]:
    """A function that starts a process or waits for one; see processes.py."""
    path = os.pathsep.join([str(HERE.parent.parent), *sys.path])
    arguments, env = [sys.executable, str(HERE / "processes.py")], {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as server:

        def request(**wanted: Any) -> int:
            server.stdin.write(json.dumps(wanted) + "\n")
            server.stdin.flush()
            return int(server.stdout.readline())

        yield request


@pytest.fixture(scope="session")
def the_hub() -> Iterator[Any]:
    """One Hub for all tests."""
    spec = importlib.util.spec_from_file_location("fam_tests_loopback", HERE / "loopback.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = module.Hub()
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
def start(ask: Callable[..., int], hub: Any, cache: Path, tmp_path: Path) -> Callable[..., Running]:
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
        streams = {name: str(out.with_suffix(f".{name}")) for name in ("stdout", "stderr")}
        return Running(ask, ask(arguments=[str(a) for a in arguments], env=env, cwd=str(tmp_path), **streams), out)

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


@pytest.fixture
def no_canary(tmp_path: Path) -> Iterator[None]:
    """After the test the token is in no file that was written, standard streams included."""
    yield
    files = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]


@pytest.fixture
def canary() -> str:
    """A token that may write."""
    return CANARY


@pytest.fixture
def snapshot(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A snapshot as the Hub's client keeps it: links to blobs that are named by their hash."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    repo = tmp_path / "cache" / "models--lab--fam"
    folder, blobs = repo / "snapshots" / ("0" * 40), repo / "blobs"
    folder.mkdir(parents=True)
    blobs.mkdir()
    for path in checkpoint.iterdir():
        data = path.read_bytes()
        name = hashlib.sha256(data).hexdigest() if path.name == "model.safetensors" else "1" * 40
        (blobs / name).write_bytes(data)
        (folder / path.name).symlink_to(Path("..") / ".." / "blobs" / name)
    return folder

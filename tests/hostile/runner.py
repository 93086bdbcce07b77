"""Runs many commands, each in a process of its own with limits, and checks what every one of them has to keep to.

A process that has imported everything is forked for each command, which takes milliseconds where a start takes
seconds. This file is that process too: it reads cases as JSON lines, and answers each with a line.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

SEED = int(os.environ.get("FAM_HOSTILE_SEED") or random.randrange(1 << 32))  # of all hostile inputs of a run
MEMORY = 1536 << 20  # bytes of address space that a command may take beyond what the imports have
SECONDS = 20  # a command's wall time
WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


@dataclass(frozen=True)
class Case:
    """A command on hostile input.

    Attributes:
        name: What is wrong with the input; said where a check fails.
        folder: Holds the input, is the working directory, and the only place where the command may write. It is the
            only entry of its parent.
        argv: What follows ``fam``.
        codes: Exit codes that are right.
        named: Texts, such as names of damaged files, each of which has to be in exactly one line of standard error, or
            of the files in ``reports``.
        silent: Texts that may be in no such line, such as the names of good files.
        reports: Files below the folder that the command names further failures in.
        stdin: A file below the folder that is standard input; by default there is nothing.
        env: Environment variables to set.
    """

    name: str
    folder: str
    argv: list[str]
    codes: tuple[int, ...] = (0, 1, 2)
    named: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    reports: tuple[str, ...] = ()
    stdin: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    seconds: float = SECONDS
    memory: int = MEMORY


@dataclass(frozen=True)
class Done:
    """What a command did; ``code`` is minus the signal if one ended it, and ``None`` if its time was up."""

    code: int | None
    began: float  # in seconds since the epoch
    seconds: float
    peak: int  # bytes, with those of the imports
    stdout: str
    stderr: str


@contextmanager
def server() -> Iterator[subprocess.Popen[str]]:
    """The process that is forked for each command."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, __file__], stdin=pipe, stdout=pipe, text=True, env=env) as process:
        yield process


@dataclass
class Runner:
    """Runs cases in forks of a server."""

    process: subprocess.Popen[str]

    def run(self, case: Case) -> Done:
        """Run one command."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(asdict(case)) + "\n")
        self.process.stdin.flush()
        return Done(**json.loads(self.process.stdout.readline()))

    def check(self, cases: Iterable[Case]) -> int:
        """Run cases, one after the other, and fail with all that is wrong; gives their number."""
        wrong, count = [], 0
        for case in cases:
            count += 1
            done = self.run(case)
            if found := problems(case, done):
                wrong.append(f"{case.name} ({' '.join(case.argv)[:200]}): {'; '.join(found)}\n{done.stderr[-600:]}")
            shutil.rmtree(Path(case.folder).parent, ignore_errors=True)
        assert not wrong, f"{len(wrong)} of {count} cases:\n" + "\n".join(wrong[:20])
        return count


def problems(case: Case, done: Done) -> list[str]:
    """What a command did that it may not, in words; nothing if all is well."""
    found = []
    if done.code is None:
        found.append(f"still running after {case.seconds} s")
    elif done.code not in case.codes:
        found.append(f"exit code {done.code}, not one of {case.codes}")
    if "Traceback" in done.stderr or "Traceback" in done.stdout:
        found.append("a traceback")
    if "this is a fault of fam" in done.stderr:
        found.append("an error that nobody foresaw")
    lines = done.stderr.splitlines()
    if longest := [line for line in lines if len(line) > 2000]:
        found.append(f"a line of {max(map(len, longest))} characters")
    if done.code == 1 and not any(line.startswith("fam: ") for line in lines):
        found.append("exit code 1 without a reason")
    folder = Path(case.folder)
    for report in case.reports:
        if (folder / report).exists():
            lines += (folder / report).read_text(encoding="utf-8", errors="replace").splitlines()
    counts = {name: sum(name in line for line in lines) for name in case.named}
    found += [f"{name!r} is in {count} lines" for name, count in counts.items() if count != 1]
    found += [f"{name!r} is named, and is good" for name in case.silent if any(name in line for line in lines)]
    others = sorted(path.name for path in folder.parent.iterdir() if path != folder)
    if others:
        found.append(f"written outside of the folder: {others}")
    found += [f"left behind: {path.name}" for path in folder.rglob(".fam.*")]
    found += [f"{path.name} is no strict JSON" for path in folder.rglob("*.json") if not _is_strict(path, done.began)]
    return found


def _is_strict(path: Path, began: float) -> bool:
    """Whether a JSON file has no NaN or infinity; of a file that was there before it is not asked."""
    if path.is_symlink() or not path.is_file() or path.stat().st_mtime < began:
        return True
    try:
        json.loads(path.read_bytes(), parse_constant=_refuse)
    except ValueError as error:
        return not str(error).startswith("not JSON")
    return True


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"not JSON: {constant}")


def _serve() -> None:
    """Answer each case on standard input until there are no more."""
    import cv2
    import onnxruntime  # noqa: F401
    import torch

    import famcli.cli.app
    import famcli.evaluation.run
    import famcli.inference.job
    import famcli.training.run  # noqa: F401

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    for line in sys.stdin:
        case = Case(**json.loads(line))
        sys.stdout.write(json.dumps(asdict(_fork(case))) + "\n")
        sys.stdout.flush()


def _fork(case: Case) -> Done:
    # Beside the folder's parent, not in it: what a command writes there is a fault.
    streams = [f"{Path(case.folder).parent}.{name}" for name in ("out", "err")]
    clock, began = time.time(), time.monotonic()
    pid = os.fork()
    if not pid:
        _command(case, *streams)
    code, usage = _wait(pid, began + case.seconds)
    taken = time.monotonic() - began
    texts = [Path(stream).read_text(encoding="utf-8", errors="replace") for stream in streams]
    for stream in streams:
        Path(stream).unlink()
    return Done(code, clock, taken, usage.ru_maxrss * 1024 if usage else 0, *texts)


def _wait(pid: int, until: float) -> tuple[int | None, Any]:
    while time.monotonic() < until:
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status), usage
        time.sleep(0.005)
    os.killpg(pid, signal.SIGKILL)
    os.wait4(pid, 0)
    return None, None


def _command(case: Case, out: str, err: str) -> NoReturn:
    """Be the command, in a forked process."""
    code: object = 70
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        source = os.path.join(case.folder, case.stdin) if case.stdin else os.devnull
        for number, path, flags in ((1, out, WRITE), (2, err, WRITE), (0, source, os.O_RDONLY)):
            os.dup2(os.open(path, flags), number)
        os.chdir(case.folder)
        os.environ.update(case.env)
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit = pages * resource.getpagesize() + case.memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(n, mode, encoding="utf-8") for n, mode in enumerate("rww"))
        sys.argv = ["fam", *case.argv]
        from famcli.__main__ import main

        main()
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001  (as the interpreter does)
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: the commands are to find what users have installed
    _serve()

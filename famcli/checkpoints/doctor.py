"""What fam stands on here: packages, devices, folders, the Hub, the packaged model; with a fix for what is wrong.

Each part is looked at by itself and may fail by itself: a doctor must not need what it looks for. Nothing heavy is
imported before it is looked at.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

State = Literal["ok", "note", "broken"]

OPENCV = ("opencv-python-headless", "opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")
ONE_OPENCV = f"pip uninstall -y {' '.join(OPENCV)} && pip install opencv-python-headless"
MOST_FILES = 200_000  # of a cache whose size is counted; ILSVRC has over a million, and nobody waits for that
LOW_DISK = 2 * 10**9  # bytes: the packaged model, a ResNet50 checkpoint and its download fit
TIMEOUT = 5.0  # seconds for the Hub to answer
UNITS = ("bytes", "kB", "MB", "GB", "TB")


PACKAGES = ("famcli", "torch", "torchvision", "timm", "accelerate", "numpy", "opencv-python-headless", "pillow")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        group: What it belongs to.
        name: What was looked at.
        value: What was found.
        state: ``ok``; ``note``: worth knowing, ``fam predict`` works; ``broken``: ``fam predict`` does not.
        fix: What to do about it; empty if it is ok.
    """

    group: str
    name: str
    value: str
    state: State = "ok"
    fix: str = ""


def examine(*, offline: bool = False) -> Iterator[Finding]:
    """Look at everything, one finding at a time.

    Args:
        offline: Do not ask the Hub.
    """
    parts: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
        ("versions", versions),
        ("opencv", opencv),
        ("devices", devices),
        ("folders", folders),
        ("hub", lambda: hub(offline=offline)),
        ("model", packaged_models),
    )
    for group, part in parts:
        try:
            yield from part()
        except Exception as error:  # noqa: BLE001  (whatever is broken here is a finding)
            reason = f"{type(error).__name__}: {error}"
            state: State = "note" if group in {"folders", "hub"} else "broken"
            yield Finding(group, group, reason, state, f"reinstall with: {_pip('install --force-reinstall famcli')}")


def versions() -> Iterator[Finding]:
    """Python, fam and every package that it needs, beside what it asks for."""
    yield Finding("versions", "python", f"{platform.python_version()} ({sys.executable}, {platform.platform()})")
    yield Finding("versions", "famcli", version("famcli"))
    from packaging.requirements import Requirement

    for text in requires("famcli") or ():
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        name, bound = wanted.name, str(wanted.specifier)
        fix = _pip(f"install '{name}{bound}'")
        try:
            found = version(name)
        except PackageNotFoundError:
            # Another build of OpenCV may do as well: opencv() tells.
            state: State = "note" if name in OPENCV else "broken"
            yield Finding("versions", name, f"not installed; famcli needs {bound or 'it'}", state, fix)
            continue
        if wanted.specifier.contains(found, prereleases=True):
            yield Finding("versions", name, found)
        else:
            yield Finding("versions", name, f"{found}; famcli needs {bound}", "broken", fix)


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers may depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def opencv() -> Iterator[Finding]:
    """OpenCV comes as four packages that share one folder: the last one installed wins, and may need a display."""
    installed = [name for name in OPENCV if _is_installed(name)]
    if len(installed) > 1:
        value = f"{' and '.join(installed)} are installed over each other"
        yield Finding("opencv", "packages", value, "note", ONE_OPENCV)
    try:
        import cv2
    except ImportError as error:
        fix = (
            ONE_OPENCV
            if "libGL" in str(error) or len(installed) != 1
            else _pip(f"install --force-reinstall {OPENCV[0]}")
        )
        yield Finding("opencv", "import cv2", str(error), "broken", fix)
        return
    yield Finding("opencv", "import cv2", f"{cv2.__version__} from {' and '.join(installed) or 'outside of pip'}")


def devices() -> Iterator[Finding]:
    """What ``--device`` may be."""
    import torch

    from famcli.inference.torch_engine import pick_device

    yield Finding("devices", "cpu", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads of torch")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for i in range(count):
        facts = torch.cuda.get_device_properties(i)
        yield Finding("devices", f"cuda:{i}", f"{facts.name}, {size(facts.total_memory)}")
    if not count:
        yield _no_cuda(torch.version.cuda)
    if torch.backends.mps.is_available():
        yield Finding("devices", "mps", "available")
    yield Finding("devices", "--device auto", str(pick_device()))


def folders() -> Iterator[Finding]:
    """Caches, what they hold, and how much room there is."""
    from huggingface_hub import constants

    from famcli.data.dataset import data_home

    places = (
        ("prepared data (FAM_DATA)", data_home()),
        ("Hub cache (HF_HOME)", Path(constants.HF_HUB_CACHE)),
        ("temporary files", Path(tempfile.gettempdir())),
    )
    for name, folder in places:
        nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        free = shutil.disk_usage(nearest).free
        held = "" if folder == places[-1][1] else f"{held_in(folder)}, "
        value = f"{folder}: {held}{size(free)} free"
        if not os.access(nearest, os.W_OK):
            variable = "TMPDIR" if folder == places[-1][1] else name.partition("(")[2].rstrip(")")
            yield Finding("folders", name, f"{value}, not writable", "note", f"choose another with {variable}")
        elif free < LOW_DISK:
            yield Finding("folders", name, value, "note", "make room on this disk, or move the folder to another")
        else:
            yield Finding("folders", name, value)


def hub(*, offline: bool) -> Iterator[Finding]:
    """Whether the Hub answers; it is told nothing, and a token is not shown."""
    from huggingface_hub import constants, get_token

    yield Finding("hub", "token", "set" if get_token() else "not set; only private and gated models need one")
    endpoint = _without_user(constants.ENDPOINT)
    if offline or constants.HF_HUB_OFFLINE:
        reason = "--offline" if offline else "HF_HUB_OFFLINE is set; models come from the cache alone"
        yield Finding("hub", endpoint, f"not asked: {reason}")
        return
    import requests

    try:
        # Proxies are those of the environment. The login of a .netrc file stays here.
        answer = requests.head(constants.ENDPOINT, timeout=TIMEOUT, allow_redirects=False, auth=lambda request: request)
    except requests.RequestException as error:
        value = f"cannot be reached ({type(error).__name__})"
        fix = "check the network, HTTPS_PROXY and HF_ENDPOINT; packaged, local and cached models work without it"
        yield Finding("hub", endpoint, value, "note", fix)
        return
    if answer.status_code >= 500:
        yield Finding("hub", endpoint, f"answers with HTTP {answer.status_code}", "note", "try again later")
    else:
        yield Finding("hub", endpoint, f"reached in {answer.elapsed.total_seconds():.2f} s")


def packaged_models() -> Iterator[Finding]:
    """Each packaged checkpoint as ``fam verify`` sees it, on the CPU."""
    from famcli.checkpoints.verify import inspect
    from famcli_models.checkpoint import DEFAULT_MODEL, packaged

    fix = _pip("install --force-reinstall --no-deps famcli")
    if DEFAULT_MODEL not in packaged():
        yield Finding("model", DEFAULT_MODEL, "is not in the installed package", "broken", fix)
    for name, folder in packaged().items():
        report = inspect(folder)
        if report.problems:
            yield Finding("model", name, "; ".join(report.problems), "broken", fix)
        else:
            yield Finding("model", name, "good: " + ", ".join(check.name for check in report.checks if check.good))


def held_in(folder: Path) -> str:
    """Number and size of the files below a folder, links not followed, in a few words."""
    count = total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(path, name)).st_size
            except OSError:  # another process tidied up
                continue
            count += 1
        if count > MOST_FILES:
            return f"more than {count:,} files, {size(total)}"
    return f"{count:,} files, {size(total)}" if folder.is_dir() else "not there yet"


def size(count: float) -> str:
    """Bytes for people."""
    for unit in UNITS[:-1]:
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == UNITS[0] else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} {UNITS[-1]}"


def _no_cuda(built_for: str | None) -> Finding:
    if built_for is None:
        return Finding("devices", "cuda", "this torch is built for the CPU alone")
    if shutil.which("nvidia-smi") is None:
        return Finding("devices", "cuda", "no GPU")
    fix = "update the NVIDIA driver, or install the torch of its CUDA version: https://pytorch.org/get-started/locally"
    return Finding("devices", "cuda", f"torch for CUDA {built_for} sees no GPU, though there is a driver", "note", fix)


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def _pip(arguments: str) -> str:
    return f"{Path(sys.executable).name} -m pip {arguments}"


def _without_user(url: str) -> str:
    """A URL without the name and password that it may hold."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

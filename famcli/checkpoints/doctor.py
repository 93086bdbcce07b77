"""Checks of the installation for ``fam doctor``: packages, devices, folders, the Hub, the packaged models; with fixes.

Each part is checked by itself and may fail by itself, and nothing heavy is imported before its own check.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, packages_distributions, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from famcli.data.public.catalog import human
from famcli.version import PYTORCH, __version__
from famcli_models.errors import FamError

OPENCV = ("opencv-python-headless", "opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")
ONE_OPENCV = f"pip uninstall -y {' '.join(OPENCV)} && pip install opencv-python-headless"
MOST_FILES = 200_000  # of a cache whose size is counted; ILSVRC has over a million, and nobody waits for that
LOW_DISK = 2 * 10**9  # bytes: a pulled model, a ResNet50 checkpoint and its download fit
TIMEOUT = 5.0  # seconds for the Hub to answer
PIP = f"{Path(sys.executable).name} -m pip install"
PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "onnxruntime",
    "accelerate",
    "numpy",
    "opencv-python-headless",
    "pillow",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    name: str  # what was checked
    value: str  # what was found
    state: Literal["ok", "note", "broken"] = "ok"  # note: worth knowing, fam predict works; broken: it does not
    fix: str = ""  # what to do about it
    group: str = ""


def examine(*, offline: bool = False) -> Iterator[Finding]:
    """Check everything, one finding at a time; offline the Hub is not asked."""
    parts: dict[str, Callable[[], Iterator[Finding]]] = {
        "versions": versions,
        "opencv": opencv,
        "devices": devices,
        "engines": engines,
        "folders": folders,
        "hub": lambda: hub(offline=offline),
        "model": packaged_models,
    }
    for group, part in parts.items():
        try:
            yield from (replace(finding, group=group) for finding in part())
        except Exception as error:  # noqa: BLE001  (whatever is broken here is a finding)
            reason, fix = f"{type(error).__name__}: {error}", f"reinstall with: {PIP} --force-reinstall famcli"
            if isinstance(error, FamError):
                reason, fix = str(error), ""
            yield Finding(group, reason, "note" if group in {"folders", "hub"} else "broken", fix, group)


def versions() -> Iterator[Finding]:
    """Python, fam and every package that it needs, beside what it asks for."""
    yield Finding("python", f"{platform.python_version()} ({sys.executable}, {platform.platform()})")
    yield Finding("famcli", __version__)
    from packaging.requirements import Requirement

    try:
        needs = requires("famcli") or ()
    except PackageNotFoundError:
        yield Finding("packages", "famcli runs from a folder that is not installed, so what it needs is not compared")
        needs = ()
    left_out = () if find_spec("torch") else PYTORCH
    if left_out:
        value = "not installed; training, GPUs and models without a graph need it"
        yield Finding("torch", value, "note", f"{PIP} {' '.join(PYTORCH)}")
    for wanted in map(Requirement, needs):
        if wanted.name in left_out or (wanted.marker is not None and not wanted.marker.evaluate({"extra": ""})):
            continue
        name, bound = wanted.name, str(wanted.specifier)
        fix = f"{PIP} '{name}{bound}'"
        try:
            found = version(name)
        except PackageNotFoundError:  # another build of OpenCV may do as well: opencv() tells
            value = f"not installed; famcli needs {bound or 'it'}"
            yield Finding(name, value, "note" if name in OPENCV else "broken", fix)
            continue
        good = wanted.specifier.contains(found, prereleases=True)
        yield Finding(name, found) if good else Finding(name, f"{found}; famcli needs {bound}", "broken", fix)


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers may depend on."""
    return {"python": platform.python_version(), "famcli": __version__, **{name: version(name) for name in PACKAGES}}


def opencv() -> Iterator[Finding]:
    """OpenCV comes as four packages that share one folder: the last one installed wins, and may need a display."""
    providers = packages_distributions().get("cv2", [])
    installed = [name for name in OPENCV if name in providers]
    if len(installed) > 1:
        yield Finding("packages", f"{' and '.join(installed)} are installed over each other", "note", ONE_OPENCV)
    try:
        import cv2
    except ImportError as error:
        again = f"{PIP} --force-reinstall {OPENCV[0]}" if len(installed) == 1 and "libGL" not in str(error) else ""
        yield Finding("import cv2", str(error), "broken", again or ONE_OPENCV)
    else:
        yield Finding("import cv2", f"{cv2.__version__} from {' and '.join(installed) or 'outside of pip'}")


def devices() -> Iterator[Finding]:
    """What ``--device`` may be."""
    if find_spec("torch") is None:
        yield Finding("cpu", f"{os.cpu_count()} cores; without PyTorch there is no other device")
        return
    import torch

    from famcli.inference.torch_engine import pick_device

    yield Finding("cpu", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads of torch")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for i in range(count):
        facts = torch.cuda.get_device_properties(i)
        yield Finding(f"cuda:{i}", f"{facts.name}, {human(facts.total_memory)}")
    if not count and torch.version.cuda and shutil.which("nvidia-smi"):
        value = f"torch for CUDA {torch.version.cuda} sees no GPU, though there is a driver"
        fix = "update the NVIDIA driver, or install the torch of its CUDA version: "
        yield Finding("cuda", value, "note", f"{fix}https://pytorch.org/get-started/locally")
    elif not count:
        yield Finding("cuda", "no GPU" if torch.version.cuda else "this torch is built for the CPU alone")
    if torch.backends.mps.is_available():
        yield Finding("mps", "available")
    yield Finding("--device auto", str(pick_device()))


def engines() -> Iterator[Finding]:
    """What may run models, and which one runs the default model unless it is told otherwise."""
    import onnxruntime

    from famcli.inference.engine import ENGINES, choose_engine
    from famcli_models.checkpoint import DEFAULT_MODEL, packaged

    yield Finding("onnx", f"ONNX Runtime {onnxruntime.__version__}, {', '.join(onnxruntime.get_available_providers())}")
    name, _ = choose_engine(packaged()[DEFAULT_MODEL])
    yield Finding("--engine auto", f"{name} ({ENGINES[name].summary})")


def folders() -> Iterator[Finding]:
    """Caches, what they hold, and how much space is left for them."""
    from huggingface_hub import constants

    from famcli.data.dataset import data_home

    for name, variable, folder in (
        ("prepared data (FAM_DATA)", "FAM_DATA", data_home()),
        ("Hub cache (HF_HOME)", "HF_HOME", Path(constants.HF_HUB_CACHE)),
        ("temporary files", "TMPDIR", Path(tempfile.gettempdir())),
    ):
        nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        free = shutil.disk_usage(nearest).free
        held = "" if variable == "TMPDIR" else f"{held_in(folder)}, "
        value, fix = f"{folder}: {held}{human(free)} free", ""
        if not os.access(nearest, os.W_OK):
            value, fix = f"{value}, not writable", f"choose another with {variable}"
        elif free < LOW_DISK:
            fix = "make room on this disk, or move the folder to another"
        yield Finding(name, value, "note" if fix else "ok", fix)


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
            return f"more than {count:,} files, {human(total)}"
    return f"{count:,} files, {human(total)}" if folder.is_dir() else "not there yet"


def hub(*, offline: bool) -> Iterator[Finding]:
    """Whether the Hub answers; no login is sent to it, and no token is shown."""
    import requests
    from huggingface_hub import constants, get_token

    yield Finding("token", "set" if get_token() else "not set; only private and gated models need one")
    endpoint = requests.utils.urldefragauth(constants.ENDPOINT)  # without the name and password that it may hold
    if offline or constants.HF_HUB_OFFLINE:
        reason = "--offline" if offline else "HF_HUB_OFFLINE is set; models come from the cache alone"
        yield Finding(endpoint, f"not asked: {reason}")
        return
    try:
        # Proxies are those of the environment. The login of a .netrc file stays here.
        answer = requests.head(constants.ENDPOINT, timeout=TIMEOUT, allow_redirects=False, auth=lambda request: request)
    except requests.RequestException as error:
        fix = "check the network, HTTPS_PROXY and HF_ENDPOINT; packaged, local and cached models work without it"
        yield Finding(endpoint, f"cannot be reached ({type(error).__name__})", "note", fix)
    else:
        if answer.status_code >= 500:
            yield Finding(endpoint, f"answers with HTTP {answer.status_code}", "note", "try again later")
        else:
            yield Finding(endpoint, f"reached in {answer.elapsed.total_seconds():.2f} s")


def packaged_models() -> Iterator[Finding]:
    """Each packaged checkpoint as ``fam verify`` checks it, on the CPU."""
    from famcli.checkpoints.verify import BOTH, inspect
    from famcli.inference.engine import AUTO
    from famcli_models.checkpoint import DEFAULT_MODEL, packaged

    fix = f"{PIP} --force-reinstall --no-deps famcli"
    if DEFAULT_MODEL not in packaged():
        yield Finding(DEFAULT_MODEL, "is not in the installed package", "broken", fix)
    for name, folder in packaged().items():
        report = inspect(folder, engine=AUTO if find_spec("torch") is None else BOTH)
        problems, good = "; ".join(report.problems), [check.name for check in report.checks if check.good]
        yield Finding(name, problems, "broken", fix) if problems else Finding(name, f"good: {', '.join(good)}")

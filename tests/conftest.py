"""A tiny FAM, its checkpoint folder, and small pictures."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from runner import SEED
from typer.testing import CliRunner, Result

if TYPE_CHECKING:
    from famcli.results.schema import SizeScore

CLASSES = ("cat", "dog", "cup", "rocket", "person")
SIZE = 64
BROWSER_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",  # containers have little of it
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,900",
)


def pytest_report_header() -> str:
    """The seed of hostile inputs, at the top of every run: only the topmost conftest is asked for it."""
    return f"hostile inputs: FAM_HOSTILE_SEED={SEED}"


@pytest.fixture(autouse=True, scope="session")
def _few_threads() -> Iterator[None]:
    """Small tensors are many times slower on several threads that wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test starts from the same random state."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_graphs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training in this process ends without an export to ONNX, which takes seconds, but in tests marked ``graphs``."""
    if request.node.get_closest_marker("graphs") is None:
        monkeypatch.setattr("famcli.checkpoints.export.write_graph", lambda *_, **__: None)


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Any]:
    """A function that builds a seeded model on an 82,000-parameter timm network; maps of a FAM spread around 0.5."""
    from famcli_models import Method
    from famcli_models.methods import METHODS

    def make(seed: int = 0, **overrides: Any) -> Method:
        fields = {"backbone": "test_efficientnet", "num_classes": len(CLASSES), "size": SIZE, **overrides}
        state = torch.get_rng_state()
        torch.manual_seed(seed)
        method = METHODS[fields.get("method", "fam")]
        config = method.config_class.from_dict(fields)
        model = method(config, CLASSES if config.num_classes == len(CLASSES) else None)
        if getattr(config, "memory", False):
            with torch.no_grad():
                model.object_attention.values.mul_(30 if config.fine_channels else 900)  # small features: spread M
        torch.set_rng_state(state)
        return model

    return make


@pytest.fixture
def model(make_model: Callable[..., Any]) -> Any:
    """A fresh tiny FAM in evaluation mode."""
    return make_model().eval()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, make_model: Callable[..., Any]) -> Path:
    """Folder of a tiny checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    make_model().save_pretrained(folder)
    return folder


def _picture(height: int = 40, width: int = 60, seed: int = 0) -> np.ndarray:
    """A dark, noisy picture with a bright rectangle on it; ``(h, w, 3)`` uint8."""
    rng = np.random.default_rng(seed)
    array = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
    array[height // 4 : height // 2, width // 3 : 2 * width // 3] = (200, 160, 30)
    return array


@pytest.fixture(scope="session")
def picture() -> Callable[..., np.ndarray]:
    """A function that draws a picture; see :func:`_picture`."""
    return _picture


@pytest.fixture
def image_dir(tmp_path: Path) -> Path:
    """A folder with five pictures of different sizes and formats, one in a subfolder."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    names = ("b.png", "a.jpg", "0007.jpg", "sub/c.bmp", "sub/d.webp")
    for i, name in enumerate(names):
        Image.fromarray(_picture(40 + 7 * i, 60 - 5 * i, seed=i)).save(folder / name)
    return folder


@pytest.fixture
def names() -> list[str]:
    """The names of :func:`image_dir` in the order of every output."""
    return ["0007.jpg", "a.jpg", "b.png", "sub/c.bmp", "sub/d.webp"]


@pytest.fixture
def fam() -> Callable[..., Result]:
    """A function that runs the command line with string arguments; stdout and stderr are kept apart."""
    from famcli.cli.app import app

    def run(*arguments: object, stdin: str | None = None) -> Result:
        return CliRunner().invoke(app, [str(a) for a in arguments], input=stdin, prog_name="fam")

    return run


def _write_dataset(root: Path, rows: list[tuple[str, int, list[tuple[int, int, int, int]], tuple[int, int]]]) -> Path:
    """A dataset in wsolevaluation's layout, whose classes are those of the models.

    Args:
        root: Folder to make.
        rows: Name, label, inclusive boxes and ``(h, w)`` of each image.
    """
    folder = root / "metadata" / "test"
    folder.mkdir(parents=True)
    for i, (name, _, _, (h, w)) in enumerate(rows):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(_picture(h, w, seed=i)).save(root / name)
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    (folder / "image_ids.txt").write_text("".join(f"{r[0]}\n" for r in rows))
    (folder / "class_labels.txt").write_text("".join(f"{r[0]},{r[1]}\n" for r in rows))
    boxes = [f"{name},{','.join(map(str, box))}\n" for name, _, boxes, _ in rows for box in boxes]
    (folder / "localization.txt").write_text("".join(boxes))
    return root


@pytest.fixture
def labelled(tmp_path: Path) -> list[Any]:
    """Eight images of two classes that colour tells apart, without boxes."""
    from famcli.data.sample import NO_BOXES, Sample

    made = []
    for i in range(8):
        array = _picture(seed=i)
        array[..., i % 2] = 255 - array[..., i % 2]
        path = tmp_path / "labelled" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(array).save(path)
        made.append(Sample(path.name, path, i % 2, NO_BOXES))
    return made


@pytest.fixture
def make_splits(tmp_path: Path, labelled: list[Any]) -> Callable[..., Path]:
    """A function that writes a prepared dataset of :func:`labelled`, each named split with some of the images.

    All splits but train-weaksup have boxes.
    """
    from famcli.data.dataset import write_dataset

    def make(name: str = "tiny", classes: tuple[str, ...] = ("red", "green"), **splits: list[int]) -> Path:
        root = tmp_path / name
        box = np.array([[20.0, 10.0, 40.0, 20.0]])
        chosen = {split.replace("_", "-"): numbers for split, numbers in splits.items()}
        listed = {
            split: [dataclasses.replace(labelled[i], boxes=labelled[i].boxes if "weak" in split else box) for i in part]
            for split, part in chosen.items()
        }
        write_dataset(root, name=name, images=labelled[0].path.parent, class_names=classes, splits=listed)
        return root

    return make


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a dataset; see :func:`_write_dataset`."""
    return lambda rows: _write_dataset(tmp_path / "dataset", rows)


@pytest.fixture
def make_evaluation(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a results folder as ``fam eval`` does: one row with these IoUs, and a centre box."""
    from famcli.results.images import BoxResult, ImageResult
    from famcli.results.io import write_evaluation
    from famcli.results.schema import Number, Results, Row

    def make(
        folder: str,
        ious: list[float | None],
        method: str = "CAM",
        *,
        ranks: list[int] | None = None,
        tau: float | None = 0.2,
        curve: tuple[float, ...] | None = None,
        metrics: dict[str, float] | None = None,
        source: dict[str, Any] | None = None,
        data: dict[str, Any] | None = None,
        protocol: dict[str, Any] | None = None,
        sizes: tuple[SizeScore, ...] | None = None,
        **changes: Any,
    ) -> Path:
        n = len(ious)
        ranks = ranks or [0] * n
        images = []
        for i, (iou, rank) in enumerate(zip(ious, ranks, strict=True)):
            right = iou is not None and iou >= 0.5
            kind = "empty" if iou is None else "part" if not right else "wrong class" if rank else "right"
            box = None if iou is None else (1.0, 2.0, 3.0 + 20 * iou, 22.0)
            (tmp_path / "photos").mkdir(exist_ok=True)
            photo = tmp_path / "photos" / f"{i}.png"
            if not photo.exists():
                Image.fromarray(_picture(seed=i)).save(photo)
            found = {method: BoxResult(box, iou, 0.5, kind), "centre box": BoxResult((5, 5, 20, 20), 0.3, None, "part")}
            fields = {"name": photo.name, "path": str(photo), "label": i % 2, "truth": ((1.0, 2.0, 23.0, 22.0),)}
            shape = {"width": 60, "height": 40, "classes": (), "maps": {}}
            images.append(ImageResult(**{**fields, **shape, "rank": rank, "found": found, **changes}))

        right = np.array([image.found[method].kind in {"right", "wrong class"} for image in images])
        first = np.array([image.rank == 0 for image in images])
        scores = {"gt_known": right, "top1_loc": right & first, "top1_cls": first}
        scores["mean_iou"] = np.array([iou or 0.0 for iou in ious])
        numbers = {name: Number(100 * float(of.mean()), 0.0, 100.0) for name, of in scores.items()}
        numbers |= {name: Number(value) for name, value in (metrics or {}).items()}
        rows = (
            Row(
                method=method,
                title=method,
                metrics=numbers,
                tau=tau,
                tau_from="fixed",
                empty=0.0,
                curve=curve,
                sizes=sizes,
            ),
            Row(method="centre", title="centre box", metrics={"gt_known": Number(0.0), "mean_iou": Number(30.0)}),
        )
        results = Results(
            kind="evaluation",
            created="2026-01-02T03:04:05Z",
            data={"name": "drawn", "split": "test", "images": n, **(data or {})},
            source={"kind": "model", "name": folder, "backbone": "vgg16", "recipe": "own", **(source or {})},
            protocol={"name": "fam", "interval": None, "crops": 1, **(protocol or {})},
            same_classes=True,
            rows=rows,
            taus=() if curve is None else tuple(np.linspace(0.1, 0.9, len(curve)).round(2).tolist()),
        )
        write_evaluation(tmp_path / folder, results, images)
        return tmp_path / folder

    return make


@pytest.fixture
def pictures() -> Callable[..., Path]:
    """A function that writes noisy pictures of ``(h, w)`` 20 x 30, each different, below a folder."""
    drawn = 0

    def write(root: Path, *names: str, size_hw: tuple[int, int] = (20, 30)) -> Path:
        nonlocal drawn
        for name in names:
            drawn += 1
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(drawn).integers(0, 255, (*size_hw, 3), dtype=np.uint8)
            Image.fromarray(noise).save(root / name)
        return root

    return write


def _module(path: Path) -> ModuleType:
    """A file that belongs to no package, as a module."""
    spec = importlib.util.spec_from_file_location(f"fam_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def wsoleval_rules() -> ModuleType:
    """The literal transcription of wsolevaluation's rules."""
    return _module(Path(__file__).parent / "evaluation" / "wsoleval_rules.py")


@pytest.fixture(scope="session")
def load_script() -> Callable[[str], ModuleType]:
    """A function that gives a file of ``scripts/`` as a module."""
    return lambda name: _module(Path(__file__).parent.parent / "scripts" / name)


@pytest.fixture(autouse=True)
def _no_data_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees, or adds to, the datasets that were prepared on this machine."""
    monkeypatch.setenv("FAM_DATA", str(tmp_path / "fam-data"))


class Host(NamedTuple):
    """A network namespace: its processes reach the other host by ``eth0`` alone, and nothing else."""

    name: str
    address: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """What runs a command there."""
        return ("ip", "netns", "exec", self.name)

    def kill(self) -> None:
        """Kill all its processes, as a power cut does."""
        pids = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=False).stdout
        for pid in pids.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    """Two hosts with a network of their own between them."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need iproute2 and root")
    first, second = two = tuple(Host(f"fam-{os.getpid()}-{i}", f"10.77.0.{i}") for i in (1, 2))
    lines = [f"netns add {first.name}", f"netns add {second.name}"]
    lines.append(f"link add eth0 netns {first.name} type veth peer name eth0 netns {second.name}")
    for host in two:
        lines.append(f"-n {host.name} address add {host.address}/24 dev eth0")
        lines += [f"-n {host.name} link set {device} up" for device in ("lo", "eth0")]
    try:
        for line in lines:
            done = subprocess.run(["ip", *line.split()], capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"no network namespaces here: ip {line}: {done.stderr.strip()}")
        yield first, second
    finally:
        for host in two:
            host.kill()
            subprocess.run(["ip", "netns", "delete", host.name], capture_output=True, check=False)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium without a window and with an empty profile; selenium is told both programs and looks for none."""
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.skip("no chromium and chromedriver here: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install --group tests")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*BROWSER_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SE_OFFLINE", "true")
        patch.setenv("NO_PROXY", "localhost,127.0.0.1")
        service = webdriver.ChromeService(executable_path=chromedriver, log_output=os.devnull)
        browser = webdriver.Chrome(options=options, service=service)
        yield browser
        browser.quit()

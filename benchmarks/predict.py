"""Speed and memory of ``fam predict``, as ratios of two things run in one go.

    python benchmarks/predict.py                                 # everything; the 50,000 images take 10 minutes
    python benchmarks/predict.py --many 2000 --rounds 3
    python benchmarks/predict.py --only folder --device cuda

cold      ``fam predict`` on one image over ``python -c "import onnxruntime, cv2"``, and over ``--engine torch``
folder    images a second of the engine over those of the bare ONNX session at the same batch size, and of PyTorch
outside   milliseconds of one core for an image outside the network, and of OpenCV decoding and resizing it
memory    peak of the command on 500 images and on 50,000, which are links to them
scaling   images a second with a network that takes no time, from 1 to n worker processes
views     time of two looks, of several sizes and mirrored images, over that of one view
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from photos import make_photos
from PIL import Image

from famcli import Item, Predictor
from famcli.data.images import is_image
from famcli.inference.engine import Inference
from famcli.inference.onnx_engine import OnnxEngine
from famcli.inference.pipeline import available_cores
from famcli_models import graph
from famcli_models.checkpoint import DEFAULT_MODEL

CROP_SHARE = (0.6, 1.0)
SIZE = (227, 227)  # pixels of the photographs
FAM = ("-m", "famcli", "predict", "--quiet", "--device")


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each work in each round; the works of a round follow one another, so that ratios of a round hold."""
    for work in works.values():
        work()  # files are in the cache, code is compiled
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(seconds(work))
    return times


def ratio(above: list[float], below: list[float]) -> str:
    """The median of the ratios of all rounds, and how far they are apart."""
    ratios = sorted(a / b for a, b in zip(above, below, strict=True))
    return f"{statistics.median(ratios):.3f} (from {ratios[0]:.3f} to {ratios[-1]:.3f})"


def cold(photo: Path, rounds: int) -> None:
    def python(*arguments: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    times = compare(
        {
            "import": python("-c", "import onnxruntime, cv2"),
            "fam": python(*FAM, "cpu", str(photo)),
            "torch": python(*FAM, "cpu", str(photo), "--engine", "torch"),
            "help": python("-m", "famcli", "--help"),
        },
        rounds,
    )
    fam = times["fam"]
    print(f"cold: {statistics.median(fam):.2f} s for one image; fam --help {statistics.median(times['help']):.2f} s")
    print(f"cold: over import onnxruntime, cv2: {ratio(fam, times['import'])}")
    print(f"cold: over --engine torch: {ratio(fam, times['torch'])}")


def run_through(predictor: Predictor, paths: list[Path]) -> Callable[[], object]:
    """What the command does with files, but for writing."""
    items = [Item(str(path), path) for path in paths]
    return lambda: [record for record in predictor.records(items) if "error" in record]


def folder(paths: list[Path], rounds: int, device: str, batch_size: int | None) -> None:
    fam = Predictor(DEFAULT_MODEL, device, batch_size=batch_size, processes=None)
    works = {fam.engine.runs_on: run_through(fam, paths)}
    if device == "cpu":
        works["PyTorch"] = run_through(Predictor(DEFAULT_MODEL, device, engine="torch", batch_size=batch_size), paths)
    if isinstance(fam.engine, OnnxEngine):
        size, session = fam.config.size, fam.engine.session
        images = np.random.default_rng(0).integers(0, 256, (fam.batch_size, size, size, 3), np.uint8)
        feeds = {graph.IMAGES: images, graph.LABELS: np.full(fam.batch_size, -1)}
        feeds = {name: array for name, array in feeds.items() if name in session.inputs}
        batches = len(paths) // fam.batch_size
        works["bare session"] = lambda: [session.session.run(session.wanted, feeds) for _ in range(batches)]
    times = compare(works, rounds)
    for name, measured in times.items():
        rate = len(paths) / statistics.median(measured)
        over = "" if name == fam.engine.runs_on else f"; fam over it {ratio(measured, times[fam.engine.runs_on])}"
        print(f"folder: {name}: {rate:.1f} images/s at batch {fam.batch_size}{over}")


def with_null_network(device: str = "cpu", **settings: Any) -> Predictor:
    """A predictor whose network takes no time: it says of each image what it says of noise."""
    predictor = Predictor(DEFAULT_MODEL, device, **settings)
    size = predictor.config.size
    noise = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8)
    found = predictor.engine.infer([cv2.resize(noise[0], (size, size))[None]])

    def infer(views: list[np.ndarray], *_: object, **__: object) -> Inference:
        B = len(views[0])
        return Inference(
            np.broadcast_to(found.maps, (B, *found.maps.shape[1:])),
            np.broadcast_to(found.probabilities, (B, *found.probabilities.shape[1:])),
        )

    setattr(predictor.engine, "infer", infer)  # noqa: B010
    return predictor


def outside(paths: list[Path], rounds: int) -> None:
    fam = run_through(with_null_network(workers=1), paths)

    def opencv() -> None:
        for path in paths:
            image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
            cv2.resize(image, (224, 224), interpolation=cv2.INTER_LINEAR)

    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, list(cores)[:1])
    cv2.setNumThreads(1)
    times = compare({"fam": fam, "opencv": opencv}, rounds)
    os.sched_setaffinity(0, cores)
    of_fam, of_opencv = (1e3 * min(times[name]) / len(paths) for name in ("fam", "opencv"))
    print(
        f"outside the network: {of_fam:.2f} ms an image on one core; decoding and resizing by OpenCV {of_opencv:.2f} ms"
    )
    print(f"outside the network: over OpenCV: {ratio(times['fam'], times['opencv'])}")


def peak_mib(arguments: list[str]) -> float:
    """Peak resident memory of a command."""
    code = (
        "import resource, subprocess, sys;"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)
    return int(done.stdout) / 1024


def memory(paths: list[Path], scratch: Path, counts: tuple[int, int], device: str) -> None:
    peaks = []
    for count in counts:
        linked = scratch / f"{count}"
        linked.mkdir()
        for i in range(count):
            (linked / f"{i:06d}.jpg").symlink_to(paths[i % len(paths)].absolute())
        command = [sys.executable, *FAM, device, str(linked), "--out", str(scratch / f"{count}.json")]
        peaks.append(peak_mib(command))
        print(f"memory: peak {peaks[-1]:.0f} MiB on {count} images")
    print(f"memory: {1024 * 1024 * (peaks[1] - peaks[0]) / (counts[1] - counts[0]):.0f} bytes for each image more")


def scaling(paths: list[Path], rounds: int) -> None:
    many = paths * (1 + 2000 // len(paths))
    counts = [n for n in (1, 2, 4, 8, 16, 32) if n <= available_cores()]
    works = {f"{n}": run_through(with_null_network(workers=n, processes=True, batch_size=32), many) for n in counts}
    works["2 threads"] = run_through(with_null_network(workers=2, batch_size=32), many)
    times = compare(works, rounds)
    for name, measured in times.items():
        rate = len(many) / statistics.median(measured)
        print(f"scaling: {rate:.0f} images/s with {name} workers; over one: {ratio(times['1'], measured)}")


def views(paths: list[Path], rounds: int, device: str, batch_size: int | None) -> None:
    ways: dict[str, dict[str, Any]] = {
        "one view": {},
        "mirrored": {"flip": True},
        "2 looks": {"looks": 2},
        "quality best": {"quality": "best"},
    }
    works = {}
    for name, way in ways.items():
        works[name] = run_through(Predictor(DEFAULT_MODEL, device, batch_size=batch_size, **way), paths)
    times = compare(works, rounds)
    for name, measured in times.items():
        print(
            f"views: {name}: {1e3 * statistics.median(measured) / len(paths):.1f} ms an image; over one view", end=" "
        )
        print(ratio(measured, times["one view"]))


def main() -> None:
    """Run the benchmarks."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    parts = ("cold", "folder", "outside", "memory", "scaling", "views")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--photos", type=Path, help="a folder of JPEGs to take the images from; else they are made")
    parser.add_argument("--many", type=int, default=50_000, help="images of the second measurement of memory")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        if options.photos:
            paths = sorted(path for path in options.photos.rglob("*") if is_image(path.name))[: options.images]
        else:
            paths = make_photos(scratch, options.images, CROP_SHARE, SIZE)
        print(f"{available_cores()} cores, {len(paths)} JPEGs like {paths[0].name}: {Image.open(paths[0]).size}")
        measure = {
            "cold": lambda: cold(paths[0], options.rounds),
            "folder": lambda: folder(paths, options.rounds, options.device, options.batch_size),
            "outside": lambda: outside(paths, options.rounds),
            "memory": lambda: memory(paths, scratch, (len(paths), options.many), options.device),
            "scaling": lambda: scaling(paths, options.rounds),
            "views": lambda: views(paths, options.rounds, options.device, options.batch_size),
        }
        for part in parts:
            if part in options.only:
                measure[part]()


if __name__ == "__main__":
    main()

"""Speed and memory of ``fam predict``, as ratios of two things run in one go.

    python benchmarks/predict.py                 # everything
    python benchmarks/predict.py --images 100 --rounds 2 --skip-memory

1. throughput of a folder of JPEGs over that of the bare backbone's forward pass at the same batch size, and over
   that of the backbone with its batch norms folded, which is what ``fam predict`` runs;
2. peak memory on ten times as many images over that on a tenth;
3. ``fam predict`` on one image, cold, less a bare ``import torch, torchvision``;
4. ``fam --help``.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from photos import make_photos

from famcli import Item, Predictor
from famcli.inference.torch_engine import TorchEngine
from famcli_models import FAM
from famcli_models.checkpoint import DEFAULT_MODEL

CROP_SHARE = (0.6, 1.0)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def throughput(paths: list[Path], batch_size: int, rounds: int) -> None:
    """Ratio 1."""
    engine = TorchEngine(FAM.from_pretrained(DEFAULT_MODEL), "cpu")
    predictor = Predictor(engine, batch_size=batch_size)
    size = predictor.config.size
    batch = torch.randn(batch_size, 3, size, size).contiguous(memory_format=torch.channels_last)
    batches = len(paths) // batch_size
    items = [Item(str(path), path) for path in paths[: batches * batch_size]]

    @torch.inference_mode()
    def forward(network: torch.nn.Module) -> None:
        for _ in range(batches):
            network(batch)

    def bare() -> None:
        forward(engine.model.backbone)

    def folded() -> None:
        forward(engine.trunk.backbone)

    def folder() -> None:
        for _ in predictor.stream(items):
            pass

    names = {"bare backbone": bare, "folded backbone": folded, "fam predict": folder}
    for work in names.values():
        work()
    times = [[seconds(work) for work in names.values()] for _ in range(rounds)]
    for i, name in enumerate(names):
        rate = len(items) / statistics.median(row[i] for row in times)
        ratios = sorted(row[i] / row[-1] for row in times)
        spread = f"min {ratios[0]:.3f}, max {ratios[-1]:.3f}"
        ratio = "" if work is names[name] else f"; fam predict runs at {statistics.median(ratios):.3f} of it ({spread})"
        print(f"{name}: {rate:.1f} images/s, batch {batch_size}{ratio}")


def peak_mib(arguments: list[str]) -> float:
    """Peak resident memory of a command."""
    code = (
        "import resource, subprocess, sys;"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)
    return int(done.stdout) / 1024


def memory(photos: Path, folder: Path, count: int) -> None:
    """Ratio 2: the many images are links to the few."""
    fam = [sys.executable, "-m", "famcli", "predict", "--quiet", "--device", "cpu"]
    peaks = []
    for n in (count, 10 * count):
        linked = folder / f"{n}"
        linked.mkdir()
        sources = sorted(photos.iterdir())
        for i in range(n):
            (linked / f"{i:06d}.jpg").hardlink_to(sources[i % len(sources)])
        peaks.append(peak_mib([*fam, str(linked), "--out", str(folder / f"{n}.json")]))
    print(f"peak memory: {count} images {peaks[0]:.0f} MiB, {10 * count} images {peaks[1]:.0f} MiB")
    print(f"memory ratio: {peaks[1] / peaks[0]:.3f}")


def cold(photo: Path, rounds: int) -> None:
    """Differences 3 and 4."""

    def run(*arguments: str) -> float:
        return seconds(lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True))

    pairs = [
        (run("-c", "import torch, torchvision"), run("-m", "famcli", "predict", str(photo))) for _ in range(rounds)
    ]
    extra = statistics.median(b - a for a, b in pairs)
    bare = statistics.median(a for a, _ in pairs)
    print(f"one image, cold: import torch, torchvision {bare:.2f} s; fam predict {extra:+.2f} s more")
    help_s = statistics.median(run("-m", "famcli", "--help") for _ in range(rounds))
    print(f"fam --help: {help_s:.2f} s, {help_s / bare:.2f} of the import")


def main() -> None:
    """Run the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--skip-memory", action="store_true")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as scratch:
        photos = Path(scratch) / "photos"
        photos.mkdir()
        paths = make_photos(photos, options.images, CROP_SHARE)
        throughput(paths, options.batch_size, options.rounds)
        cold(paths[0], options.rounds)
        if not options.skip_memory:
            memory(photos, Path(scratch), options.images)
    print(f"this process peaked at {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()

"""Size, time and memory of ``fam report``.

    python benchmarks/report.py                          # 5,000 images cut from the demo's photographs
    python benchmarks/report.py --photos DIR             # photographs of yours, repeated as often as needed
    python benchmarks/report.py --images 500 --out report.html

Each image has two maps of 14 x 14 and five rows of boxes, and there are 1,000 classes, as in ILSVRC.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from photos import SIZE, make_photos

from famcli.data.listing import list_images
from famcli.results.images import ERROR_TYPES, BoxResult, ImageResult
from famcli.results.io import IMAGES_NAME, write_images, write_results
from famcli.results.schema import ClassRow, Number, Results, Row

CROP_SHARE = (0.3, 1.0)
CLASSES = 1000
FOUND = [kind for kind in ERROR_TYPES if kind != "empty"]  # they take turns
TITLES = {
    "FAM": "FAM",
    "CAM, oracle": "CAM",
    "CAM, train-fullsup": "CAM",
    "centre box": "centre",
    "whole image": "whole",
}
TAUS = tuple(i / 100 for i in range(101))


def records(paths: list[Path], count: int) -> Iterator[ImageResult]:
    """Drawn records of photos."""
    rng = np.random.default_rng(0)
    w, h = SIZE
    for i in range(count):
        corners = np.sort(rng.uniform(0, 1, (6, 2, 2)), axis=1) * (w, h)
        boxes = [(float(x0), float(y0), float(x1), float(y1)) for (x0, y0), (x1, y1) in corners]
        path = paths[i % len(paths)]
        yield ImageResult(
            name=f"val/n{i % CLASSES:08d}/ILSVRC2012_val_{i:08d}.JPEG",
            path=str(path),
            label=i % CLASSES,
            width=w,
            height=h,
            truth=(boxes[0],),
            classes=tuple((int(c), 0.2) for c in rng.integers(0, CLASSES, 5)),
            rank=0,
            found={
                title: BoxResult(box, float(rng.uniform()), 0.5, FOUND[i % len(FOUND)])
                for title, box in zip(TITLES, boxes[1:], strict=True)
            },
            maps={name: rng.integers(0, 256, (14, 14), dtype=np.uint8) for name in ("FAM", "CAM")},
        )


def results(count: int) -> Results:
    """Results that go with the records."""
    curve = tuple(100 * (1 - tau) for tau in TAUS)
    rows = tuple(
        Row(
            method=method,
            title=title,
            metrics={name: Number(50.0, 48.0, 52.0) for name in ("gt_known", "top1_loc", "top1_cls")},
            tau=0.5 if method in ("FAM", "CAM") else None,
            tau_from="fixed",
            iou_histogram=(count // 10,) * 10,
            curve=curve if method in ("FAM", "CAM") else None,
            kinds={kind: len(range(place, count, len(FOUND))) for place, kind in enumerate(FOUND)},
        )
        for title, method in TITLES.items()
    )
    names = [f"class of the number {i}" for i in range(CLASSES)]
    return Results(
        kind="evaluation",
        created="2026-01-01T00:00:00Z",
        data={"name": "drawn", "split": "val", "images": count, "class_names": names},
        source={"kind": "maps", "name": "drawn"},
        protocol={"name": "fam"},
        same_classes=True,
        rows=rows,
        taus=TAUS,
        classes=tuple(
            ClassRow(i, name, len(range(i, count, CLASSES)), 50.0, 40.0, 60.0, 55.0) for i, name in enumerate(names)
        ),
    )


def peak_of(*arguments: str) -> tuple[float, float]:
    """Seconds and peak memory in MiB of one command."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "famcli", *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"fam {' '.join(arguments)} ended with {process.returncode}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--out", type=Path, help="keep the report here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        out = options.out or folder / "report.html"
        if options.photos:
            listing = list_images([str(options.photos)])
            paths = [listing.path(name) for name in listing.names[: options.images]]
        else:
            paths = make_photos(folder, options.images, CROP_SHARE)
        print("images    MB   seconds   images/s   peak MiB")
        for count in dict.fromkeys((max(1, options.images // 10), options.images)):
            write_results(folder, results(count))
            write_images(folder / IMAGES_NAME, records(paths, count))
            seconds, peak = peak_of("report", str(folder), "--out", str(out), "--quiet")
            size = out.stat().st_size / 1e6
            print(f"{count:6d} {size:5.1f} {seconds:9.1f} {count / seconds:10.0f} {peak:10.0f}", flush=True)


if __name__ == "__main__":
    main()

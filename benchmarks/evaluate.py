"""Speed and memory of MaxBoxAcc and MaxBoxAccV2, against the literal loop over 1,000 thresholds.

    python benchmarks/evaluate.py                       # 1,000 smooth random maps, one process each
    python benchmarks/evaluate.py --maps 50 --processes 2
    python benchmarks/evaluate.py --memory 50000        # peak memory while many maps are counted

The literal loop is tests/evaluation/wsoleval_rules.py: threshold, findContours, boxes and IoU again at every threshold,
once for each version, as the benchmark's program has to be run twice. A second ratio is printed for a loop that is
kinder than that program, which looks for contours once and takes both versions' boxes from them. Both sides count the
same maps, with the same number of processes, in turns; the results are compared to the last bit.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np

from famcli.data.sample import Sample
from famcli.evaluation.metrics.box import DELTAS, BoxCounts, inclusive_iou, score_map, thresholds, truth_boxes
from famcli.evaluation.perimage import EvaluationSettings
from famcli.evaluation.thresholds import count_maps

RULES = Path(__file__).parent.parent / "tests" / "evaluation" / "wsoleval_rules.py"
PHOTO_HW = (375, 500)
TURNS = 5


def rules() -> ModuleType:
    spec = importlib.util.spec_from_file_location("wsoleval_rules", RULES)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def smooth_map(number: int) -> np.ndarray:
    """A map with a few hills, like a network's: ``(14, 14)`` float32."""
    rng = np.random.default_rng(number)
    return cv2.GaussianBlur(rng.random((14, 14), np.float32), (0, 0), rng.uniform(0.7, 2.5))


def image(number: int) -> Sample:
    rng = np.random.default_rng((number, 1))
    h, w = PHOTO_HW
    x, y = rng.integers(0, w // 2), rng.integers(0, h // 2)
    box = [x, y, x + rng.integers(40, w // 2), y + rng.integers(40, h // 2)]
    return Sample(f"{number}.jpg", Path(f"{number}.jpg"), 0, np.array([box], np.float64), PHOTO_HW)


def literal(numbers: list[int], interval: float) -> np.ndarray:
    """Counts of the literal rules, ``(2, 3, T)``: each version in a loop of its own."""
    cv2.setNumThreads(1)
    r = rules()
    pairs = [(r.normalised(smooth_map(i)), truth_boxes(image(i).boxes, PHOTO_HW).tolist()) for i in numbers]
    both = [r.accuracies(pairs, interval, every_contour=every) for every in (False, True)]
    return np.array([list(one.values()) for one in both]) * len(numbers) / 100


def joint(numbers: list[int], interval: float) -> np.ndarray:
    """Counts of a kinder loop: each threshold once for both versions, its IoU with NumPy."""
    cv2.setNumThreads(1)
    taus = thresholds(interval)
    right = np.zeros((2, len(DELTAS), len(taus)))
    for number in numbers:
        scores, truth = score_map(smooth_map(number)), truth_boxes(image(number).boxes, PHOTO_HW)
        grey = (scores * 255).astype(np.uint8)
        for i, tau in enumerate(taus):
            _, mask = cv2.threshold(grey, int(tau * np.max(grey)), 255, cv2.THRESH_BINARY)
            contours = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]
            boxes = [(x, y, min(x + w, 223), min(y + h, 223)) for x, y, w, h in map(cv2.boundingRect, contours)]
            areas = [cv2.contourArea(contour) for contour in contours]
            ious = inclusive_iou(boxes or [(0, 0, 0, 0)], truth).max(axis=1)
            best = ious[areas.index(max(areas)) if areas else 0], ious.max()
            right[:, :, i] += np.array(best)[:, None] >= np.array(DELTAS)
    return right


def ours(numbers: list[int], interval: float) -> np.ndarray:
    """Counts of famcli."""
    cv2.setNumThreads(1)
    counts = BoxCounts(thresholds(interval))
    for number in numbers:
        counts.add(score_map(smooth_map(number)), truth_boxes(image(number).boxes, PHOTO_HW))
    return counts.right


def shared(
    pool: ProcessPoolExecutor, work: Callable[..., np.ndarray], numbers: list[int], processes: int
) -> tuple[float, np.ndarray]:
    """Wall time of some images over all processes, and their counts."""
    start = time.perf_counter()
    parts = list(pool.map(work, [numbers[i::processes] for i in range(processes)]))
    return time.perf_counter() - start, np.rint(sum(parts)).astype(np.int64)


def compare(args: argparse.Namespace) -> None:
    """Print times and ratios."""
    ways = {"literal": literal, "joint": joint, "famcli": ours}
    turns: dict[str, list[float]] = {name: [] for name in ways}
    with ProcessPoolExecutor(args.processes, multiprocessing.get_context("spawn")) as pool:
        for work in ways.values():
            shared(pool, partial(work, interval=0.1), list(range(4 * args.processes)), args.processes)  # warm up
        for turn in range(TURNS):
            numbers = list(range(turn, args.maps, TURNS))
            results = {}
            for name, work in ways.items():
                seconds, results[name] = shared(pool, partial(work, interval=args.interval), numbers, args.processes)
                turns[name].append(seconds / len(numbers))
            if not all((counts == results["literal"]).all() for counts in results.values()):
                sys.exit("the counts differ")
    for name, seconds in turns.items():
        print(f"{name}: {1000 * statistics.median(seconds):.1f} ms a map, V1 and V2, {args.processes} process(es)")
    for name in ("literal", "joint"):
        ratios = [a / b for a, b in zip(turns[name], turns["famcli"], strict=True)]
        print(
            f"{name} / famcli: {statistics.median(ratios):.1f} times faster ({min(ratios):.1f}-{max(ratios):.1f}), "
            f"{args.maps} maps, interval {args.interval:g}, counts equal"
        )


def memory(args: argparse.Namespace) -> None:
    """Print the peak memory of counting many maps from files."""
    with tempfile.TemporaryDirectory() as folder:
        kinds = [Path(folder) / f"{i}.npy" for i in range(64)]
        for i, path in enumerate(kinds):
            np.save(path, score_map(smooth_map(i)))  # at 224 and in float64, as wsolevaluation writes them
        samples = [image(i % len(kinds)) for i in range(args.memory)]
        maps = [kinds[i % len(kinds)] for i in range(args.memory)]
        start = time.perf_counter()
        settings = EvaluationSettings(interval=args.interval, processes=args.processes)
        counts = count_maps(samples, maps, [None] * len(maps), 2, settings).boxes
        seconds = time.perf_counter() - start
    own, of_children = (
        resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    total = own + (args.processes * of_children if args.processes > 1 else 0)
    print(
        f"{counts.images:,} maps of 224x224 in {seconds:.0f} s, {args.processes} process(es): peak {own:.0f} MiB here, "
        f"at most {of_children:.0f} MiB in each other process, at most {total:.0f} MiB together"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", type=int, default=1000)
    parser.add_argument("--interval", type=float, default=0.001)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--memory", type=int, default=0, metavar="MAPS", help="measure memory instead, with so many")
    args = parser.parse_args()
    if args.memory:
        memory(args)
    else:
        compare(args)


if __name__ == "__main__":
    main()

"""A small results folder, made by hand, and the report of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from famcli.results.images import ERROR_TYPES, BoxResult, ImageResult
from famcli.results.io import IMAGES_NAME, write_images, write_results
from famcli.results.schema import ClassRow, Difference, Number, Results, Row, SizeScore

TAUS = tuple(round(0.05 * i, 2) for i in range(21))
SMALL_HW = (30, 40)


def _row(method: str, title: str, records: list[ImageResult], **more: Any) -> Row:
    """A row whose counts are those of the records."""
    found = [record.found[title] for record in records]
    ious = np.array([f.iou or 0.0 for f in found])
    right = 100 * float((ious >= 0.5).mean())
    return Row(
        method=method,
        title=title,
        metrics={
            "gt_known": Number(right, max(0.0, right - 4), min(100.0, right + 4)),
            "mean_iou": Number(100 * float(ious.mean())),
        },
        empty=100 * sum(f.box is None for f in found) / len(found),
        iou_histogram=tuple(np.histogram(ious, 10, (0, 1))[0].tolist()),
        kinds={kind: sum(f.kind == kind for f in found) for kind in ERROR_TYPES},
        curve=tuple(100 * float((ious >= tau).mean()) for tau in TAUS),
        sizes=(
            SizeScore(0, None, None),
            SizeScore(5, Number(20.0, 3.6, 62.4), 2.5),
            SizeScore(len(found) - 5, Number(right, 0.0, 100.0), 1.25),
            SizeScore(0, None, None),
            SizeScore(0, None, None),
        ),
        **more,
    )


def _records(photos: Path, count: int = 30, classes: int = 3) -> list[ImageResult]:
    """Records of photos that are written too: kinds and classes take turns, FAM's IoU falls from the first on."""
    rng = np.random.default_rng(0)
    photos.mkdir(parents=True, exist_ok=True)
    kinds = list(ERROR_TYPES)
    h, w = SMALL_HW
    records = []
    for i in range(count):
        name = f"photo {i:02d}.png"
        Image.fromarray(rng.integers(0, 255, (h, w, 3), dtype=np.uint8)).save(photos / name)
        kind = kinds[i % len(kinds)]
        box = None if kind == "empty" else (1.0, 2.0, 20.5, 25.0)
        iou = None if box is None else round(1 - i / count, 3)
        records.append(
            ImageResult(
                name=name,
                path=str(photos / name),
                label=i % classes,
                width=w,
                height=h,
                truth=((2.0, 3.0, 22.0, 26.0),),
                classes=((i % classes, 0.7), ((i + 1) % classes, 0.2)),
                rank=0,
                found={
                    "FAM": BoxResult(box, iou, 0.5, kind),
                    "CAM, oracle": BoxResult((0, 0, 9, 9), 0.25, 0.4, "part"),
                },
                maps={
                    "FAM": rng.integers(0, 255, (4, 5), dtype=np.uint8),
                    "CAM": rng.integers(0, 255, (4, 5), dtype=np.uint8),
                },
            )
        )
    return records


def _results(
    records: list[ImageResult], names: tuple[str, ...] = ("cat", "dog", "cup"), title: str = "FAM", **more: Any
) -> Results:
    """Results of the records."""
    rows = (
        _row("FAM", title, records, tau=0.5, tau_from="fixed"),
        _row("CAM", "CAM, oracle", records, tau=0.2, tau_from="oracle"),
    )
    fields: dict[str, Any] = {
        "kind": "evaluation",
        "created": "2026-01-02T03:04:05Z",
        "data": {"name": "drawn", "split": "test", "images": len(records), "class_names": list(names)},
        "source": {"kind": "model", "name": "nowhere/model", "weights_sha256": "ab" * 32},
        "protocol": {"name": "fam", "rules": {"iou": "half-open corners, nothing added"}},
        "same_classes": True,
        "rows": rows,
        "taus": TAUS,
        "differences": (Difference("FAM", "CAM, oracle", "gt_known", Number(12.5, 3.0, 22.0)),),
        "classes": tuple(
            ClassRow(i, name, sum(r.label == i for r in records), gt_known, gt_known / 2, 80.0, 40.0)
            for i, (name, gt_known) in enumerate(zip(names, (50.0, 9.0, 100.0), strict=True))
        ),
        "bootstrap": {"resamples": 1000, "seed": 0, "level": 0.95},
        "versions": {"famcli": "0"},
    }
    return Results(**{**fields, **more})


@pytest.fixture(scope="session")
def make_records() -> Callable[..., list[ImageResult]]:
    """:func:`_records`."""
    return _records


@pytest.fixture(scope="session")
def make_results() -> Callable[..., Results]:
    """:func:`_results`."""
    return _results


@pytest.fixture
def records(tmp_path: Path) -> list[ImageResult]:
    """Thirty records; see :func:`_records`."""
    return _records(tmp_path / "photos")


@pytest.fixture
def results(records: list[ImageResult]) -> Results:
    """Results of :func:`records`."""
    return _results(records)


@pytest.fixture
def folder(tmp_path: Path, records: list[ImageResult], results: Results) -> Path:
    """A results folder as fam eval writes it."""
    folder = tmp_path / "results"
    write_results(folder, results)
    write_images(folder / IMAGES_NAME, records)
    return folder

"""Reference outputs of a checkpoint: what its model gave for four drawn images when it was made.

The images are drawn with integers, so that they are the same bytes on every machine. What a model gives for them is
not: floating point sums depend on the device, the number of threads and the precision. So rounded numbers are kept, and
compared within :data:`MAP_TOLERANCE` and :data:`LOGIT_TOLERANCE`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from famcli.inference.engine import UNKNOWN, Engine
from famcli_models.checkpoint import REFERENCE, WEIGHTS_FILE, read_config, write_config
from famcli_models.errors import WeightsError, short
from famcli_models.files import sha256_file

VERSION = 1  # of the drawings and of the rounding
GRID = 16  # cells a side at most: finer maps are averaged
STEPS = 10_000  # of M in [0, 1]
BEST = 5  # classes kept an image
# Measured with fam-mobilenetv1-ilsvrc and the four backbones against float32 on one thread: threads, memory layouts and
# folded norms change M by less than 0.0001, TF32 (imitated by rounding the inputs of convolutions) by up to 0.013.
# bfloat16 changes it by up to 0.44 in a cell: those are other outputs, and nothing runs in it.
MAP_TOLERANCE = 0.05
LOGIT_TOLERANCE = 0.03  # of the largest logit of the image, or of 1 if that is smaller
UNIT = 1024  # the side, in coordinates of the drawings


class ImageOutputs(NamedTuple):
    """What a model gives for one image."""

    cells: np.ndarray  # (h, w) M, averaged down to at most 16 x 16
    logits: np.ndarray  # (L,) class scores


def reference_images(size: int) -> np.ndarray:
    """Four images with one object each: ``(4, size, size, 3)`` uint8 RGB, the same bytes everywhere.

    Beyond 1024 pixels those of 1024 are enlarged by repeating pixels: the arithmetic would take 32 times the memory.
    """
    if size > UNIT:
        nearest = UNIT * np.arange(size) // size
        return reference_images(UNIT)[:, nearest[:, None], nearest]
    pixel = np.arange(size, dtype=np.int64)
    y, x = np.meshgrid(pixel, pixel, indexing="ij")
    v, u = (UNIT * y) // size, (UNIT * x) // size
    ramps = ((x * 7_919 + y * 104_729) * 1_299_709 >> 7) % 256
    disc = (u - 560) ** 2 + (v - 470) ** 2 < 260**2
    bar = (abs(u - v - 90) < 190) & (abs(u + v - UNIT) < 620)
    box = (abs(u - 400) < 230) & (abs(v - 600) < 170)
    wedge = (v > 260) & (v < 860) & (2 * abs(u - 620) < v - 200)
    checks = ((u // 128 + v // 128) % 2) * 50
    stripes = 60 * ((u + v) // 64 % 2)
    scenes = (  # where the object is, its red, green and blue, and those of the background
        (disc, (200 - v // 16, 60 + u // 10, 30 + v // 12), (40 + v // 8, 90 + v // 12, 200 - v // 20)),
        (bar, (30 + ramps // 8, 35 + u // 20, 40 + ramps // 10), (170 + checks, 160 + checks, 120 + checks)),
        (box, (220 - ramps // 6, 170 + u // 30, 30 + ramps // 5), (ramps // 3, 40 + ramps // 3, 20 + ramps // 4)),
        (wedge, (90 + stripes, 50 + v // 16, 140 + ramps // 9), (60 + v // 9, 150 - v // 18, 50 + u // 16)),
    )
    images = [np.where(inside[..., None], np.stack(fore, -1), np.stack(back, -1)) for inside, fore, back in scenes]
    return np.stack(images).clip(0, 255).astype(np.uint8)


def images_digest(size: int) -> str:
    """SHA-256 of the bytes of :func:`reference_images`."""
    return hashlib.sha256(np.ascontiguousarray(reference_images(size)).data).hexdigest()


def config_digest(config: Mapping[str, Any]) -> str:
    """SHA-256 of the model's fields and class names in a ``config.json``, as canonical JSON."""
    model = {key: config[key] for key in ("model", "class_names")}
    # What reading puts into a config that is older than the field is none of its settings.
    model["model"] = {
        name: value for name, value in model["model"].items() if (name, value) != ("backbone_head", False)
    }
    return hashlib.sha256(json.dumps(model, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def run_engine(engine: Engine[Any]) -> list[ImageOutputs]:
    """What an engine gives for the reference images; a WeightsError if a number is not finite."""
    found = []
    for image in reference_images(engine.config.size):  # one at a time: large inputs fit too
        out = engine.run(image[None], np.array([UNKNOWN]))
        logits = engine.scores(out)
        M = engine.maps(out, logits.argmax(axis=1))[0]
        if not (np.isfinite(M).all() and np.isfinite(logits).all()):
            raise WeightsError("what the model gives for a reference image is not finite: its weights are damaged")
        found.append(ImageOutputs(_averaged(M), logits[0]))
    return found


def _averaged(M: np.ndarray) -> np.ndarray:
    """Means of a map ``(h, w)`` over the cells of a grid of at most 16 x 16, which may share rows and columns."""
    h, w = (min(side, GRID) for side in M.shape)
    rows, columns = (
        [slice(i * side // n, -(-(i + 1) * side // n)) for i in range(n)]
        for side, n in zip(M.shape, (h, w), strict=True)
    )
    return np.array([[M[row, column].mean() for column in columns] for row in rows], np.float32)


def rounded(outputs: Sequence[ImageOutputs]) -> dict[str, Any]:
    """Outputs as they are stored: for each image one line of text a kind of number, and a digest of the maps.

    ``maps`` are on a grid of at most 16 x 16 cells, row by row, in ten-thousandths; ``classes`` the indices of the five
    best classes, best first; ``logits`` theirs, to three decimals. Equal digests mean equal maps.
    """
    best = [np.argsort(-out.logits, kind="stable")[:BEST] for out in outputs]
    maps = [_line((out.cells.ravel() * STEPS).round().astype(int).tolist()) for out in outputs]
    logits = [
        _line(f"{round(v, 3):g}" for v in out.logits[order].tolist()) for out, order in zip(outputs, best, strict=True)
    ]
    return {"digest": _digest(maps), "maps": maps, "classes": [_line(order) for order in best], "logits": logits}


def compare(kept: Mapping[str, Any], outputs: Sequence[ImageOutputs]) -> tuple[float, list[str]]:
    """Compare stored outputs with those of now; a WeightsError if the stored ones are damaged.

    Returns the largest difference of M over cells and images, and a sentence for each difference beyond its tolerance.
    """
    parsed = _parsed(kept)
    if [cells.size for cells, _, _ in parsed] != [out.cells.size for out in outputs]:
        return math.inf, ["the stored reference outputs are of maps of another size"]
    problems, largest = [], 0.0
    for number, ((cells, best, logits), out) in enumerate(zip(parsed, outputs, strict=True), 1):
        gap = float(np.abs(out.cells.ravel() - cells / STEPS).max())
        largest = max(largest, gap)
        if gap > MAP_TOLERANCE:
            problems.append(f"reference image {number}: M differs by {gap:.4f}; at most {MAP_TOLERANCE:g} is rounding")
        if not best.size or best.size != logits.size or not all(0 <= k < len(out.logits) for k in best):
            problems.append(f"reference image {number}: the stored classes are not the model's")
            continue
        allowed = LOGIT_TOLERANCE * max(1.0, float(np.abs(logits).max()))
        gap = float(np.abs(out.logits[best] - logits).max())
        ahead = float(out.logits.max() - out.logits[best[0]])  # 0 if the best class is the best still
        if gap > allowed or ahead > 2 * allowed:
            gap = max(gap, ahead)
            problems.append(f"reference image {number}: logits differ by {gap:.3f}; at most {allowed:.3f} is rounding")
    return largest, problems


def stored(provenance: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The reference outputs in a checkpoint's provenance as JSON, if any; a WeightsError if of another version."""
    kept = provenance.get(REFERENCE)
    if kept is None:
        return None
    version = kept.get("version") if isinstance(kept, Mapping) else str(kept)
    if version != VERSION:
        msg = f"the stored reference outputs have version {version!r:.40}, not {VERSION}; try pip install -U famcli"
        raise WeightsError(msg)
    return kept


def record(folder: Path, device: str = "cpu") -> dict[str, Any]:
    """Run a checkpoint on the reference images and keep its outputs in ``config.json``; the weights stay as they are.

    What is stored is given back. A FamError if the checkpoint cannot be loaded, or its outputs are not finite.
    """
    # Imported here: only what is stored is of PyTorch, and comparing needs none.
    from famcli.inference.torch_engine import TorchEngine
    from famcli_models.loading import load_model

    engine = TorchEngine(load_model(folder), device, fold=False)
    config = read_config(folder)
    kept = config["provenance"][REFERENCE] = {
        "version": VERSION,
        "size": engine.config.size,
        "pictures_sha256": images_digest(engine.config.size),
        "weights_sha256": sha256_file(folder / WEIGHTS_FILE),
        "config_sha256": config_digest(config),
        **rounded(run_engine(engine)),
    }
    write_config(folder, config)
    return kept


def _parsed(kept: Mapping[str, Any]) -> list[tuple[np.ndarray, ...]]:
    """Map, classes and logits of each image as stored; a WeightsError if they are damaged."""
    kinds = {"maps": np.float32, "classes": np.int64, "logits": np.float32}
    try:
        with np.errstate(over="ignore"):  # a number beyond float32 is infinite
            maps, classes, logits = ([np.array(line.split(), kinds[key]) for line in kept[key]] for key in kinds)
        digest = _digest(kept["maps"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        msg = f"the stored reference outputs cannot be read: {type(error).__name__} ({short(str(error))})"
        raise WeightsError(msg) from error
    if len({len(maps), len(classes), len(logits)}) > 1 or not all(np.isfinite(a).all() for a in (*maps, *logits)):
        raise WeightsError("the stored reference outputs have values out of range")
    if digest != kept.get("digest"):
        raise WeightsError("the stored reference outputs were changed: their digest is not that of the maps")
    return list(zip(maps, classes, logits, strict=True))


def _line(values: Iterable[object]) -> str:
    return " ".join(map(str, values))


def _digest(maps: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(maps).encode()).hexdigest()

"""The golden prediction of a checkpoint: what its model said of four drawn pictures when it was made.

The pictures are drawn with integers, so that they are the same bytes on every machine. What the model says of
them is not: floating point sums depend on the device, the number of threads and the precision. So rounded numbers
are kept, and compared within :data:`MAP_TOLERANCE` and :data:`LOGIT_TOLERANCE`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from famcli.inference.torch_engine import TorchEngine
from famcli_models.checkpoint import CONFIG_FILE, REFERENCE, WEIGHTS_FILE, read_config
from famcli_models.errors import WeightsError, short
from famcli_models.files import sha256_file, write_atomic
from famcli_models.loading import load_model
from famcli_models.methods.method import Method

VERSION = 1  # of the drawings and of the rounding
GRID = 16  # cells a side at most: finer maps are averaged
STEPS = 10_000  # of M in [0, 1]
HEAD = 5  # classes kept an image
# Measured with the packaged model and the four backbones against float32 on one thread: threads, memory layouts and
# folded norms change M by less than 0.0001, TF32 (imitated by rounding the inputs of convolutions) by up to 0.013.
# bfloat16 changes it by up to 0.44 in a cell: that is another prediction, and none that is made here.
MAP_TOLERANCE = 0.05
LOGIT_TOLERANCE = 0.03  # of the largest logit of the image, or of 1 if that is smaller
LARGEST = torch.finfo(torch.float32).max  # what the logits are compared in
UNIT = 1024  # the side, in coordinates of the drawings


@dataclass(frozen=True, slots=True)
class Golden:
    """What a model said of the drawn pictures, rounded.

    Attributes:
        maps: For each picture M on a grid of at most 16 x 16 cells, row by row, in ten-thousandths.
        classes: For each picture the indices of the five best classes, best first.
        logits: Their logits, to three decimals.
    """

    maps: tuple[tuple[int, ...], ...]
    classes: tuple[tuple[int, ...], ...]
    logits: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, found: Sequence[Answer]) -> Golden:
        """Round what a model said."""
        best = [answer.logits.argsort(descending=True, stable=True)[:HEAD] for answer in found]
        return cls(
            tuple(tuple((answer.cells.flatten() * STEPS).round().int().tolist()) for answer in found),
            tuple(tuple(order.tolist()) for order in best),
            tuple(
                tuple(round(v, 3) for v in answer.logits[order].tolist())
                for answer, order in zip(found, best, strict=True)
            ),
        )

    def digest(self) -> str:
        """SHA-256 of the rounded maps; equal digests mean equal predictions, different ones need a look."""
        return hashlib.sha256("\n".join(_line(cells) for cells in self.maps).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; one line of text a map."""
        return {
            "digest": self.digest(),
            "maps": [_line(cells) for cells in self.maps],
            "classes": [_line(indices) for indices in self.classes],
            "logits": [_line(values) for values in self.logits],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Golden:
        """The golden prediction of a JSON object.

        Raises:
            WeightsError: It is not one, or its digest is not that of its maps.
        """
        try:
            maps, classes = (
                tuple(tuple(map(int, line.split())) for line in values[key]) for key in ("maps", "classes")
            )
            logits = tuple(tuple(map(float, line.split())) for line in values["logits"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            msg = f"the stored golden prediction cannot be read: {type(error).__name__} ({short(str(error))})"
            raise WeightsError(msg) from error
        made = cls(maps, classes, logits)
        if not (
            len(maps) == len(classes) == len(logits)
            and all(0 <= cell <= STEPS for cells in maps for cell in cells)
            and all(abs(value) <= LARGEST for line in logits for value in line)
        ):
            msg = "the stored golden prediction has values out of range"
            raise WeightsError(msg)
        if made.digest() != values.get("digest"):
            msg = "the stored golden prediction was changed: its digest is not that of its maps"
            raise WeightsError(msg)
        return made


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far a prediction is from the golden one.

    Attributes:
        map_difference: Largest absolute difference of M over cells and pictures.
        logit_difference: Likewise of the logits that are kept.
        problems: One sentence for each difference beyond its tolerance.
    """

    map_difference: float
    logit_difference: float
    problems: tuple[str, ...]


def draw(size: int) -> np.ndarray:
    """Four pictures with one object each: ``(4, size, size, 3)`` uint8, the same bytes everywhere.

    Beyond 1024 pixels those of 1024 are enlarged by repeating pixels: the arithmetic would take 32 times the memory.
    """
    if size > UNIT:
        nearest = UNIT * np.arange(size) // size
        return draw(UNIT)[:, nearest[:, None], nearest]
    pixel = np.arange(size, dtype=np.int64)
    y, x = np.meshgrid(pixel, pixel, indexing="ij")
    v, u = (UNIT * y) // size, (UNIT * x) // size
    ramps = ((x * 7_919 + y * 104_729) * 1_299_709 >> 7) % 256
    disc = (u - 560) ** 2 + (v - 470) ** 2 < 260**2
    bar = (abs(u - v - 90) < 190) & (abs(u + v - UNIT) < 620)
    box = (abs(u - 400) < 230) & (abs(v - 600) < 170)
    wedge = (v > 260) & (v < 860) & (2 * abs(u - 620) < v - 200)
    checks = ((u // 128 + v // 128) % 2) * 50
    scenes = (
        (disc, (200 - v // 16, 60 + u // 10, 30 + v // 12), (40 + v // 8, 90 + v // 12, 200 - v // 20)),
        (bar, (30 + ramps // 8, 35 + u // 20, 40 + ramps // 10), (170 + checks, 160 + checks, 120 + checks)),
        (box, (220 - ramps // 6, 170 + u // 30, 30 + ramps // 5), (ramps // 3, 40 + ramps // 3, 20 + ramps // 4)),
        (
            wedge,
            (90 + 60 * ((u + v) // 64 % 2), 50 + v // 16, 140 + ramps // 9),
            (60 + v // 9, 150 - v // 18, 50 + u // 16),
        ),
    )
    pictures = [
        np.where(inside[..., None], np.stack(np.broadcast_arrays(*fore), -1), np.stack(back, -1))
        for inside, fore, back in scenes
    ]
    return np.stack(pictures).clip(0, 255).astype(np.uint8)


def digest_of_pictures(size: int) -> str:
    """SHA-256 of the bytes of :func:`draw`."""
    return hashlib.sha256(np.ascontiguousarray(draw(size)).data).hexdigest()


def digest_of_config(config: Mapping[str, Any]) -> str:
    """SHA-256 of what a ``config.json`` says of the model, its fields and the names of its classes, as canonical JSON.

    Args:
        config: See :func:`famcli_models.checkpoint.read_config`.
    """
    said = {key: config[key] for key in ("model", "class_names")}
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model says of one picture.

    Attributes:
        cells: ``(h, w)`` M, averaged down to at most 16 x 16.
        logits: ``(L,)`` class scores.
    """

    cells: Tensor
    logits: Tensor


@torch.inference_mode()
def answers(model: Method, device: str = "cpu") -> list[Answer]:
    """What a model says of the drawn pictures, in float32.

    Args:
        model: Moved to the device and set to evaluation mode.
        device: See :func:`famcli.inference.torch_engine.pick_device`.

    Raises:
        WeightsError: A number is not finite.
    """
    engine = TorchEngine(model, device, fold=False)
    found = []
    for picture in draw(model.config.size):  # one at a time: large inputs fit too
        out = engine.output(picture[None])
        M, logits = model.maps(out).cpu().clone(), out.logits[0].cpu().clone()
        if not (bool(M.isfinite().all()) and bool(logits.isfinite().all())):
            msg = "what the model says of a drawn picture is not finite: its weights are damaged"
            raise WeightsError(msg)
        h, w = M.shape[-2:]
        found.append(Answer(F.adaptive_avg_pool2d(M, (min(h, GRID), min(w, GRID)))[0], logits))
    return found


def compare(golden: Golden, now: Sequence[Answer]) -> Comparison:
    """A stored golden prediction beside what the model says now."""
    if [len(cells) for cells in golden.maps] != [answer.cells.numel() for answer in now]:
        return Comparison(math.inf, math.inf, ("the stored golden prediction is of maps of another size",))
    problems, map_gap, logit_gap = [], 0.0, 0.0
    for number, answer in enumerate(now, 1):
        i = number - 1
        cells = torch.tensor(golden.maps[i]) / STEPS
        gap = float((answer.cells.flatten() - cells).abs().max())
        map_gap = max(map_gap, gap)
        if gap > MAP_TOLERANCE:
            problems.append(f"golden picture {number}: M differs by {gap:.4f}; at most {MAP_TOLERANCE:g} is rounding")
        best, kept = list(golden.classes[i]), torch.tensor(golden.logits[i])
        if not best or len(best) != len(kept) or not all(0 <= k < len(answer.logits) for k in best):
            problems.append(f"golden picture {number}: the stored classes are not the model's")
            continue
        allowed = LOGIT_TOLERANCE * max(1.0, float(kept.abs().max()))
        gap = float((answer.logits[best] - kept).abs().max())
        logit_gap = max(logit_gap, gap)
        ahead = float(answer.logits.max() - answer.logits[best[0]])  # 0 if the best class is the best still
        if gap > allowed or ahead > 2 * allowed:
            problems.append(
                f"golden picture {number}: logits differ by {max(gap, ahead):.3f}; at most {allowed:.3f} is rounding"
            )
    return Comparison(map_gap, logit_gap, tuple(problems))


def stored(provenance: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The golden prediction in a checkpoint's provenance as JSON, or ``None`` if there is none.

    Raises:
        WeightsError: It is of another version, or no JSON object.
    """
    kept = provenance.get(REFERENCE)
    if kept is None:
        return None
    if not isinstance(kept, Mapping) or kept.get("version") != VERSION:
        given = kept.get("version") if isinstance(kept, Mapping) else kept
        msg = f"the stored golden prediction has version {given!r:.40}, not {VERSION}; try pip install -U famcli"
        raise WeightsError(msg)
    return kept


def record(folder: Path, device: str = "cpu") -> Golden:
    """Run a checkpoint on the drawn pictures and keep the result in its ``config.json``; the weights stay as they are.

    Args:
        folder: Folder of a checkpoint.
        device: See :func:`famcli.inference.torch_engine.pick_device`.

    Raises:
        FamError: The checkpoint cannot be loaded, or its answer is not finite.
    """
    model = load_model(folder)
    golden = Golden.of(answers(model, device))
    config = read_config(folder)
    facts = {
        "version": VERSION,
        "size": model.config.size,
        "pictures_sha256": digest_of_pictures(model.config.size),
        "weights_sha256": sha256_file(folder / WEIGHTS_FILE),
        "config_sha256": digest_of_config(config),
    }
    config["provenance"] = {**config.get("provenance", {}), REFERENCE: facts | golden.to_dict()}
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    write_atomic(folder / CONFIG_FILE, lambda path: path.write_text(text, encoding="utf-8"))
    return golden


def _line(values: Sequence[float]) -> str:
    return " ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values)

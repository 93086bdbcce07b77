"""An engine that needs numpy alone; run as a program it predicts with it, in one process and in three."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from famcli.inference.engine import ENGINES, EngineRow, Inference
from famcli.inference.job import predict_files
from famcli.inference.predictor import Predictor, Settings, load_item
from famcli.outputs.prediction import Item
from famcli_models.config import MethodConfig


@dataclass(frozen=True, kw_only=True)
class ToyConfig(MethodConfig):
    method: str = "toy"
    tau: float = 0.4
    num_classes: int = 2
    size: int = 64


class Toy:
    """Bright pixels are foreground; the class is whether there are any."""

    config: MethodConfig = ToyConfig()
    class_names = ("dark", "bright")
    num_parts = 0
    map_title = "Brightness"
    class_conditional = False

    def infer(
        self,
        views: Sequence[np.ndarray],
        labels: Sequence[int | None] | None = None,
        *,
        flip: bool = False,
        parts: bool = False,
    ) -> Inference:
        maps = np.mean([images.mean(axis=3, dtype=np.float32) / 255 for images in views], axis=0)
        bright = maps.max(axis=(1, 2)).round()
        return Inference(maps, np.stack([1 - bright, bright], axis=1))


def open_engine(folder: Path, method: str | None, device: str, *, amp: bool) -> Toy:
    return Toy()


ROW = EngineRow("toy_engine:open_engine", "numpy, to test the interface")

if __name__ == "__main__":
    photo, out = map(Path, sys.argv[1:])
    sys.modules["toy_engine"] = sys.modules["__main__"]
    ENGINES["toy"] = ROW
    summary = predict_files([photo], out, engine="toy", format="jsonl", settings=Settings(max_boxes=2))

    toy, item = Predictor(Toy()), Item("photo", photo)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        loaded = pool.submit(load_item, item, [64], 2).result()
        (M,), (probabilities,), _ = toy.engine.infer([view[None] for view in loaded.views])
        inferred = M, probabilities, None
        found = pool.submit(toy.finish, item, loaded, inferred).result()
    sys.stdout.write(f"{summary.boxes} {found.regions == toy(photo).regions} {'torch' in sys.modules}")

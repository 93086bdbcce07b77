"""An engine that needs numpy alone; run as a program it predicts with it, in one process and in three."""

from __future__ import annotations

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from famcli.inference.engine import ENGINES, Engine, EngineRow
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


class Toy(Engine[np.ndarray]):
    """Bright pixels are foreground; the class is whether there are any."""

    config: MethodConfig = ToyConfig()
    class_names = ("dark", "bright")
    title, map_title = "Toy", "Brightness"

    def run(self, images: np.ndarray, labels: np.ndarray, *, flipped: bool = False) -> np.ndarray:
        brightness = images.mean(axis=3, dtype=np.float32) / 255
        return brightness[:, :, ::-1] if flipped else brightness

    def maps(self, out: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return out

    def scores(self, out: np.ndarray) -> np.ndarray:
        bright = out.max(axis=(1, 2)).round()
        return 100 * np.stack([1 - bright, bright], axis=1)


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
        (M,), (probabilities,), *_ = toy.engine.infer([view[None] for view in loaded.views])
        inferred = M, probabilities, None, None
        found = pool.submit(toy.finish, item, loaded, inferred).result()
    sys.stdout.write(f"{summary.boxes} {found.regions == toy(photo).regions} {'torch' in sys.modules}")

"""Pictures of a run for people: its curves, and the maps of the same few images from epoch to epoch."""

from __future__ import annotations

from collections import Counter
from collections.abc import MutableMapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw, ImageFont

from famcli.data.sample import Sample, read_sample
from famcli.inference.torch_engine import TorchEngine
from famcli.outputs.image_files import HEAT, heated
from famcli.training.monitor import Epoch
from famcli_models.errors import DataError
from famcli_models.files import write_atomic
from famcli_models.localization import upsample
from famcli_models.methods.method import Method
from famcli_models.preprocess import resize

IMAGES = 16  # in the sheet of samples
COLUMNS = 8  # epochs in it
TILE, GAP, HEAD = 96, 4, 22  # pixels: a side, between tiles, and the line of epochs above them
BATCH = 4  # images a forward pass: memory was measured out for training

SHARES = ("foreground", "top1", "val_top1")  # from 0 to 1 in the metrics
NAMES = {
    "total": "total",
    "cla": "class",
    "spa": "sparsity",
    "div": "diversity",
    "target": "target",
    "val_loss": "class, validation set",
    "top1": "Top-1, training views",
    "val_top1": "Top-1, validation set",
    "gt_known": "GT-known Loc, validation set",
}


def draw_curves(history: Sequence[Epoch]) -> np.ndarray:
    """Loss terms, foreground share and accuracy over the epochs; ``(h, w, 3)`` uint8 RGB."""
    rows = [epoch.row() for epoch in history]
    panels = (
        ("loss: total, and each term without its weight", [*history[-1].terms, "val_loss"]),
        ("foreground: cells of M above τ, %", ["foreground"]),
        ("accuracy, %", ["top1", "val_top1", "gt_known"]),
    )
    figure = Figure(figsize=(13, 3.8), dpi=100)
    figure.subplots_adjust(0.04, 0.14, 0.99, 0.91, wspace=0.14)  # a layout of matplotlib's own takes twice the time
    canvas = FigureCanvasAgg(figure)
    for axes, (title, columns) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for column in columns:
            scale = 100 if column in SHARES else 1
            points = [(row["epoch"], scale * row[column]) for row in rows if row.get(column) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", label=NAMES.get(column, column))
        if "%" in title:
            axes.set_ylim(-2, 102)
        if len(columns) > 1:
            axes.legend(loc="lower right" if "%" in title else "best")  # accuracies end at the top
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write a picture ``(h, w, 3)`` uint8 RGB in the format of the path's suffix; it is whole at any time."""
    kind = Image.registered_extensions()[path.suffix]
    write_atomic(path, lambda temporary: Image.fromarray(picture).save(temporary, kind, quality=85))


class MapSheet:
    """Maps of the same images after some epochs, beside the photographs.

    ``maps`` are those of earlier sessions, ``(n, h, w)`` uint8 by epoch; those of this session join them.
    """

    def __init__(self, samples: Sequence[Sample], size: int, seed: int, maps: MutableMapping[int, np.ndarray]) -> None:
        self.maps = maps
        self._labels: list[int | None] = []
        self._photos: list[np.ndarray] = []  # at most TILE a side
        views = []  # (size, size, 3)
        for sample in choose(samples, IMAGES, seed):
            try:
                photo = read_sample(sample, size).image
            except DataError:
                photo = Image.new("RGB", (TILE, TILE))
            views.append(resize(photo, size))
            photo.thumbnail((TILE, TILE))
            self._photos.append(np.asarray(photo))
            self._labels.append(sample.label)
        self._views = np.stack(views)

    def add(self, epoch: int, model: Method, device: str) -> None:
        """Keep the model's maps after an epoch; weights and statistics stay as they are."""
        engine = TorchEngine(model, device, fold=False)
        parts = [slice(at, at + BATCH) for at in range(0, len(self._views), BATCH)]
        found = [engine.infer([self._views[part]], self._labels[part]).maps for part in parts]
        self.maps[epoch] = (255 * np.nan_to_num(np.concatenate(found))).round().astype(np.uint8)

    def draw(self, epochs: Sequence[int]) -> np.ndarray:
        """A row for each image: the photograph, and its map after each of some epochs; ``(h, w, 3)`` uint8 RGB."""
        step = TILE + GAP
        sheet = Image.new("RGB", (step * (1 + len(epochs)), HEAD + step * len(self._photos)), "white")
        pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
        for column, title in enumerate(["image", *(f"epoch {epoch}" for epoch in epochs)]):
            pen.text((step * column + 2, 3), title, "black", font)
        for row, photo in enumerate(self._photos):
            size_hw = photo.shape[0], photo.shape[1]
            maps = (upsample(self.maps[epoch][row] / np.float32(255), size_hw) for epoch in epochs)
            for column, tile in enumerate([photo, *(heated(photo, M, HEAT) for M in maps)]):
                sheet.paste(Image.fromarray(tile), (step * column, HEAD + step * row))
        return np.asarray(sheet)


def choose(samples: Sequence[Sample], count: int, seed: int) -> list[Sample]:
    """Some samples at random by a seed, of as many classes as possible."""
    before: Counter[int] = Counter()  # samples of a class that came before
    ranked = []
    for number in np.random.default_rng(seed).permutation(len(samples)).tolist():
        label = samples[number].label
        ranked.append((before[label], number))
        before[label] += 1
    ranked.sort(key=lambda pair: pair[0])
    return [samples[number] for _, number in ranked[:count]]


def shown_epochs(epochs: int) -> list[int]:
    """The first epoch, the last, and some between them."""
    return sorted({round(number) for number in np.linspace(1, epochs, COLUMNS)})

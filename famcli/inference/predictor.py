"""Predict the boxes and classes of images: the public object for Python, and what ``fam predict`` runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from famcli.data.images import DECODE_MARGIN, array_picture, read_picture, upright_picture
from famcli.hub import find_model
from famcli.inference.engine import Engine, Failed, open_engine, run_images
from famcli.outputs.prediction import ClassScore, Failure, Item, PartMaps, Prediction
from famcli_models.config import require
from famcli_models.errors import ConfigError, DataError
from famcli_models.localization import localize
from famcli_models.preprocess import resize

if TYPE_CHECKING:
    from famcli_models.methods.method import Method


@dataclass(frozen=True, slots=True)
class Settings:
    """How maps become boxes, and how much work a batch is.

    Attributes:
        tau: Threshold on M; ``None`` takes the model's own.
        max_boxes: Regions per image, largest first.
        topk: Classes per image.
        scales: Input sizes as multiples of the model's; maps and probabilities are averaged.
        flip: Also average over the mirrored image.
        batch_size: Images per forward pass.
        workers: Threads for decoding and box finding.
        amp: Run the network in bfloat16.
        masks: Keep the regions' pixels.
        parts: Keep the part maps and their weights, if the method has parts.
    """

    tau: float | None = None
    max_boxes: int = 1
    topk: int = 1
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    batch_size: int = 16
    workers: int = 2
    amp: bool = False
    masks: bool = False
    parts: bool = False

    def __post_init__(self) -> None:
        for name in ("max_boxes", "topk", "batch_size", "workers"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.tau is None or 0 <= self.tau < 1, "threshold", self.tau, "in [0, 1)")
        scales = bool(self.scales) and all(0.25 <= scale <= 4 for scale in self.scales)
        require(scales, "scales", self.scales, "numbers in [0.25, 4]")


# Of one image: its size (h, w), and the resized image at each input size.
Views = tuple[tuple[int, int], list[np.ndarray]]
# Of one image: the map (H, W), the probabilities (L,), and its parts if they are asked for.
Inferred = tuple[np.ndarray, np.ndarray, PartMaps | None]
Then = Callable[[Item, Prediction], None]


class Predictor:
    """A model ready to predict images.

    Args:
        model: A packaged name, the folder of a checkpoint, or a name on the Hugging Face Hub; a model, which is moved
            to the device and set to evaluation mode; or an engine.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        settings: See :class:`Settings`.
        method: With a name or a folder, see :func:`famcli_models.load_model`.
        engine: Likewise, what runs it: a name in ``famcli.inference.engine.ENGINES``.
        **changes: Fields of :class:`Settings` to change, for example ``max_boxes=3``.

    Example:
        ```python
        from famcli import Predictor

        predictor = Predictor("fam-mobilenetv1-ilsvrc", max_boxes=3)
        print(predictor("photo.jpg").regions)
        ```
    """

    def __init__(
        self,
        model: str | Path | Method | Engine,
        device: str = "auto",
        settings: Settings | None = None,
        *,
        method: str | None = None,
        engine: str = "torch",
        **changes: Any,
    ) -> None:
        self.settings = settings = replace(settings or Settings(), **changes)
        if isinstance(model, (str, Path)):
            self.engine = open_engine(find_model(str(model)), method, device, amp=settings.amp, name=engine)
        elif isinstance(model, Engine):
            self.engine = model
        else:
            from famcli.inference.torch_engine import TorchEngine

            self.engine = TorchEngine(model, device, amp=settings.amp)
        self.config, self.class_names = self.engine.config, self.engine.class_names
        if settings.parts and not self.engine.num_parts:
            msg = f"a model of '{self.config.method}' has no parts; leave out --parts, or predict with --method fam"
            raise ConfigError(msg)
        self.tau = self.config.tau if settings.tau is None else settings.tau
        stride = self.config.stride  # sides are multiples of it, so that maps have whole cells
        sides = {max(stride, round(self.config.size * scale / stride) * stride) for scale in settings.scales}
        self._sides = sorted(sides)
        self._finish = partial(finish_item, class_names=self.class_names, tau=self.tau, settings=settings)

    def __call__(self, image: str | Path | Image.Image | np.ndarray, label: int | None = None) -> Prediction:
        """Predict one image.

        Args:
            image: A path, a Pillow image, or an RGB ``(h, w, 3)`` uint8 array.
            label: Class index, if it is known (GT-known mode).

        Raises:
            DataError: The image cannot be read, or the label is no class of the model.
            ShapeError: The array is not ``(h, w, 3)`` uint8.
        """
        if label is not None and not 0 <= label < self.config.num_classes:
            msg = f"label {label} is no class; the model's {self.config.num_classes} classes are numbered from 0"
            raise DataError(msg)
        name = str(image) if isinstance(image, (str, Path)) else "image"
        item = Item(name, Path(name), label)
        try:
            loaded = load_item(item, self._sides, None if isinstance(image, (str, Path)) else image)
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
        (inferred,) = self._infer([(item, loaded)])
        return self._finish(item, loaded, inferred)

    def stream(self, items: Iterable[Item], then: Then | None = None) -> Iterator[Prediction | Failure]:
        """Predict many images, in order, with flat memory.

        Args:
            items: Any number of images; read lazily.
            then: Called on a worker thread with each prediction before it is given out, for example to
                write a file; what it raises as a ``FamError`` or ``OSError`` makes the image a failure.

        Yields:
            A ``Prediction`` for each image, or a ``Failure`` where it cannot be read.
        """
        size, workers = self.settings.batch_size, self.settings.workers
        load, finish = partial(load_item, sides=self._sides), partial(self._finish, then=then)
        for result in run_images(items, load, self._infer, finish, batch_size=size, workers=workers):
            yield Failure(result.item.name, str(result.error)) if isinstance(result, Failed) else result

    def _infer(self, batch: Sequence[tuple[Item, Views]]) -> list[Inferred]:
        views = [np.stack(images) for images in zip(*(images for _, (_, images) in batch), strict=True)]
        labels = [item.label for item, _ in batch]
        found = self.engine.infer(views, labels, flip=self.settings.flip, parts=self.settings.parts)
        parts = found.parts if found.parts is not None else [None] * len(batch)
        return list(zip(found.maps, found.probabilities, parts, strict=True))


def load_item(item: Item, sides: Sequence[int], image: Image.Image | np.ndarray | None = None) -> Views:
    """Read an image, unless it is there already, and resize it to each input size; threads and processes may run it."""
    if item.refused is not None:
        raise DataError(item.refused)
    if image is None:
        picture = read_picture(item.source, at_least=DECODE_MARGIN * sides[-1])
    else:
        picture = array_picture(image) if isinstance(image, np.ndarray) else upright_picture(image)
    return picture.size_hw, [resize(picture.image, side) for side in sides]


def finish_item(
    item: Item,
    loaded: Views,
    inferred: Inferred,
    *,
    class_names: Sequence[str],
    tau: float,
    settings: Settings,
    then: Then | None = None,
) -> Prediction:
    """Find the boxes in an image's map and name its classes; threads and processes may run it."""
    (size_hw, _), (M, probability, parts), known = loaded, inferred, item.label is not None
    found = localize(M, size_hw, tau, settings.max_boxes, with_map=settings.masks)
    best = [item.label] if item.label is not None else np.argsort(-probability, kind="stable")[: settings.topk].tolist()
    classes = tuple(ClassScore(i, class_names[i], float(probability[i])) for i in best)
    prediction = Prediction(item.name, size_hw, classes, found.regions, M, known, found.region_map, parts)
    if then is not None:
        then(item, prediction)
    return prediction

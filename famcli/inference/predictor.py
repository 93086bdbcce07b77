"""Predict the boxes and classes of images: the public object for Python, and what ``fam predict`` runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from famcli.data.images import DECODE_MARGIN, Picture, array_picture, read_picture, upright_picture
from famcli.hub import find_model
from famcli.inference.engine import Engine, Failed, open_engine, run_images
from famcli.outputs.prediction import ClassScore, Failure, Item, PartMaps, Prediction
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
        """Check the ranges."""
        for name, low in (("max_boxes", 1), ("topk", 1), ("batch_size", 1), ("workers", 1)):
            if getattr(self, name) < low:
                msg = f"{name} is {getattr(self, name)}; it must be at least {low}"
                raise ConfigError(msg)
        if self.tau is not None and not 0 <= self.tau < 1:
            msg = f"threshold {self.tau} is not in [0, 1)"
            raise ConfigError(msg)
        if not self.scales or not all(0.25 <= s <= 4 for s in self.scales):
            msg = f"scales are {self.scales}; each must be in [0.25, 4]"
            raise ConfigError(msg)


# Of one image: the map (H, W), the probabilities (L,), and its parts if they are asked for.
Inferred = tuple[np.ndarray, np.ndarray, PartMaps | None]
# Of one image: its size (h, w), and the resized image at each input size.
Views = tuple[tuple[int, int], list[np.ndarray]]


class Predictor:
    """A model ready to predict images.

    Args:
        model: A packaged name, the folder of a checkpoint, or a name on the Hugging Face Hub; a model, which is moved
            to the device and set to evaluation mode; or an engine.
        device: See :func:`famcli.inference.torch_engine.pick_device`.
        settings: See :class:`Settings`.
        method: With a name or a folder, see :func:`famcli_models.load_model`.
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
        **changes: Any,
    ) -> None:
        self.settings = replace(settings or Settings(), **changes)
        self.engine = _engine(model, method, device, self.settings.amp)
        self.config, self.class_names = self.engine.config, self.engine.class_names
        if self.settings.parts and not self.engine.num_parts:
            msg = f"a model of '{self.config.method}' has no parts; leave out --parts, or predict with --method fam"
            raise ConfigError(msg)
        self.tau = self.config.tau if self.settings.tau is None else self.settings.tau
        self._sizes = sorted({_side(self.config.size * s, self.config.stride) for s in self.settings.scales})

    def __call__(self, image: str | Path | Image.Image | np.ndarray, label: int | None = None) -> Prediction:
        """Predict one image.

        Args:
            image: A path, a Pillow image, or an RGB ``(h, w, 3)`` uint8 array.
            label: Class index, if it is known (GT-known mode).

        Raises:
            DataError: The image cannot be read, or the label is no class of the model.
            ShapeError: The array is not ``(h, w, 3)`` uint8.
        """
        if isinstance(image, (str, Path)):
            name = str(image)
            try:
                picture = self._read(Path(image))
            except DataError as error:
                msg = f"{name}: {error}"
                raise DataError(msg) from error
        else:
            name = "image"
            picture = array_picture(image) if isinstance(image, np.ndarray) else upright_picture(image)
        if label is not None and not 0 <= label < self.config.num_classes:
            msg = f"label {label} is no class; the model's {self.config.num_classes} classes are numbered from 0"
            raise DataError(msg)
        item = Item(name, Path(name), label)
        loaded = picture.size_hw, self._views(picture)
        (inferred,) = self._infer([(item, loaded)])
        return self._finish(item, loaded, inferred)

    def stream(
        self, items: Iterable[Item], then: Callable[[Item, Prediction], None] | None = None
    ) -> Iterator[Prediction | Failure]:
        """Predict many images, in order, with flat memory.

        Args:
            items: Any number of images; read lazily.
            then: Called on a worker thread with each prediction before it is given out, for example to
                write a file; what it raises as a ``FamError`` or ``OSError`` makes the image a failure.

        Yields:
            A ``Prediction`` for each image, or a ``Failure`` where it cannot be read.
        """

        def load(item: Item) -> Views:
            picture = self._read(item.source)
            return picture.size_hw, self._views(picture)

        def finish(item: Item, loaded: Views, inferred: Inferred) -> Prediction:
            prediction = self._finish(item, loaded, inferred)
            if then is not None:
                then(item, prediction)
            return prediction

        settings = self.settings
        results = run_images(items, load, self._infer, finish, batch_size=settings.batch_size, workers=settings.workers)
        for result in results:
            yield Failure(result.item.name, str(result.error)) if isinstance(result, Failed) else result

    def _read(self, path: Path) -> Picture:
        return read_picture(path, at_least=DECODE_MARGIN * self._sizes[-1])

    def _views(self, picture: Picture) -> list[np.ndarray]:
        return [resize(picture.image, side) for side in self._sizes]

    def _infer(self, batch: Sequence[tuple[Item, Views]]) -> list[Inferred]:
        views = [np.stack(images) for images in zip(*(images for _, (_, images) in batch), strict=True)]
        labels = [item.label for item, _ in batch]
        maps, probabilities, parts = self.engine.infer(
            views, labels, flip=self.settings.flip, parts=self.settings.parts
        )
        return list(zip(maps, probabilities, parts if parts is not None else [None] * len(batch), strict=True))

    def _finish(self, item: Item, loaded: Views, inferred: Inferred) -> Prediction:
        (size_hw, _), (M, probability, parts) = loaded, inferred
        found = localize(M, size_hw, self.tau, self.settings.max_boxes, with_mask=self.settings.masks)
        if item.label is None:
            k = min(self.settings.topk, len(probability))
            best = np.argsort(-probability, kind="stable")[:k].tolist()
        else:
            best = [item.label]
        classes = tuple(ClassScore(i, self.class_names[i], float(probability[i])) for i in best)
        return Prediction(item.name, size_hw, classes, found.regions, M, item.label is not None, found.mask, parts)


def _engine(model: str | Path | Method | Engine, method: str | None, device: str, amp: bool) -> Engine:
    if isinstance(model, (str, Path)):
        return open_engine(find_model(str(model)), method, device, amp=amp)
    from famcli.inference.torch_engine import TorchEngine
    from famcli_models.methods.method import Method

    return TorchEngine(model, device, amp=amp) if isinstance(model, Method) else model


def _side(pixels: float, stride: int) -> int:
    """The multiple of the stride nearest to ``pixels``, so that maps have whole cells."""
    return max(stride, round(pixels / stride) * stride)

"""Images to predictions: the packaged road from a file to boxes in its pixels.

Decoding and box finding run on threads beside the forward passes; only a few batches are ever in memory.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from famcli.data.images import DECODE_MARGIN, Picture, array_picture, read_picture, upright_picture
from famcli.data.squash import squash
from famcli.data.transforms import Normalize
from famcli.inference.device import pick_device
from famcli.inference.parts import PartMaps, mean_maps, mean_parts
from famcli_models.errors import ConfigError, DataError, FamError
from famcli_models.fusion import fold_norms
from famcli_models.localization import Region, localize
from famcli_models.methods.cam import CAM, min_max
from famcli_models.methods.fam import FAM


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class of an image: its index in the model, its name and its softmax probability."""

    index: int
    name: str
    probability: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one image.

    Attributes:
        name: The name the image was given, or its path.
        size_hw: ``(h, w)`` of the original image, EXIF orientation applied.
        classes: The most probable classes, best first; the given class alone in GT-known mode.
        regions: Foreground regions, largest first, with boxes in the original image's pixels.
        M: ``(H, W)`` float32 map at feature resolution; of a CAM, that of the first of the classes.
        known: The class was given, so that scores do not include its probability.
        mask: ``(h, w)`` bool pixels of the regions, if asked for.
        parts: The part maps and their weights, if asked for.
    """

    name: str
    size_hw: tuple[int, int]
    classes: tuple[ClassScore, ...]
    regions: tuple[Region, ...]
    M: np.ndarray = field(repr=False)
    known: bool = False
    mask: np.ndarray | None = field(default=None, repr=False)
    parts: PartMaps | None = None

    def score(self, region: Region, chosen: ClassScore) -> float:
        """Confidence that ``region`` is an object of the class: mean M in the region times the probability.

        In GT-known mode the class is certain, and the score is the mean of M alone.
        """
        return region.foreground * (1.0 if self.known else chosen.probability)

    def detections(self) -> list[dict[str, Any]]:
        """What was found in the form of a Hugging Face object detection pipeline, best score first.

        Returns:
            One ``{"score": float, "label": str, "box": {"xmin": int, "ymin": int, "xmax": int, "ymax": int}}`` for each
            region and class. The box holds every foreground pixel: corners are rounded outwards, cut to the image,
            and half-open, so that ``xmax - xmin`` is the width in pixels.
        """
        h, w = self.size_hw
        found = []
        for region in self.regions:
            x0, y0, x1, y1 = region.xyxy
            low, high = (max(0, math.floor(x0)), max(0, math.floor(y0))), (min(w, math.ceil(x1)), min(h, math.ceil(y1)))
            box = {"xmin": low[0], "ymin": low[1], "xmax": high[0], "ymax": high[1]}
            found += [{"score": self.score(region, c), "label": c.name, "box": dict(box)} for c in self.classes]
        return sorted(found, key=lambda detection: -detection["score"])


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that could not be read: its name, and the reason in a few words."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Item:
    """One image to predict: a name, where it is, and its class index if that is known."""

    name: str
    source: Path
    label: int | None = None


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
        parts: Keep the part maps and their weights; a CAM has none.
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


# Of one image: M (H, W), the probabilities (L,), and its parts if they are asked for.
Seen = tuple[np.ndarray, np.ndarray, PartMaps | None]


class Predictor:
    """A model ready to look at images.

    Args:
        model: A FAM or a CAM; it is moved to the device and set to evaluation mode.
        device: See :func:`famcli.inference.device.pick_device`.
        settings: See :class:`Settings`.

    Example:
        >>> predictor = Predictor(FAM.from_pretrained("fam-mobilenetv1-ilsvrc"))
        >>> predictor("photo.jpg").regions[0].xyxy
    """

    def __init__(self, model: FAM | CAM, device: str = "auto", settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        if self.settings.parts and isinstance(model, CAM):
            msg = "a CAM has no parts; leave out --parts, or predict with a FAM (--method fam)"
            raise ConfigError(msg)
        self.device = pick_device(device)
        self.model = model.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.backbone = fold_norms(model.backbone)
        self.config = model.config
        self.class_names = model.class_names
        self.tau = self.config.tau if self.settings.tau is None else self.settings.tau
        self._normalize = Normalize(self.config.mean, self.config.std)
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
        views = self._views(picture)
        (seen,) = self._forward([views], [label])
        return self._finish(Item(name, Path(name), label), picture.size_hw, seen)

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
        size = self.settings.batch_size
        source = iter(items)
        with ThreadPoolExecutor(self.settings.workers, thread_name_prefix="fam") as pool:
            decoding: deque[tuple[Item, Future[tuple[tuple[int, int], list[np.ndarray]]]]] = deque()
            finishing: deque[Future[Prediction | Failure]] = deque()
            try:
                while True:
                    # Two batches ahead: while one is in the network the next is decoded.
                    for item in itertools.islice(source, 2 * size - len(decoding)):
                        decoding.append((item, pool.submit(self._load, item.source)))
                    if not decoding:
                        break
                    batch = self._batch(decoding, pool, then)
                    yield from _drain(finishing)  # the batch before: its boxes were found meanwhile
                    finishing = batch
                yield from _drain(finishing)
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _batch(
        self, decoding: deque[Any], pool: ThreadPoolExecutor, then: Callable[[Item, Prediction], None] | None
    ) -> deque[Future[Prediction | Failure]]:
        """Run the next batch; returns its images' futures in order, readable and unreadable ones alike."""
        slots: list[Item | Future[Prediction | Failure]] = []
        views, sizes, labels = [], [], []
        for item, future in [decoding.popleft() for _ in range(min(self.settings.batch_size, len(decoding)))]:
            try:
                size_hw, image_views = future.result()
            except DataError as error:
                slots.append(_done(Failure(item.name, str(error))))
            else:
                slots.append(item)
                views.append(image_views)
                sizes.append(size_hw)
                labels.append(item.label)
        if not views:
            return deque(s for s in slots if isinstance(s, Future))
        results = iter(zip(sizes, self._forward(views, labels), strict=True))
        out: deque[Future[Prediction | Failure]] = deque()
        for slot in slots:
            out.append(slot if isinstance(slot, Future) else pool.submit(self._guarded, slot, *next(results), then))
        return out

    def _guarded(self, item: Item, size_hw: tuple[int, int], seen: Seen, then: Any) -> Prediction | Failure:
        try:
            prediction = self._finish(item, size_hw, seen)
            if then is not None:
                then(item, prediction)
        except (FamError, OSError) as error:
            return Failure(item.name, str(error))
        return prediction

    def _read(self, path: Path) -> Picture:
        return read_picture(path, at_least=DECODE_MARGIN * self._sizes[-1])

    def _load(self, path: Path) -> tuple[tuple[int, int], list[np.ndarray]]:
        picture = self._read(path)
        return picture.size_hw, self._views(picture)

    def _views(self, picture: Picture) -> list[np.ndarray]:
        return [squash(picture.image, side) for side in self._sizes]

    @torch.inference_mode()
    def _forward(self, views: Sequence[Sequence[np.ndarray]], labels: Sequence[int | None]) -> list[Seen]:
        """Views of images, and their classes where known, to what the network sees in each.

        A CAM's map is that of one class in all views: of the known one, or of the most probable in their mean.
        """
        maps: list[Tensor] = []
        probabilities: list[Tensor] = []
        parts: list[tuple[Tensor, Tensor]] = []
        try:
            for side in range(len(self._sizes)):
                batch = self._normalize([image[side] for image in views], self.device)
                for mirrored in (False, True) if self.settings.flip else (False,):
                    with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.amp):
                        features = self.backbone(batch.flip(3) if mirrored else batch)
                        out = self.model.head(features)
                    # A CAM's maps wait for the class.
                    M = (features.X if isinstance(self.model, CAM) else out.M).float()
                    maps.append(M.flip(3) if mirrored else M)
                    probabilities.append(out.logits.float().softmax(dim=1))
                    if self.settings.parts:
                        A = out.A.float()
                        parts.append((A.flip(3) if mirrored else A, out.t.float()))
        except torch.OutOfMemoryError as error:
            msg = f"out of memory on {self.device} with {len(views)} images a batch; lower --batch-size"
            raise ConfigError(msg) from error
        probability = torch.stack(probabilities).mean(dim=0).cpu().numpy()
        if isinstance(self.model, CAM):
            best = probability.argmax(axis=1).tolist()
            chosen = [b if label is None else label for b, label in zip(best, labels, strict=True)]
            maps = [self.model.class_maps(X, torch.tensor(chosen, device=self.device))[:, None] for X in maps]
        M = mean_maps(maps)[:, 0]
        if isinstance(self.model, CAM) and len(maps) > 1:
            M = min_max(M)  # the mean of several maps need not reach 1
        found = mean_parts(parts) if parts else [None] * len(views)
        return list(zip(M.cpu().numpy(), probability, found, strict=True))

    def _finish(self, item: Item, size_hw: tuple[int, int], seen: Seen) -> Prediction:
        M, probability, parts = seen
        found = localize(M, size_hw, self.tau, self.settings.max_boxes, with_mask=self.settings.masks)
        if item.label is None:
            k = min(self.settings.topk, len(probability))
            best = np.argsort(-probability, kind="stable")[:k].tolist()
        else:
            best = [item.label]
        classes = tuple(ClassScore(i, self.class_names[i], float(probability[i])) for i in best)
        return Prediction(item.name, size_hw, classes, found.regions, M, item.label is not None, found.mask, parts)


def _side(pixels: float, stride: int) -> int:
    """The multiple of the stride nearest to ``pixels``, so that maps have whole cells."""
    return max(stride, round(pixels / stride) * stride)


def _done(result: Prediction | Failure) -> Future[Prediction | Failure]:
    future: Future[Prediction | Failure] = Future()
    future.set_result(result)
    return future


def _drain(futures: deque[Future[Prediction | Failure]]) -> Iterator[Prediction | Failure]:
    while futures:
        yield futures.popleft().result()

"""Predict the boxes and classes of images: the public object for Python, and what ``fam predict`` runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from io import IOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
from PIL import Image

from famcli.data.depth import AUTO_RANGE, ValueRange
from famcli.data.images import DECODE_MARGIN, Source, open_picture, read_file, read_picture
from famcli.data.sources import Member
from famcli.hub import find_model
from famcli.inference.engine import AUTO, Engine, OutOfMemoryError, fit_to_images, input_sides, open_engine
from famcli.inference.labels import Classes
from famcli.inference.pipeline import Failed, Workers, guarded, run_images
from famcli.inference.scores import box_score, certainty
from famcli.inference.views import ViewSettings, closer, infer_views
from famcli.outputs.image_files import SIDE, shrunk
from famcli.outputs.prediction import ClassScore, Failure, Item, PartMaps, Prediction, Record
from famcli_models.config import MAX_INPUT_BYTES, PIXEL_BYTES, require
from famcli_models.errors import ConfigError, DataError, FamError, ShapeError, shown
from famcli_models.localization import Localization, localize, localize_box
from famcli_models.preprocess import resize

if TYPE_CHECKING:
    from famcli_models.methods.method import Method


# Images per forward pass, if not given. On two cores 4 to 32 take the same time an image, and 8 little memory; on an
# H200 128 were faster than 64 and 256.
CPU_BATCH, GPU_BATCH = 8, 128


@dataclass(frozen=True, slots=True)
class Settings(ViewSettings):
    """How maps become boxes, and how much work a batch is.

    Attributes:
        tau: Threshold on M; ``None`` takes the model's own.
        max_boxes: Regions per image, largest first.
        topk: Classes per image.
        batch_size: Images per forward pass, halved when memory runs out; ``None`` takes what suits the device.
        workers: Threads for decoding and box finding; ``None`` takes as many as the network leaves room for.
        amp: Run the backbone in float16, what follows it in float32; for GPUs.
        masks: Keep the regions' pixels.
        photos: Keep the decoded photograph, shrunk to 1,600 pixels, so that it is not read again for drawing.
        parts: Keep the part maps and their weights, if the method has parts.
        value_range: What is black and what is white in images of more than 8 bits: ``"auto"``, which looks at the
            values; ``"container"``, all that the type of the values can hold; or two values.
        processes: With many images workers are processes, ``None``: where there are cores to spare. A script that
            asks for them needs ``if __name__ == "__main__":``. With two looks they are threads.
        scales: Input sizes as multiples of the model's; maps and probabilities are averaged.
        flip: Also average over the mirrored image.
        looks: 1, or 2: the model is run again on the part of the image with the first box and a margin of a tenth of
            its sides, and what it says of both is put together.
        quality: ``"fast"``, one view and one look, or ``"best"``: two sizes and the mirrored image. Each of
            ``scales``, ``flip`` and ``looks`` that is given takes the place of what the quality says.
    """

    tau: float | None = None
    max_boxes: int = 1
    topk: int = 1
    batch_size: int | None = None
    workers: int | None = None
    amp: bool = False
    masks: bool = False
    photos: bool = False
    parts: bool = False
    value_range: ValueRange = AUTO_RANGE
    processes: bool | None = False

    def __post_init__(self) -> None:
        for name in ("max_boxes", "topk", "batch_size", "workers"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "at least 1")
        require(self.tau is None or 0 <= self.tau < 1, "threshold", self.tau, "in [0, 1)")
        ViewSettings.__post_init__(self)


class Loaded(NamedTuple):
    """An image that was read and resized; its photograph never leaves the process."""

    size_hw: tuple[int, int]  # of the original
    views: list[np.ndarray]  # (side, side, 3) uint8 at each input size
    photo: Image.Image | None  # to draw on, if asked for
    remark: str | None = None  # on the file

    def __reduce__(self) -> tuple[Any, ...]:
        return Loaded, (self.size_hw, self.views, None, self.remark)


# Of one image: the map (H, W), the probabilities (L,), its parts if asked for, and the box (4,) if the method gives it.
Inferred = tuple[np.ndarray, np.ndarray, PartMaps | None, np.ndarray | None]
Then = Callable[[Prediction], object]
Label = str | int | None


class Predictor:
    """A model ready to predict images.

    Args:
        model: A packaged name, the folder of a checkpoint, or a name on the Hugging Face Hub; a model, which is moved
            to the device and set to evaluation mode; or an engine.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        settings: See :class:`Settings`.
        method: With a name or a folder, see :func:`famcli_models.load_model`.
        engine: Likewise, what runs it: ``onnx``, ``torch``, or by default ``auto``: ONNX Runtime on the CPU where the
            checkpoint has a graph, else PyTorch.
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
        model: str | Path | Method | Engine[Any],
        device: str = AUTO,
        settings: Settings | None = None,
        *,
        method: str | None = None,
        engine: str = AUTO,
        **changes: Any,
    ) -> None:
        self.settings = settings = replace(settings or Settings(), **changes)
        if isinstance(model, (str, Path)):
            folder, scales = find_model(str(model)), settings.views.scales
            self.engine = open_engine(folder, method, device, amp=settings.amp, name=engine, scales=scales)
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
        self._sides = input_sides(self.config, settings.views.scales)
        fitting = MAX_INPUT_BYTES // (PIXEL_BYTES * self._sides[-1] ** 2)  # a CPU does not say that memory runs out
        self.batch_size = settings.batch_size or (min(CPU_BATCH, fitting) if self.engine.on_cpu else GPU_BATCH)
        self.finish = partial(
            finish_item,
            class_names=self.class_names,
            temperature=self.config.temperature,
            box_weights=self.config.box_score,
            tau=self.tau,
            settings=settings,
        )

    @overload
    def __call__(self, images: Source, label: Label = None) -> Prediction: ...

    @overload
    def __call__(
        self, images: list[Any] | tuple[Any, ...], label: Label | Sequence[Label] = None
    ) -> list[Prediction]: ...

    @overload
    def __call__(self, images: Iterator[Source], label: Label = None) -> Iterator[Prediction]: ...

    def __call__(self, images: Any, label: Any = None) -> Any:
        """Predict one image, or several in batches.

        Args:
            images: A path, a Pillow image, an RGB ``(h, w, 3)`` uint8 array, or the bytes of a file; a list or tuple of
                them, in any mix; or an iterator, which is read as predictions are taken, so that memory stays flat.
            label: The class, if it is known (GT-known mode), by name, WordNet id or index: one for all, or a list of
                as many as the images. A name that the model does not know just names the boxes, where the map does
                not depend on the class; with one such name in a list, all are names of one's own.

        Returns:
            The prediction of one image, a list of those of a list, or an iterator over those of an iterator, in order.

        Raises:
            DataError: An image cannot be read, which ends a list or an iterator too (:meth:`stream` goes on), a label
                is no class, or an argument is of no kind named above.
            ShapeError: An array is not ``(h, w, 3)`` uint8.
            UnknownNameError: The map depends on the class, and the model has none of this name.
        """
        if isinstance(images, Iterator) and not isinstance(images, IOBase):
            return self._predict(images, label)
        if not isinstance(images, (list, tuple)):
            return next(self._predict([images], label, called="image"))
        labels = label if isinstance(label, (list, tuple)) else [label] * len(images)
        if len(labels) != len(images):
            raise DataError(f"{len(labels)} labels for {len(images)} images: give one for all, or as many")
        return list(self._predict(images, *labels))

    def _predict(self, images: Iterable[Source], *labels: Any, called: str = "images[{}]") -> Iterator[Prediction]:
        """Predictions of images with a label each, or with one for all; those that are no files go by their place."""
        odd = [x for x in labels if isinstance(x, bool) or not isinstance(x, (str, int, np.integer, type(None)))]
        if odd:
            raise DataError(f"a label is the name or the index of a class, not {shown(odd[0])}")
        texts = [label for label in labels if isinstance(label, str)]
        classes = Classes.from_texts(texts, self.class_names, conditional=self.engine.class_conditional)
        if classes.own and any(isinstance(label, (int, np.integer)) for label in labels):
            raise DataError(
                f"{shown(classes.own[0])} is a name of your own, and indices of the model cannot go with it"
            )
        items = (
            Item(
                str(image) if isinstance(image, (str, Path)) else called.format(i),
                image,
                classes.find(labels[i % len(labels)]),
            )
            for i, image in enumerate(images)
        )
        return map(_good, self._run(items, own_names=classes.own))

    def rethreshold(self, prediction: Prediction, tau: float, max_boxes: int = 1) -> Prediction:
        """The boxes of a prediction at another threshold; the network does not run again.

        Args:
            prediction: One of this predictor's.
            tau: Threshold on the map, in [0, 1). The box of a method that gives boxes itself does not depend on it.
            max_boxes: Regions, largest first.

        Returns:
            The prediction with other regions, scores and mask.

        Raises:
            ConfigError: ``tau`` or ``max_boxes`` is out of range.
        """
        if self.engine.gives_boxes:
            return prediction
        with_map = prediction.region_map is not None
        found = localize(prediction.M, prediction.size_hw, tau, max_boxes, with_map=with_map)
        scores = box_scores(self.config.box_score, found, prediction.certainty)
        return replace(prediction, regions=found.regions, region_map=found.region_map, box_scores=scores)

    def fit(self, items: Sequence[Item], *, own: bool = False) -> None:
        """Make the first pass over images that a method such as DDT has; the others have none.

        Args:
            items: The images, or some of their kind; see :func:`famcli.inference.engine.fit_to_images`.
            own: Their labels are names of one's own.

        Raises:
            OutOfMemoryError: There is not enough memory for a batch.
        """
        classes, value_range = len(self.class_names), self.settings.value_range
        load = partial(load_item, sides=[self.config.size], classes=classes, value_range=value_range)
        fit_to_images(
            self.engine,
            items,
            lambda item: load(replace(item, label=None)).views[0],
            lambda item: None if own else item.label,
            self.batch_size,
            self.settings.workers or 2,
        )

    def stream(
        self, items: Iterable[Item], then: Then | None = None, own_names: Sequence[str] = ()
    ) -> Iterator[Prediction | Failure]:
        """Predict many images, in order, with flat memory.

        Args:
            items: Any number of images; read lazily.
            then: Called on a worker thread with each prediction before it is given out, for example to write a file;
                the message of a ``FamError`` or ``OSError`` that it raises becomes the prediction's ``warning``.
            own_names: Names of one's own, which labels of the items count among instead of the model's classes; only
                where the map does not depend on the class.

        Yields:
            A ``Prediction`` for each image, or a ``Failure`` where it cannot be read.
        """
        for result in self._run(items, then, own_names):
            yield Failure(result.item.name, str(result.error)) if isinstance(result, Failed) else result

    def records(
        self, items: Iterable[Item], then: Then | None = None, own_names: Sequence[str] = ()
    ) -> Iterator[Record]:
        """What :meth:`stream` gives in its JSON-able form, which the workers make."""
        for result in self._run(items, then, own_names, partial(finish_record, self.finish)):
            yield Failure(result.item.name, str(result.error)).to_dict() if isinstance(result, Failed) else result

    def _run(
        self,
        items: Iterable[Item],
        then: Then | None = None,
        own_names: Sequence[str] = (),
        finish: Callable[..., Any] | None = None,
    ) -> Iterator[Any]:
        settings, own_names = self.settings, tuple(own_names)
        classes, value_range = len(own_names or self.class_names), settings.value_range
        workers = Workers.beside(network_on_cpu=self.engine.on_cpu)
        processes = workers.processes if settings.processes is None else settings.processes
        processes = processes and settings.views.looks == 1  # the second look cuts images in this process
        return run_images(
            items,
            partial(load_item, sides=self._sides, classes=classes, photo=settings.photos, value_range=value_range),
            partial(self._infer, own=bool(own_names)),
            partial(finish or self.finish, own_names=own_names, then=then),
            batch_size=self.batch_size,
            workers=settings.workers or workers.number,
            shared_bytes=sum(3 * side**2 for side in self._sides) if processes else 0,
        )

    def _infer(self, batch: Sequence[tuple[Item, Loaded]], own: bool = False) -> list[Inferred | Failed[Item]]:
        """What the network says of a batch, which is cut in two for as long as it is too large for the memory."""
        inferred: list[Inferred | Failed[Item]] = []
        while len(inferred) < len(batch):
            part = batch[len(inferred) :][: self.batch_size]
            try:
                inferred += self._infer_at_once(part, own)
            except OutOfMemoryError:
                if len(part) == 1:
                    raise
                self.batch_size = len(part) // 2
        return inferred

    def _infer_at_once(self, batch: Sequence[tuple[Item, Loaded]], own: bool) -> list[Inferred | Failed[Item]]:
        settings, failed = self.settings, dict[int, Failed[Item]]()

        def cut(i: int, box: np.ndarray) -> list[np.ndarray]:
            item, loaded = batch[i]
            views = guarded(cut_item, item, box, self._sides, settings.value_range)
            if isinstance(views, Failed):
                failed[i] = views
                return loaded.views
            return views

        found = infer_views(
            self.engine,
            [np.stack(images) for images in zip(*(loaded.views for _, loaded in batch), strict=True)],
            [None if own else item.label for item, _ in batch],
            settings.views,
            cut,
            tau=self.tau,
            parts=settings.parts,
            workers=settings.workers or 2,
        )
        parts, boxes = ([None] * len(batch) if of is None else of for of in (found.parts, found.boxes))
        answers = zip(found.maps, found.probabilities, parts, boxes, strict=True)
        return [failed.get(i, answer) for i, answer in enumerate(answers)]


def _good(result: Prediction | Failed[Item]) -> Prediction:
    """A prediction, or the error of a failure with the name of the image."""
    if isinstance(result, Failed):
        kind = ShapeError if isinstance(result.error, ShapeError) else DataError
        raise kind(f"{result.item.name}: {result.error}") from result.error
    return result


def load_item(
    item: Item, sides: Sequence[int], classes: int, photo: bool = False, value_range: ValueRange = AUTO_RANGE
) -> Loaded:
    """Read an image and resize it to each input size; threads and processes may run it."""
    if item.refused is not None:
        raise DataError(item.refused)
    if item.label is not None and not 0 <= item.label < classes:
        raise DataError(f"label {item.label} is no class; the {classes} classes are numbered from 0")
    source = read_file(item.source) if photo and isinstance(item.source, (str, Path, Member)) else item.source
    with open_picture(source, DECODE_MARGIN * sides[-1], value_range) as picture:
        image, size_hw, remark = picture
        views = [resize(image, side) for side in sides]
        large_enough = max(image.size) >= min(SIDE, max(size_hw))
        drawn = shrunk(image) if photo and large_enough else None
    if photo and drawn is None:
        # Boxes of a large JPEG decoded at another size differ by several pixels, and must not depend on overlays.
        drawn = shrunk(read_picture(source, SIDE, value_range).image)
    return Loaded(size_hw, views, drawn, remark)


def cut_item(item: Item, box: np.ndarray, sides: Sequence[int], value_range: ValueRange) -> list[np.ndarray]:
    """Read the part of an image in a box ``(4,)``, xyxy in shares of it, and resize it to each input size."""
    with open_picture(item.source, DECODE_MARGIN * closer(sides[-1], box), value_range) as picture:
        return [resize(picture.image, side, box) for side in sides]


def finish_item(
    item: Item,
    loaded: Loaded,
    inferred: Inferred,
    *,
    class_names: tuple[str, ...],
    temperature: float,
    box_weights: Sequence[float],
    tau: float,
    settings: Settings,
    own_names: tuple[str, ...] = (),
    then: Then | None = None,
) -> Prediction:
    """Find the boxes in an image's map and name its classes; threads and processes may run it."""
    M, probability, parts, box = inferred
    if not all(np.isfinite(of).all() for of in (M, probability, *([] if box is None else [box]))):
        raise DataError("what the model says of it is not finite; 'fam verify' checks the weights")
    if box is None:
        found = localize(M, loaded.size_hw, tau, settings.max_boxes, with_map=settings.masks)
    else:
        found = localize_box(M, loaded.size_hw, box, tau, with_map=settings.masks)
    if item.label is None:
        best = np.argsort(-probability, kind="stable")[: settings.topk].tolist()
    else:
        best, class_names = [item.label], own_names or class_names
    own = item.label is not None and bool(own_names)
    of_class = certainty(probability, temperature)
    prediction = Prediction(
        item.name,
        loaded.size_hw,
        tuple(ClassScore(i, class_names[i], None if own else float(probability[i])) for i in best),
        found.regions,
        M,
        box_scores=box_scores(box_weights, found, of_class),
        certainty=of_class,
        known=item.label is not None,
        region_map=found.region_map,
        parts=parts,
        source=item.source if loaded.photo is None else loaded.photo,
        class_names=class_names,
        remark=loaded.remark,
    )
    if then is not None:
        try:
            then(prediction)
        except (FamError, OSError) as error:
            return replace(prediction, warning=str(error))
    return prediction


def box_scores(weights: Sequence[float], found: Localization, of_class: float) -> tuple[float, ...]:
    """The score of each region."""
    return tuple(box_score(weights, region.foreground, of_class) for region in found.regions)


def finish_record(
    finish: Callable[..., Prediction], item: Item, loaded: Loaded, inferred: Inferred, **more: Any
) -> Record:
    """What ``finish`` gives, as a record."""
    return finish(item, loaded, inferred, **more).to_dict()

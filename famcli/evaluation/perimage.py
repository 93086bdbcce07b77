"""Per-image results of protocols with one box an image: what models, boxes found elsewhere and fixed boxes get right.

The protocols are those of :data:`famcli.evaluation.protocols.BOX_RULES`; maps at many thresholds, as wsolevaluation
scores them, are in :mod:`famcli.evaluation.thresholds`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from famcli.data.depth import AUTO_RANGE, ValueRange
from famcli.data.sample import MAX_CLASSES, TEST, Sample, check_labels, open_sample
from famcli.evaluation.external import Found
from famcli.evaluation.metrics.box import INTERVAL, thresholds
from famcli.evaluation.models import Model
from famcli.evaluation.protocols import BOX_RULES, BoxRules, find_protocol, ten_crops
from famcli.inference.engine import AUTO, UNKNOWN, Inference, fit_to_images, input_sides
from famcli.inference.pipeline import Failed, run_images
from famcli.inference.views import ViewSettings, closer, infer_views
from famcli.results.images import MAX_SHOWN_CLASSES, RIGHT_IOU
from famcli_models.boxes import FloatArray, box_iou
from famcli_models.errors import DataError, WeightsError
from famcli_models.localization import Region, localize_at, localize_box

if TYPE_CHECKING:
    from famcli.inference.engine import Engine
    from famcli_models.methods.method import Method

CENTRE_SIDE = 0.7  # the centre box takes this share of each side
FIXED_BOXES = {"centre": f"centre box, {CENTRE_SIDE:.0%} of each side", "whole": "whole image"}  # titles by name
PREDICTIONS = "predictions"  # the name of boxes found elsewhere
NOWHERE = -1.0  # the IoU of an image without a box
UNNAMED = MAX_CLASSES  # the rank of a class that was not named at all: behind all that can be

# Of one image: its size (h, w), the view at each input size, and the ten crops at each.
_Views = tuple[tuple[int, int], dict[int, np.ndarray], dict[int, list[np.ndarray]]]
# Of one image and each model: the map (h, w), the class probabilities (L,), and the box (4,) if the method gives it.
_Answers = list[tuple[np.ndarray, np.ndarray, np.ndarray | None]]
# Of one image: its place, size, truth (N, 4), most probable classes, and what each model says.
_Finished = tuple[int, tuple[int, int], FloatArray, tuple[tuple[int, float], ...], _Answers]


class BoxedMap(NamedTuple):
    """A map, and the box that its method gives beside it, which stands at every threshold."""

    M: np.ndarray  # (h, w) float32 in [0, 1]
    box: np.ndarray  # (4,) half-open xyxy in shares of the input's sides


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSettings(ViewSettings):
    """How to evaluate.

    Attributes:
        split: Split of the data.
        protocol: A name of :data:`famcli.evaluation.protocols.PROTOCOLS`.
        crops: 1, or 10 for the mean class scores of ten crops.
        interval: From one threshold to the next, of protocols that try many.
        same_classes: The labels are classes of the model, or of the predictions; if not, boxes alone are scored, and a
            map that depends on the class is of the most probable one.
        allow_missing: Score the images that have a prediction, map or readable file, and mark the result as partial.
        device: See :func:`famcli.inference.torch_engine.pick_device`.
        engine: What runs the models: a name in ``famcli.inference.engine.ENGINES``, or ``auto``.
        batch_size: Images per forward pass.
        workers: Threads that decode and find boxes.
        value_range: What is black and what is white in images of more than 8 bits, as ``famcli.Predictor`` takes it.
        processes: Processes that try thresholds; all cores if not given.
        scales: As ``famcli.Predictor`` takes them, as all that follow; the part for a second look is at the model's τ.
        flip: Also average over the mirrored image.
        looks: 1 or 2.
        quality: ``"fast"`` or ``"best"``.
    """

    split: str = TEST
    protocol: str = "fam"
    crops: int = 1
    interval: float = INTERVAL
    same_classes: bool = True
    allow_missing: bool = False
    device: str = AUTO
    engine: str = AUTO
    batch_size: int = 32
    workers: int = 2
    value_range: ValueRange = AUTO_RANGE
    processes: int | None = None

    def __post_init__(self) -> None:
        """Check what can be checked before any work is done."""
        find_protocol(self.protocol)
        thresholds(self.interval)
        ViewSettings.__post_init__(self)

    @property
    def rules(self) -> BoxRules:
        """Views and boxes of the protocol; protocols over many thresholds have the views of ``fam``."""
        return BOX_RULES.get(self.protocol, BOX_RULES["fam"])


@dataclass(frozen=True, slots=True)
class BoxScores:
    """One way of making boxes, on n images, at T thresholds."""

    taus: FloatArray  # (T,) on the map, ascending; one that is NaN where there is no map
    ious: npt.NDArray[np.float64]  # (n, T) the box's best IoU with any of the image's; NOWHERE without a box
    boxes: npt.NDArray[np.floating]  # (n, T, 4) half-open xyxy in the protocol's frame; NaN without a box
    foreground: npt.NDArray[np.float32]  # (n, T) mean of the map in the box's region, or the score of a box; 0 without
    ranks: npt.NDArray[np.int64] | None = None  # (n,) place of the right class, from 0; none where classes do not apply
    strict: bool = False  # a box is right when its IoU is greater than 0.5, and not from 0.5 on
    top5: bool = True  # more than one class was named, so that the best five mean something

    @classmethod
    def empty(cls, n: int, taus: Sequence[float], *, ranked: bool, strict: bool) -> BoxScores:
        """No box of any image yet."""
        T = len(taus)
        boxes, foreground = np.full((n, T, 4), np.nan, np.float32), np.zeros((n, T), np.float32)
        ranks = np.zeros(n, np.int64) if ranked else None
        return cls(np.array(taus, np.float64), np.full((n, T), NOWHERE), boxes, foreground, ranks, strict)

    def take(self, images: Sequence[int]) -> BoxScores:
        """Those of some images."""
        columns = {name: getattr(self, name)[images] for name in ("ious", "boxes", "foreground")}
        return replace(self, **columns, ranks=None if self.ranks is None else self.ranks[images])

    def right(self) -> npt.NDArray[np.bool_]:
        """``(n, T)``: whether the box is right at each threshold."""
        return self.ious > RIGHT_IOU if self.strict else self.ious >= RIGHT_IOU

    def best(self) -> int:
        """Index of the threshold with the most right boxes, the lowest of equal ones: an oracle's choice."""
        return int(self.right().sum(axis=0).argmax())

    def nearest(self, tau: float) -> int:
        """Index of the threshold nearest to ``tau``."""
        return int(np.abs(self.taus - tau).argmin())

    def scores(self, at: int) -> dict[str, FloatArray]:
        """Per-image scores ``(n,)`` in [0, 1] at one threshold; their means are the metrics, with the same names."""
        right = self.right()[:, at]
        found: dict[str, FloatArray] = {"gt_known": right.astype(np.float64)}
        if self.ranks is not None:
            for k in (1, 5) if self.top5 else (1,):
                known = self.ranks < k
                found[f"top{k}_loc"] = (right & known).astype(np.float64)
                found[f"top{k}_cls"] = known.astype(np.float64)
        found["mean_iou"] = self.ious[:, at].clip(0)
        return found


@dataclass(frozen=True, slots=True)
class PerImage:
    """Per-image results of n images."""

    samples: list[Sample]  # those that were scored, in the order of the split
    sizes: list[tuple[int, int]]  # (h, w) of each original
    truths: list[FloatArray]  # boxes (N, 4) of each image that counted, in the protocol's frame
    scores: dict[str, BoxScores]  # by title of a model, PREDICTIONS, or a name of FIXED_BOXES
    maps: dict[str, list[np.ndarray]]  # by title of a model, (h, w) float32 in [0, 1] of each image
    classes: list[tuple[tuple[int, float], ...]]  # the most probable of each image, index and probability, if any
    confidence: FloatArray  # (n,) what scores of boxes as detections are multiplied by
    rules: BoxRules
    side: int  # pixels of the network's input, which is the frame of a cropped protocol
    # By title of a model that gives boxes, (4,) of each image, half-open xyxy in shares of the input.
    given: Mapping[str, list[np.ndarray]] = field(default_factory=dict)

    def raw_maps(self, title: str) -> Sequence[np.ndarray | BoxedMap]:
        """The maps of a model, each with its box if the model gives it."""
        maps, given = self.maps[title], self.given.get(title)
        return maps if given is None else [BoxedMap(M, box) for M, box in zip(maps, given, strict=True)]

    def with_fixed_boxes(self) -> PerImage:
        """The same, and what the centre box and the whole image get right."""
        boxes: dict[str, list[npt.ArrayLike]] = {name: [] for name in FIXED_BOXES}
        low, high = (1 - CENTRE_SIDE) / 2, 1 - (1 - CENTRE_SIDE) / 2
        for size_hw in self.sizes:
            h, w = self.rules.frame_hw(size_hw, self.side)
            boxes["centre"].append((w * low, h * low, w * high, h * high))
            boxes["whole"].append((0, 0, w, h))
        ones = np.ones(len(self.samples))
        fixed = {name: _from_boxes(of, ones, self.truths, self.rules.strict) for name, of in boxes.items()}
        return replace(self, scores={**self.scores, **fixed})


def fit_models(models: Sequence[Model], samples: Sequence[Sample], settings: EvaluationSettings) -> None:
    """Make the first pass over the images of a split, of the models that are fitted to them."""
    for model in models:

        def load(sample: Sample, side: int = model.engine.config.size) -> np.ndarray:
            with open_sample(sample, side, settings.value_range) as picture:
                return settings.rules.view(picture.image, side)

        def label(sample: Sample, model: Model = model) -> int | None:
            return model.class_of(sample) if settings.same_classes else None

        fit_to_images(model.engine, samples, load, label, settings.batch_size, settings.workers)


def run_models(
    models: Sequence[Model],
    samples: Sequence[Sample],
    taus: Sequence[float],
    settings: EvaluationSettings,
    on_images: Callable[[int], object] = lambda _: None,
) -> PerImage:
    """Run models over labelled images and compare their boxes; those that share a backbone run it once.

    Thresholds are ascending; with none there are maps and classes alone, and images need no box. A model that gives
    boxes has no threshold.
    """
    rules, run = settings.rules, _Run(models, samples, settings)
    columns = {}
    for model in models:
        own = [np.nan] if taus and model.engine.gives_boxes else taus
        columns[model.title] = BoxScores.empty(len(samples), own, ranked=settings.same_classes, strict=rules.strict)

    def finish(number: int, loaded: _Views, answers: _Answers) -> _Finished:
        size_hw = loaded[0]
        truth, frame_hw = rules.truth(samples[number].boxes, size_hw, run.side), rules.frame_hw(size_hw, run.side)
        for model, (M, probabilities, box) in zip(models, answers, strict=True):
            column = columns[model.title]
            regions: Sequence[Region | None] = ()
            if taus:
                regions = localize_at(M, frame_hw, taus) if box is None else localize_box(M, frame_hw, box).regions
            for t, region in enumerate(regions):
                if region is not None:
                    column.ious[number, t] = box_iou(region.xyxy, truth).max()
                    column.boxes[number, t] = region.xyxy
                    column.foreground[number, t] = region.foreground
            if column.ranks is not None:
                column.ranks[number] = rank(probabilities, model.class_of(samples[number]))
        best = np.argsort(-answers[0][1], kind="stable")[:MAX_SHOWN_CLASSES]
        classes = tuple((int(i), float(answers[0][1][i])) for i in best)
        return number, size_hw, truth, classes, answers

    done: list[_Finished] = []
    size, workers = settings.batch_size, settings.workers
    for result in run_images(range(len(samples)), run.load, run.infer, finish, batch_size=size, workers=workers):
        if not isinstance(result, Failed):
            done.append(result)
            on_images(1)
        elif not settings.allow_missing or not isinstance(result.error, DataError):
            raise result.error
    confidence = [classes[0][1] if settings.same_classes else 1.0 for _, _, _, classes, _ in done]
    return PerImage(
        samples=[samples[number] for number, *_ in done],
        sizes=[size_hw for _, size_hw, *_ in done],
        truths=[truth for _, _, truth, *_ in done],
        scores={title: column.take([number for number, *_ in done]) for title, column in columns.items()},
        maps={title: [answers[i][0] for *_, answers in done] for i, title in enumerate(columns)},
        classes=[classes for *_, classes, _ in done],
        confidence=np.array(confidence, np.float64),
        rules=rules,
        side=run.side,
        given={
            model.title: [box for *_, answers in done if (box := answers[i][2]) is not None]
            for i, model in enumerate(models)
            if model.engine.gives_boxes
        },
    )


class _Run:
    """The first two stages of running models over images: an image to its views, and views to what the models say."""

    def __init__(self, models: Sequence[Model], samples: Sequence[Sample], settings: EvaluationSettings) -> None:
        if settings.same_classes:
            for model in models:
                if model.classes is None:
                    check_labels(samples, model.engine.config.num_classes)
        self.models, self.samples, self.rules = models, samples, settings.rules
        self.same_classes, self.engines = settings.same_classes, [model.engine for model in models]
        self.ten_crop = settings.crops > 1 and self.same_classes and settings.protocol in BOX_RULES
        self.side, self.settings = self.engines[0].config.size, settings
        self.sides = sorted({side for engine in self.engines for side in self._sides(engine)})

    def _sides(self, engine: Engine[Any]) -> list[int]:
        scales = self.settings.views.scales
        return [engine.config.size] if scales == (1.0,) else input_sides(engine.config, scales)

    def load(self, number: int) -> _Views:
        sample, sides = self.samples[number], self.sides
        own = {engine.config.size for engine in self.engines} if self.ten_crop else ()
        # As `fam predict` does:
        with open_sample(sample, sides[-1], self.settings.value_range) as (image, size_hw, _):
            views = {side: self.rules.view(image, side) for side in sides}
            return size_hw, views, {side: ten_crops(image, side) for side in own}

    def infer(self, batch: Sequence[tuple[int, _Views]]) -> list[_Answers]:
        stacked = {side: np.stack([views[side] for _, (_, views, _) in batch]) for side in self.sides}
        inferred = [self._infer(model, batch, stacked) for model in self.models]
        probabilities = self._of_crops(batch) if self.ten_crop else [found.probabilities for found in inferred]
        answers: list[_Answers] = [[] for _ in batch]
        for model, found, of_images in zip(self.models, inferred, probabilities, strict=True):
            boxes = [None] * len(batch) if found.boxes is None else found.boxes
            each = zip(batch, answers, found.maps, of_images, boxes, strict=True)
            for (number, _), answer, M, of_classes, box in each:
                if not (np.isfinite(M).all() and np.isfinite(of_classes).all()):
                    what = f"what {model.title} says of '{self.samples[number].name}' is not finite"
                    raise WeightsError(f"{what}: the weights are damaged; check with fam verify")
                answer.append((M, of_classes, box))
        return answers

    def _infer(self, model: Model, batch: Sequence[tuple[int, _Views]], stacked: Mapping[int, np.ndarray]) -> Inference:
        samples, settings = [self.samples[number] for number, _ in batch], self.settings
        sides = self._sides(model.engine)

        def cut(i: int, box: np.ndarray) -> list[np.ndarray]:
            with open_sample(samples[i], closer(sides[-1], box), settings.value_range) as picture:
                return [self.rules.view(picture.image, side, box) for side in sides]

        return infer_views(
            model.engine,
            [stacked[side] for side in sides],
            [model.class_of(sample) for sample in samples] if self.same_classes else None,
            settings.views,
            cut,
            tau=model.engine.config.tau,
            workers=settings.workers,
        )

    def _of_crops(self, batch: Sequence[tuple[int, _Views]]) -> list[np.ndarray]:
        """Class probabilities ``(B, L)`` of each model, averaged over crops; a shared backbone runs once a crop."""
        unknown, found = np.full(len(batch), UNKNOWN), []
        for crop in range(len(batch[0][1][2][self.side])):
            sides = batch[0][1][2]
            stacked = {side: np.stack([crops[side][crop] for _, (_, _, crops) in batch]) for side in sides}
            runs = [(engine, engine.run(stacked[engine.config.size], unknown)) for engine in self.engines]
            found.append([engine.probabilities(out) for engine, out in runs])
        return [np.mean(of_crops, axis=0) for of_crops in zip(*found, strict=True)]


def rank(probabilities: npt.NDArray[np.floating], label: int) -> int:
    """Place of the right class among ``(L,)`` probabilities, 0 for the best; a tie, and a NaN, count as worse."""
    return int((~(probabilities < probabilities[label])).sum()) - 1


def count_right(network: Method, samples: Sequence[Sample], device: str, batch_size: int = 32) -> int:
    """Images that are right by protocol ``fam`` at the model's own τ, whatever the class; weights stay as they are."""
    from famcli.inference.torch_engine import TorchEngine

    model = Model(TorchEngine(network, device, fold=False), network.title)
    found = run_models([model], samples, [network.config.tau], EvaluationSettings(batch_size=batch_size))
    return int(found.scores[model.title].right().sum())


def score_boxes(
    found: Sequence[Found],
    samples: Sequence[Sample],
    sizes: Sequence[tuple[int, int]],
    settings: EvaluationSettings,
    side: int,
) -> PerImage:
    """Compare boxes that were found elsewhere: of each image the box of the highest score.

    Classes are in the order of their best scores, each once; the box serves them all. A cropped protocol's frame has
    ``side`` pixels.
    """
    rules, same_classes = settings.rules, settings.same_classes
    truths = [rules.truth(sample.boxes, size_hw, side) for sample, size_hw in zip(samples, sizes, strict=True)]
    boxes = [rules.to_frame(f.boxes[:1], size_hw, side) for f, size_hw in zip(found, sizes, strict=True)]
    scores = [f.scores[0] if len(f.scores) else 0.0 for f in found]
    named: list[dict[int, float]] = []
    for one in found:
        named.append({})
        for label, score in zip(one.labels.tolist(), one.scores.tolist(), strict=True):
            named[-1].setdefault(label, score)
    compared = _from_boxes(boxes, scores, truths, rules.strict)
    if same_classes:
        ranks = [list(of).index(s.label) if s.label in of else UNNAMED for of, s in zip(named, samples, strict=True)]
        compared = replace(compared, ranks=np.array(ranks, np.int64), top5=max(map(len, named), default=0) > 1)
    # Only what can be read as a class of the data and its probability; scores of other tools may be anything.
    shown = [
        tuple((label, score) for label, score in of.items() if label >= 0)[:MAX_SHOWN_CLASSES]
        if same_classes and all(0 <= score <= 1 for score in of.values())
        else ()
        for of in named
    ]
    scored, ones = {PREDICTIONS: compared}, np.ones(len(samples))
    return PerImage(list(samples), list(sizes), truths, scored, {}, shown, ones, rules, side)


def _from_boxes(
    boxes: Sequence[npt.ArrayLike], scores: npt.ArrayLike, truths: Sequence[FloatArray], strict: bool
) -> BoxScores:
    """One box, or none, of a score for each image, without a threshold."""
    found = [np.asarray(box, np.float64).reshape(-1, 4) for box in boxes]
    return BoxScores(
        np.array([np.nan]),
        np.array([[box_iou(f, truth).max() if len(f) else NOWHERE] for f, truth in zip(found, truths, strict=True)]),
        np.array([f if len(f) else np.full((1, 4), np.nan) for f in found]).reshape(-1, 1, 4),
        np.asarray(scores, np.float32)[:, None],
        strict=strict,
    )

"""Evaluate a model, score maps or boxes on a split of a dataset: from what is asked for to the result."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from famcli.checkpoints.doctor import package_versions
from famcli.data.dataset import Dataset, open_dataset
from famcli.data.masks import MaskSource, covered, find_masks
from famcli.data.sample import FULLSUP, TEST, Sample, split_name
from famcli.demo import demo_dataset
from famcli.evaluation.bootstrap import LEVEL, RESAMPLES, SEED, Bootstrap
from famcli.evaluation.external import Found, find_maps, read_predictions, some_names
from famcli.evaluation.metrics.box import INTERVAL, SIDE, thresholds
from famcli.evaluation.metrics.coco import average_precision
from famcli.evaluation.models import Model, find_models, source
from famcli.evaluation.perimage import FIXED_BOXES, PREDICTIONS, TAUS, PerImage, run_models, score_predictions
from famcli.evaluation.protocols import BOX_RULES, PROTOCOLS, VERSIONS, find_protocol
from famcli.evaluation.rows import (
    ORACLE,
    ScoredRow,
    class_rows,
    detection_precision,
    differences,
    image_results,
    score_row,
)
from famcli.evaluation.thresholds import (
    Raw,
    count_maps,
    fixed_rows,
    mask_metrics,
    stated_size,
    threshold_images,
    threshold_row,
)
from famcli.results.images import ImageResult
from famcli.results.schema import SMOKE, Number, Results
from famcli_models.checkpoint import DEFAULT_MODEL
from famcli_models.errors import ConfigError, DataError

if TYPE_CHECKING:
    from famcli_models.methods.method import Method


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """How to evaluate.

    Attributes:
        split: Split of the data.
        protocol: A name of :data:`famcli.evaluation.protocols.PROTOCOLS`.
        crops: 1, or 10 for the mean class scores of ten crops.
        interval: From one threshold to the next, of protocols that try many.
        same_classes: The labels are classes of the model, or of the predictions; if not, boxes alone are scored.
        allow_missing: Score the images that have a prediction, map or readable file, and mark the result as partial.
        device: See :func:`famcli.inference.torch_engine.pick_device`.
        batch_size: Images per forward pass.
        workers: Threads that decode and find boxes.
        processes: Processes that try thresholds; all cores if not given.
    """

    split: str = TEST
    protocol: str = "fam"
    crops: int = 1
    interval: float = INTERVAL
    same_classes: bool = True
    allow_missing: bool = False
    device: str = "auto"
    batch_size: int = 32
    workers: int = 2
    processes: int | None = None

    def __post_init__(self) -> None:
        """Check what can be checked before any work is done."""
        find_protocol(self.protocol)
        thresholds(self.interval)
        if self.crops not in {1, 10}:
            msg = f"crops is {self.crops}; it must be 1 or 10"
            raise ConfigError(msg)


@dataclass(slots=True)
class Evaluation:
    """What came out.

    Attributes:
        results: The numbers and all that belongs to them.
        images: Gives the per-image results one by one, for :func:`famcli.results.images.write_images`.
    """

    results: Results
    images: Callable[[], Iterator[ImageResult]] = field(repr=False)


def evaluate(
    data: Dataset | str | Path | None = None,
    model: str | Path | Method = DEFAULT_MODEL,
    settings: EvaluationSettings | None = None,
    *,
    method: str | None = None,
    baseline: str | Path | Method | None = None,
    maps: Path | None = None,
    predictions: Path | None = None,
    masks: Path | None = None,
    say: Callable[[str], None] | None = None,
    on_images: Callable[[int], None] = lambda _: None,
    **changes: Any,
) -> Evaluation:
    """Measure localization, beside a baseline, a centre box and the whole image; what ``fam eval`` runs.

    Args:
        data: A dataset, the name of a prepared one, or the path of own data; without it three photographs are
            scored, which is a check that the program works and no more.
        model: The model under test: a packaged name, the folder of a checkpoint, a name on the Hub, or a model.
        settings: See :class:`EvaluationSettings`.
        method: With a name or a folder, see :func:`famcli_models.load_model`.
        baseline: Another model to compare with; by default the CAM of the model's own features, if it has one.
        maps: Folder of another tool's score maps, instead of a model.
        predictions: File of boxes found elsewhere, instead of a model.
        masks: Folder of masks, if they are not where a dataset has them.
        say: Called with sentences that a user should know.
        on_images: Called with the number of images that were done since the last call.
        **changes: Fields of :class:`EvaluationSettings` to change, for example ``protocol="psol"``.

    Raises:
        ConfigError: What is asked for does not go together.
        DataError: Data, maps or predictions cannot be read, or are of other images.

    Example:
        ```python
        from famcli import evaluate

        results = evaluate("cub", "runs/cub").results
        print(results.rows[0].metrics["gt_known"])
        ```
    """
    settings = replace(settings or EvaluationSettings(), **changes)
    problem = conflict(settings.protocol, data is not None, maps, predictions, masks)
    if problem:
        raise ConfigError(problem)
    talk = say or (lambda _: None)
    dataset = demo_dataset() if data is None else data if isinstance(data, Dataset) else open_dataset(data)
    for remark in dataset.remarks:
        talk(remark)
    over_maps = settings.protocol in VERSIONS
    truth = Truth.read(dataset, settings.split, masks, over_maps)
    elsewhere = maps or predictions
    models = [] if elsewhere else find_models(model, method, baseline, settings.same_classes, say)
    if predictions is not None:
        scored = _score_predictions(predictions, dataset, truth, settings, talk)
    elif over_maps:
        scored = _score_thresholds(models, maps, truth, settings, talk, on_images)
    else:
        scored = _score_boxes(models, dataset, truth, settings, talk, on_images)
    here, rows, bootstrap, images = scored
    own = models[0].network.class_names if models else ()
    names = dataset.class_names or (own if settings.same_classes else ())
    kind = "maps" if maps is not None else "predictions"
    curve = thresholds(settings.interval) if rows[0].boxes is None else rows[0].boxes.taus
    results = Results(
        kind=SMOKE if data is None else "evaluation",
        created=dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        data={
            "name": dataset.name,
            "split": settings.split,
            **here.facts(),
            "images_of_split": len(truth.samples),
            "partial": len(here.samples) < len(truth.samples),
            "class_names": tuple(names),
        },
        source={**(source(models) if models else {"kind": kind, "name": str(elsewhere)}), "class_names": own},
        protocol={
            "name": settings.protocol,
            "interval": settings.interval if over_maps or covered(here.masks) else None,
            "crops": None if over_maps else settings.crops,
            "rules": asdict(PROTOCOLS[settings.protocol]),
        },
        same_classes=settings.same_classes,
        rows=tuple(r.row for r in rows),
        taus=() if rows[0].row.curve is None else tuple(curve.tolist()),
        differences=differences(rows, bootstrap),
        classes=class_rows(rows[0], np.array([sample.label for sample in here.samples]), names),
        bootstrap={"resamples": RESAMPLES, "seed": SEED, "level": LEVEL},
        versions=package_versions(),
    )
    return Evaluation(results, images)


def conflict(protocol: str, data: bool, maps: Path | None, predictions: Path | None, masks: Path | None) -> str | None:
    """Why some arguments do not go together, if they do not; ``data`` says whether data is given."""
    over_maps = " or ".join(VERSIONS)
    if maps and predictions:
        return "give maps or predictions, not both"
    if (maps or predictions) and not data:
        return f"{'--maps' if maps else '--predictions'} are of images that --data names: give it"
    if maps and protocol not in VERSIONS:
        return f"maps are scored at many thresholds: --maps needs --protocol {over_maps}"
    if predictions and protocol in VERSIONS:
        return f"predictions are boxes, and these protocols threshold maps: leave out --protocol {over_maps}"
    if predictions and masks:
        return "predictions are boxes, and masks are compared with maps: leave out --masks"
    return None


@dataclass(frozen=True, slots=True)
class Truth:
    """Images of a split with their boxes, and where the masks of each are, or ``None``."""

    samples: list[Sample]
    masks: list[MaskSource | None]

    @classmethod
    def read(cls, dataset: Dataset, split: str, masks: Path | None, over_maps: bool) -> Truth:
        """Read a split: each image with a box, or, for protocols over maps, none with a box and some with masks.

        Raises:
            DataError: The split cannot be read, or an image has no box.
        """
        samples = dataset.samples(split, with_boxes=True, boxes_optional=True)
        found = find_masks(dataset, samples, masks)
        boxed = sum(bool(len(s.boxes)) for s in samples)
        if boxed < len(samples) and (boxed or not over_maps or not covered(found)):
            samples = dataset.samples(split, with_boxes=True)  # names the image without a box, or the file that lacks
        return cls(samples, found)

    def without(self, names: Collection[str]) -> Truth:
        """The same less some images."""
        gone = set(names)
        pairs = [pair for pair in zip(self.samples, self.masks, strict=True) if pair[0].name not in gone]
        return Truth([sample for sample, _ in pairs], [masks for _, masks in pairs])

    def facts(self) -> dict[str, Any]:
        """Numbers of images, boxes and masks, and a hash of names, labels and boxes."""
        digest = hashlib.sha256()
        for sample in self.samples:
            line = f"{sample.name}\n{sample.label}\n{sample.boxes.tolist()}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
        return {
            "images": len(self.samples),
            "boxes": sum(len(sample.boxes) for sample in self.samples),
            "masks": covered(self.masks),
            "sha256": digest.hexdigest(),
        }


# The images that were scored, the rows, what their intervals are of, and the per-image results.
_Scored = tuple[Truth, list[ScoredRow], Bootstrap, Callable[[], Iterator[ImageResult]]]
_Say = Callable[[str], None]


def _leave_out(truth: Truth, names: Sequence[str], what: str, settings: EvaluationSettings, say: _Say) -> Truth:
    """Refuse images that cannot be scored, or say that they are left out; ``what`` comes after "3 of 5 images"."""
    total = len(truth.samples)
    if names and not settings.allow_missing:
        msg = (
            f"{len(names):,} of {total:,} images {what}: {some_names(names)}; --allow-missing scores the others and "
            "marks the result as partial"
        )
        raise DataError(msg)
    if len(names) == total:
        msg = f"all {total:,} images {what}, so there is nothing to score"
        raise DataError(msg)
    if names:
        say(f"partial: {len(names):,} of {total:,} images {what} and were left out")
    return truth.without(names)


def _run(
    models: Sequence[Model],
    samples: Sequence[Sample],
    taus: Sequence[float],
    settings: EvaluationSettings,
    on_images: Callable[[int], None] = lambda _: None,
) -> PerImage:
    return run_models(
        models,
        samples,
        taus,
        rules=BOX_RULES.get(settings.protocol, BOX_RULES["fam"]),
        ten_crop=settings.crops > 1,
        same_classes=settings.same_classes,
        allow_missing=settings.allow_missing,
        device=settings.device,
        batch_size=settings.batch_size,
        workers=settings.workers,
        on_images=on_images,
    )


def _readable(truth: Truth, found: PerImage, settings: EvaluationSettings, say: _Say) -> Truth:
    """The images that could be read."""
    read = {sample.name for sample in found.samples}
    unreadable = [sample.name for sample in truth.samples if sample.name not in read]
    return _leave_out(truth, unreadable, "could not be read", settings, say)


def _tried(models: Sequence[Model]) -> list[float]:
    """Thresholds of the curve, the models' own among them."""
    return sorted({*TAUS, *(model.network.config.tau for model in models)})


def _score_boxes(
    models: Sequence[Model],
    dataset: Dataset,
    truth: Truth,
    settings: EvaluationSettings,
    say: _Say,
    on_images: Callable[[int], None],
) -> _Scored:
    """Models by a protocol with one box an image: the first at its own τ, and baselines at the best for them.

    A map of a class is scaled image by image: no threshold means the same on all, so it has the best τ too.
    """
    chosen = [model for i, model in enumerate(models) if i or model.network.class_conditional]
    choosing = _choosing(dataset, settings, say) if chosen else []
    found = _run(models, truth.samples, _tried(models), settings, on_images)
    here = _readable(truth, found, settings, say)
    on_fullsup = _run(chosen, choosing, _tried(chosen), settings).scores if choosing else {}
    found = found.with_fixed_boxes()
    if found.rules.cropped and covered(here.masks):
        say(f"{settings.protocol} crops images, and masks are of whole images: PxAP and pIoU are left out")
        here = Truth(here.samples, [None] * len(here.samples))
    of_masks = _mask_metrics(found, here.masks, settings) if covered(here.masks) else {}
    bootstrap = Bootstrap(len(found.samples))
    rows: list[ScoredRow] = []

    def add(name: str, title: str, at: int, tau_from: str, **more: Any) -> None:
        rows.append(score_row(found, name, title, at, tau_from, bootstrap, of_masks.get(name), **more))

    for model in models:
        name, scores = model.title, found.scores[model.title]
        if model is models[0]:
            at = scores.nearest(model.network.config.tau)
            add(name, name, at, "fixed", coco=detection_precision(found, name, at))
        if model in chosen:
            add(name, f"{name}, oracle τ", scores.best(), ORACLE)
        if name in on_fullsup and len(on_fullsup[name].ious):
            best = on_fullsup[name].taus[on_fullsup[name].best()]
            add(name, f"{name}, τ of {FULLSUP}", scores.nearest(best), FULLSUP)
    for name, title in FIXED_BOXES.items():
        add(name, title, 0, "")
    return here, rows, bootstrap, partial(image_results, found, rows)


def _choosing(dataset: Dataset, settings: EvaluationSettings, say: _Say) -> list[Sample]:
    """Images of the split that is there to choose τ on; none if the data have no such split with boxes."""
    if split_name(settings.split) == FULLSUP or FULLSUP not in dataset.splits():
        return []
    samples = dataset.samples(FULLSUP, with_boxes=True, boxes_optional=True)
    if all(len(sample.boxes) for sample in samples):
        return samples
    say(f"{FULLSUP} has images without a box, so no τ can be chosen on it")
    return []


def _mask_metrics(
    found: PerImage, masks: Sequence[MaskSource | None], settings: EvaluationSettings
) -> dict[str, dict[str, Number]]:
    """PxAP and pIoU of each model's maps."""
    samples = [replace(s, size_hw=size_hw) for s, size_hw in zip(found.samples, found.sizes, strict=True)]
    count = partial(count_maps, version=None, interval=settings.interval, processes=settings.processes)
    return {name: mask_metrics(count(samples, maps, masks).masks) for name, maps in found.maps.items()}


def _score_predictions(path: Path, dataset: Dataset, truth: Truth, settings: EvaluationSettings, say: _Say) -> _Scored:
    """Boxes that were found elsewhere, by a protocol with one box an image."""
    read = read_predictions(path, dataset, truth.samples, settings.same_classes)
    lacking = [sample.name for sample, found in zip(truth.samples, read, strict=True) if found is None]
    samples = _leave_out(truth, lacking, f"are not in '{path}'", settings, say).samples
    predictions, sizes = [found for found in read if found is not None], [stated_size(sample) for sample in samples]
    rules = BOX_RULES[settings.protocol]
    found = score_predictions(predictions, samples, sizes, rules, SIDE, settings.same_classes).with_fixed_boxes()
    bootstrap = Bootstrap(len(samples))
    coco = _precision_of_all(predictions, found, settings.same_classes)
    rows = [score_row(found, PREDICTIONS, PREDICTIONS, 0, "", bootstrap, coco=coco)]
    rows += [score_row(found, name, title, 0, "", bootstrap) for name, title in FIXED_BOXES.items()]
    return Truth(samples, [None] * len(samples)), rows, bootstrap, partial(image_results, found, rows)


def _precision_of_all(predictions: Sequence[Found], found: PerImage, same_classes: bool) -> dict[str, float]:
    """COCO's average precision of all boxes, and not of the best of each image alone."""
    images = np.repeat(np.arange(len(predictions)), [len(p.boxes) for p in predictions])
    pairs = zip(predictions, found.sizes, strict=True)
    boxes = np.concatenate([found.rules.to_frame(p.boxes, size_hw, found.side) for p, size_hw in pairs])
    labels = np.concatenate([p.labels if same_classes else np.zeros(len(p.boxes), np.int64) for p in predictions])
    truth_labels = [sample.label if same_classes else 0 for sample in found.samples]
    scores = np.concatenate([p.scores for p in predictions])
    return average_precision(found.truths, truth_labels, boxes, labels, scores, images)


def _score_thresholds(
    models: Sequence[Model],
    folder: Path | None,
    truth: Truth,
    settings: EvaluationSettings,
    say: _Say,
    on_images: Callable[[int], None],
) -> _Scored:
    """Maps of models, or of another tool, by a protocol over many thresholds."""
    maps: dict[str, list[Raw]]
    if folder is not None:
        names = [sample.name for sample in truth.samples]
        paths = find_maps(folder, names, allow_missing=settings.allow_missing)
        lacking = [name for name, path in zip(names, paths, strict=True) if path is None]
        here = _leave_out(truth, lacking, f"have no map in '{folder}'", settings, say)
        maps = {"maps": [path for path in paths if path is not None]}
    else:
        size = models[0].network.config.size
        if size != SIDE:
            say(f"the model's input is {size} pixels, the protocol's is {SIDE}: say so with the number")
        found = _run(models, truth.samples, (), settings, on_images)
        here, maps = _readable(truth, found, settings, say), {name: list(of) for name, of in found.maps.items()}
    samples = [replace(sample, size_hw=stated_size(sample)) for sample in here.samples]
    version = VERSIONS[settings.protocol] if len(samples[0].boxes) else None
    if version is None:
        say("the data have masks and no boxes: PxAP and pIoU alone are measured")
    bootstrap = Bootstrap(len(samples))
    rows = []
    for name, raw in maps.items():
        counts = count_maps(
            samples,
            raw,
            here.masks,
            version=version,
            interval=settings.interval,
            processes=settings.processes,
            on_images=on_images if folder is not None else lambda _: None,
        )
        rows.append(threshold_row(name, counts, version, bootstrap))
        if counts.boxes.as_is:
            say(f"{counts.boxes.as_is} of {len(raw)} maps were of the protocol's own form and taken as they are")
    rows += fixed_rows(samples, version, bootstrap) if version else []
    return here, rows, bootstrap, partial(threshold_images, samples, maps, rows, version)

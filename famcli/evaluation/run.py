"""Evaluate a model, score maps or boxes on a split of a dataset: from what is asked for to the result.

An evaluation has two halves. What takes time, models and thresholds image by image, is measured, and several processes
may each take a share of the images. One process then makes rows and intervals of all that was measured.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from famcli.checkpoints.doctor import package_versions
from famcli.data.dataset import Dataset, open_dataset
from famcli.data.masks import MaskSource, covered, find_masks
from famcli.data.sample import FULLSUP, Sample, sha256_samples, split_name
from famcli.demo import demo_dataset
from famcli.evaluation.bootstrap import LEVEL, RESAMPLES, SEED, Bootstrap
from famcli.evaluation.external import Found, find_maps, read_predictions, some_names
from famcli.evaluation.metrics.box import SIDE, thresholds
from famcli.evaluation.metrics.coco import average_precision
from famcli.evaluation.models import Model, find_models, match_classes, source
from famcli.evaluation.parts import Measured
from famcli.evaluation.perimage import (
    FIXED_BOXES,
    PREDICTIONS,
    BoxScores,
    EvaluationSettings,
    PerImage,
    fit_models,
    run_models,
    score_boxes,
)
from famcli.evaluation.protocols import PROTOCOLS, VERSIONS, find_protocol
from famcli.evaluation.rows import ORACLE, ScoredRow, box_precision, class_rows, differences, image_results, score_row
from famcli.evaluation.thresholds import (
    Counts,
    Raw,
    count_maps,
    fixed_rows,
    map_images,
    map_row,
    mask_metrics,
    stated_size,
)
from famcli.results.images import ImageResult
from famcli.results.schema import SMOKE, Results
from famcli_models.checkpoint import DEFAULT_MODEL
from famcli_models.errors import ConfigError, DataError

if TYPE_CHECKING:
    from famcli_models.methods.method import Method

MAPS = "maps"  # the name of another tool's maps
TAUS = tuple(round(0.05 * i, 2) for i in range(1, 20))  # of curves, and those an oracle chooses from


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
    on_images: Callable[[int], object] = lambda _: None,
    **changes: Any,
) -> Evaluation:
    """Measure localization, beside a baseline, a centre box and the whole image; what ``fam eval`` runs.

    Args:
        data: A dataset, the name of a prepared one, or the path of own data; without it four photographs are
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
    run = EvaluationRun.prepare(
        data,
        model,
        settings,
        method=method,
        baseline=baseline,
        maps=maps,
        predictions=predictions,
        masks=masks,
        say=say,
        on_images=on_images,
    )
    return run.results(run.measure())


def conflict(
    protocol: str, crops: int, data: bool, maps: Path | None, boxes: Path | None, masks: Path | None, model: str = ""
) -> str | None:
    """Why arguments do not go together, if they do not; ``data``: it is given, ``model``: options of it that are."""
    find_protocol(protocol)
    over_maps, other, option = " or ".join(VERSIONS), maps or boxes, "--maps" if maps else "--predictions"
    no_boxes = f"predictions are boxes, and these protocols threshold maps: leave out --protocol {over_maps}"
    problems = [
        (maps and boxes, "give maps or predictions, not both"),
        (other and not data, f"{option} are of images that --data names: give it"),
        (maps and protocol not in VERSIONS, f"maps are scored at many thresholds: --maps needs --protocol {over_maps}"),
        (other and model, f"give a model or {option}, not both: leave out {model}"),
        (boxes and protocol in VERSIONS, no_boxes),
        (boxes and masks, "predictions are boxes, and masks are compared with maps: leave out --masks"),
        (crops not in {1, 10}, f"--crops is {crops}; it must be 1 or 10"),
    ]
    return next((message for wrong, message in problems if wrong), None)


def read_split(
    dataset: Dataset, split: str, folder: Path | None, over_maps: bool
) -> tuple[list[Sample], dict[str, MaskSource]]:
    """Images of a split, and by name where the masks of an image are, if it has any.

    Each image has a box, or, for protocols over maps, none has and some have masks; other splits are refused.
    """
    samples = dataset.samples(split, with_boxes=True, boxes_optional=True)
    sources = find_masks(dataset, samples, folder)
    masks = {sample.name: source for sample, source in zip(samples, sources, strict=True) if source is not None}
    boxed = sum(bool(len(sample.boxes)) for sample in samples)
    if boxed < len(samples) and (boxed or not over_maps or not masks):
        samples = dataset.samples(split, with_boxes=True)  # names the image without a box, or the file that lacks
    return samples, masks


class _Scored(NamedTuple):
    """The images that were scored and how many have masks, the rows, their resamples, and the per-image results."""

    samples: Sequence[Sample]
    masks: int
    rows: list[ScoredRow]
    bootstrap: Bootstrap
    images: Callable[[], Iterator[ImageResult]]


def _all(total: int) -> slice:
    return slice(total)


def _nothing(_: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class EvaluationRun:
    """One evaluation: its images, where the masks of some are, what finds their boxes, and how these are scored."""

    dataset: Dataset
    smoke: bool  # no data were named
    samples: Sequence[Sample]
    masks: Mapping[str, MaskSource]
    models: Sequence[Model]
    maps: Path | None  # folder of another tool's maps
    predictions: Path | None  # file of boxes found elsewhere
    settings: EvaluationSettings
    say: Callable[[str], None]
    on_images: Callable[[int], object]

    @classmethod
    def prepare(
        cls,
        data: Dataset | str | Path | None,
        model: str | Path | Method,
        settings: EvaluationSettings,
        *,
        method: str | None = None,
        baseline: str | Path | Method | None = None,
        maps: Path | None = None,
        predictions: Path | None = None,
        masks: Path | None = None,
        say: Callable[[str], None] | None = None,
        on_images: Callable[[int], object] = _nothing,
    ) -> EvaluationRun:
        """Read the models, and of the data all but the images; arguments and errors are those of :func:`evaluate`."""
        problem = conflict(settings.protocol, settings.crops, data is not None, maps, predictions, masks)
        if problem:
            raise ConfigError(problem)
        dataset = demo_dataset() if data is None else data if isinstance(data, Dataset) else open_dataset(data)
        talk = say or (lambda _: None)
        for remark in dataset.remarks:
            talk(remark)
        samples, sources = read_split(dataset, settings.split, masks, settings.protocol in VERSIONS)
        models = []
        if not (maps or predictions):
            where, scales = {"device": settings.device, "engine": settings.engine}, settings.views.scales
            models = find_models(model, method, baseline, say, **where, scales=scales)
            if settings.same_classes:
                models = match_classes(models, dataset, {sample.label for sample in samples}, talk)
            for given in models:
                if given.engine.class_conditional and not settings.same_classes:
                    talk(
                        f"--other-classes: a map of {given.title} is of a class, and it knows none of the labels; its "
                        "boxes are those of the most probable class, so its GT-known is not that of a given class"
                    )
        return cls(dataset, data is None, samples, sources, models, maps, predictions, settings, talk, on_images)

    def measure(self, part: Callable[[int], slice] = _all, on_step: Callable[[int], object] = _nothing) -> Measured:
        """Run the models and try thresholds. Boxes found elsewhere need neither.

        Args:
            part: Which of so many images are measured, by default all.
            on_step: Called with a number of images after each step of any of the work.
        """

        def on_images(number: int) -> None:
            self.on_images(number)
            on_step(number)

        samples = self.samples[part(len(self.samples))]
        if self.maps:
            paths = self._find_maps(self.maps)
            here = [sample for sample in samples if sample.name in paths]
            return Measured(counts={MAPS: self._count(here, [paths[sample.name] for sample in here], on_images)})
        if not self.models:
            return Measured()
        if samples:
            fit_models(self.models, self.samples, self.settings)
        found = run_models(self.models, samples, self._taus(self.models), self.settings, on_images)
        counts, on_fullsup = {}, {}
        if self._over_maps() or (self.masks and not found.rules.cropped):
            here = found.samples
            if not self._over_maps():  # masks are of the image as it is, whatever the dataset states
                here = [replace(sample, size_hw=size) for sample, size in zip(here, found.sizes, strict=True)]
            counts = {name: self._count(here, found.raw_maps(name), on_step) for name in found.maps}
        if (chosen := self._chosen()) and (choosing := self._choosing()):
            choosing = choosing[part(len(choosing))]
            on_fullsup = run_models(chosen, choosing, self._taus(chosen), self.settings, on_step).scores
        return Measured(found, counts, on_fullsup)

    def results(self, measured: Measured) -> Evaluation:
        """The numbers, from what was measured of all images."""
        settings, models, counts = self.settings, self.models, measured.counts
        if self.predictions:
            scored = self._of_predictions(self.predictions)
        elif self.maps:
            paths = self._find_maps(self.maps)
            samples = self._leave_out(paths, f"have no map in '{self.maps}'")
            scored = self._of_maps(samples, {MAPS: [paths[sample.name] for sample in samples]}, counts)
        elif found := measured.found:
            self._leave_out({sample.name for sample in found.samples}, "could not be read")
            if self._over_maps():
                scored = self._of_maps(found.samples, {name: found.raw_maps(name) for name in found.maps}, counts)
            else:
                scored = self._of_boxes(found, counts, measured.on_fullsup)
        first, here = scored.rows[0], scored.samples
        own = models[0].engine.class_names if models else ()
        names = self.dataset.class_names or (own if settings.same_classes else ())
        curve = thresholds(settings.interval).tolist() if first.boxes is None else self._taus(models)
        elsewhere = {"kind": MAPS if self.maps else PREDICTIONS, "name": str(self.maps or self.predictions)}
        results = Results(
            kind=SMOKE if self.smoke else "evaluation",
            created=dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
            data={
                "name": self.dataset.name,
                "split": settings.split,
                "images": len(here),
                "boxes": sum(len(sample.boxes) for sample in here),
                "masks": scored.masks,
                "sha256": sha256_samples(here),
                "images_of_split": len(self.samples),
                "partial": len(here) < len(self.samples),
                "class_names": tuple(names),
            },
            source={**(source(models, settings.views.words()) if models else elsewhere), "class_names": own},
            protocol={
                "name": settings.protocol,
                "interval": settings.interval if self._over_maps() or scored.masks else None,
                "crops": None if self._over_maps() else settings.crops,
                "rules": asdict(PROTOCOLS[settings.protocol]),
            },
            same_classes=settings.same_classes,
            rows=tuple(scored_row.row for scored_row in scored.rows),
            taus=tuple(curve) if any(scored_row.row.curve for scored_row in scored.rows) else (),
            differences=differences(scored.rows, scored.bootstrap),
            classes=class_rows(first, np.array([sample.label for sample in here]), names),
            bootstrap={"resamples": RESAMPLES, "seed": SEED, "level": LEVEL},
            versions=package_versions(),
        )
        return Evaluation(results, scored.images)

    def _of_boxes(self, found: PerImage, counts: Mapping[str, Counts], on_fullsup: Mapping[str, BoxScores]) -> _Scored:
        """Models by a protocol with one box an image: the first at its own τ, and baselines at the best for them.

        Models that give boxes have no τ.
        """
        found, chosen = found.with_fixed_boxes(), self._chosen()
        masks = [self.masks.get(sample.name) for sample in found.samples]
        if found.rules.cropped and covered(masks):
            protocol = self.settings.protocol
            self.say(f"{protocol} crops images, and masks are of whole images: PxAP and pIoU are left out")
            masks = [None] * len(masks)
        bootstrap = Bootstrap(len(found.samples))
        rows: list[ScoredRow] = []

        def add(name: str, title: str, at: int, tau_from: str, **more: Any) -> None:
            of_masks = mask_metrics(counts[name].masks) if name in counts else None
            rows.append(score_row(found, name, title, at, tau_from, bootstrap, of_masks, **more))

        for model in self.models:
            name, scores = model.title, found.scores[model.title]
            if model is self.models[0]:
                at = scores.nearest(model.engine.config.tau)
                tau_from = "" if model.engine.gives_boxes else "fixed"
                classes = [model.class_of(sample) for sample in found.samples]
                add(name, name, at, tau_from, coco=box_precision(found, name, at, classes))
            elif model.engine.gives_boxes:
                add(name, name, 0, "")
            if model in chosen:
                add(name, f"{name}, oracle τ", scores.best(), ORACLE)
            if name in on_fullsup and len(on_fullsup[name].ious):
                best = on_fullsup[name].taus[on_fullsup[name].best()]
                add(name, f"{name}, τ of {FULLSUP}", scores.nearest(best), FULLSUP)
        for name, title in FIXED_BOXES.items():
            add(name, title, 0, "")
        return _Scored(found.samples, covered(masks), rows, bootstrap, partial(image_results, found, rows))

    def _of_predictions(self, path: Path) -> _Scored:
        """Boxes that were found elsewhere, by a protocol with one box an image."""
        read = read_predictions(path, self.dataset, self.samples, self.settings.same_classes, self.say)
        samples = self._leave_out(read, f"are not in '{path}'")
        predictions, sizes = [read[sample.name] for sample in samples], [stated_size(sample) for sample in samples]
        found = score_boxes(predictions, samples, sizes, self.settings, SIDE).with_fixed_boxes()
        bootstrap = Bootstrap(len(samples))
        coco = _precision_of_all(predictions, found, self.settings.same_classes)
        rows = [score_row(found, PREDICTIONS, PREDICTIONS, 0, "", bootstrap, coco=coco)]
        rows += [score_row(found, name, title, 0, "", bootstrap) for name, title in FIXED_BOXES.items()]
        return _Scored(samples, 0, rows, bootstrap, partial(image_results, found, rows))

    def _of_maps(
        self, samples: Sequence[Sample], maps: Mapping[str, Sequence[Raw]], counts: Mapping[str, Counts]
    ) -> _Scored:
        """Maps of models, or of another tool, by a protocol over many thresholds."""
        size = self.models[0].engine.config.size if self.models else SIDE
        if size != SIDE:
            self.say(f"the model's input is {size} pixels, the protocol's is {SIDE}: say so with the number")
        here = [replace(sample, size_hw=stated_size(sample)) for sample in samples]
        version, bootstrap = self._version(), Bootstrap(len(here))
        if version is None:
            self.say("the data have masks and no boxes: PxAP and pIoU alone are measured")
        rows = []
        for name, counted in counts.items():
            rows.append(map_row(name, counted, here, maps[name], version, bootstrap))
            if done := counted.boxes.as_is:
                self.say(f"{done} of {len(here)} maps were of the protocol's own form and taken as they are")
        rows += fixed_rows(here, version, bootstrap) if version else []
        masks = covered([self.masks.get(sample.name) for sample in here])
        return _Scored(here, masks, rows, bootstrap, partial(map_images, here, maps, rows))

    def _count(self, samples: Sequence[Sample], maps: Sequence[Raw], on_step: Callable[[int], object]) -> Counts:
        """Try all thresholds of the protocol on maps, or those of masks alone."""
        masks = [self.masks.get(sample.name) for sample in samples]
        version = self._version() if self._over_maps() else None
        return count_maps(samples, maps, masks, version, self.settings, on_step)

    def _over_maps(self) -> bool:
        return self.settings.protocol in VERSIONS

    def _version(self) -> int | None:
        """Of MaxBoxAcc that a protocol over maps asks for; none for data without boxes."""
        return VERSIONS[self.settings.protocol] if len(self.samples[0].boxes) else None

    def _taus(self, models: Sequence[Model]) -> list[float]:
        """Thresholds of the curve, the models' own among them; none where maps are counted instead."""
        return [] if self._over_maps() else sorted({*TAUS, *(model.engine.config.tau for model in models)})

    def _chosen(self) -> list[Model]:
        """Models with a chosen τ: baselines, and any whose map is of a class.

        Such a map is scaled image by image, so that no threshold means the same on all.
        """
        models = [] if self._over_maps() else [model for model in self.models if not model.engine.gives_boxes]
        return [model for model in models if model is not self.models[0] or model.engine.class_conditional]

    def _find_maps(self, folder: Path) -> dict[str, Path]:
        names = [sample.name for sample in self.samples]
        return find_maps(folder, names, allow_missing=self.settings.allow_missing)

    def _leave_out(self, kept: Collection[str], what: str) -> list[Sample]:
        """Refuse images that cannot be scored, or say that they are left out; ``what`` comes after "3 of 5 images"."""
        names, total = [sample.name for sample in self.samples if sample.name not in kept], len(self.samples)
        some, way = f"{len(names):,} of {total:,} images {what}", "--allow-missing scores the others, a partial result"
        if names and not self.settings.allow_missing:
            raise DataError(f"{some}: {some_names(names)}; {way}")
        if len(names) == total:
            raise DataError(f"all {total:,} images {what}, so there is nothing to score")
        if names:
            self.say(f"partial: {some} and were left out")
        return [sample for sample in self.samples if sample.name in kept]

    def _choosing(self) -> list[Sample]:
        """Images of the split that is there to choose τ on; none if the data have no such split with boxes."""
        if split_name(self.settings.split) == FULLSUP or FULLSUP not in self.dataset.splits():
            return []
        samples = self.dataset.samples(FULLSUP, with_boxes=True, boxes_optional=True)
        bare = not all(len(sample.boxes) for sample in samples)
        known = [model.classes for model in self.models if model.classes is not None]
        if not bare and all(sample.label in classes for classes in known for sample in samples):
            return samples
        what = "without a box" if bare else "of classes that the model does not know"
        self.say(f"{FULLSUP} has images {what}, so no τ can be chosen on it")
        return []


def _precision_of_all(predictions: Sequence[Found], found: PerImage, same_classes: bool) -> dict[str, float]:
    """COCO's average precision of all boxes, and not of the best of each image alone."""
    images = np.repeat(np.arange(len(predictions)), [len(p.boxes) for p in predictions])
    pairs = zip(predictions, found.sizes, strict=True)
    boxes = np.concatenate([found.rules.to_frame(p.boxes, size_hw, found.side) for p, size_hw in pairs])
    labels = np.concatenate([p.labels if same_classes else np.zeros(len(p.boxes), np.int64) for p in predictions])
    truth_labels = [sample.label if same_classes else 0 for sample in found.samples]
    scores = np.concatenate([p.scores for p in predictions])
    return average_precision(found.truths, truth_labels, boxes, labels, scores, images)

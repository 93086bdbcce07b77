"""One evaluation from a request to its result: data, what is measured, by which protocol, beside which rivals."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from famcli.checkpoints.doctor import package_versions
from famcli.data.dataset import Dataset
from famcli.data.masks import covered as covered_masks
from famcli.data.sample import FULLSUP, Sample, check_labels, split_name
from famcli.evaluation.bootstrap import LEVEL, RESAMPLES, SEED, Bootstrap
from famcli.evaluation.boxrules import BOX_RULES
from famcli.evaluation.counting import stated_size
from famcli.evaluation.coverage import Coverage
from famcli.evaluation.external import Found, missing, read_predictions
from famcli.evaluation.groundtruth import Truth
from famcli.evaluation.imagerows import of_evaluation, of_sweep
from famcli.evaluation.inference import Look
from famcli.evaluation.maps import find_maps
from famcli.evaluation.metrics.box import INTERVAL, SIDE, thresholds
from famcli.evaluation.metrics.coco import average_precision
from famcli.evaluation.models import Contender
from famcli.evaluation.onebox import RIVALS, Evaluation, best_tau, evaluate, evaluate_found
from famcli.evaluation.protocols import PROTOCOLS
from famcli.evaluation.rows import Entry, class_rows, differences, entry, with_detections, with_kinds
from famcli.evaluation.thresholds import Raw, Sweep, mask_metrics
from famcli.results.images import ImageResult
from famcli.results.schema import Results
from famcli_models.errors import ConfigError

VERSIONS = {"wsoleval-v1": 1, "wsoleval-v2": 2}  # protocols over maps


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to evaluate.

    Attributes:
        dataset: The data.
        split: Its split.
        protocol: A name of :data:`famcli.evaluation.protocols.PROTOCOLS`.
        contender: The networks that are measured; ``None`` if maps or predictions are.
        maps: Folder of another tool's score maps.
        predictions: File of boxes found elsewhere.
        masks: Folder of masks, if they are not where a dataset has them.
        crops: 1, or 10 for the mean class scores of ten crops.
        interval: From one threshold to the next, of protocols that try many.
        same_classes: The labels are classes of what is measured.
        allow_missing: Score the images that have a prediction, map or readable file, and mark the result as partial.
        smoke: The images are drawn, and the numbers say nothing but that the program works.
        device: See :func:`famcli.inference.torch_engine.pick_device`.
        batch_size: Images per forward pass.
        workers: Threads that decode and find boxes.
        processes: Processes that try thresholds; all cores if not given.
        say: Told what a user should know.
        on_images: Told the number of images that were done since the last call.
    """

    dataset: Dataset
    split: str = "test"
    protocol: str = "fam"
    contender: Contender | None = None
    maps: Path | None = None
    predictions: Path | None = None
    masks: Path | None = None
    crops: int = 1
    interval: float = INTERVAL
    same_classes: bool = True
    allow_missing: bool = False
    smoke: bool = False
    device: str = "auto"
    batch_size: int = 32
    workers: int = 2
    processes: int | None = None
    say: Callable[[str], None] = lambda _: None
    on_images: Callable[[int], None] = lambda _: None

    @property
    def coverage(self) -> Coverage:
        """What to do with images that cannot be scored."""
        return Coverage(self.allow_missing, self.say)

    def look(self, on_unreadable: Callable[[str, str], None]) -> Look:
        """How the networks look; somebody is told of unreadable images only where they may be left out."""
        return Look(
            same_classes=self.same_classes,
            device=self.device,
            batch_size=self.batch_size,
            workers=self.workers,
            on_unreadable=on_unreadable if self.allow_missing else None,
        )


@dataclass(slots=True)
class Assessment:
    """What came out.

    Attributes:
        results: The numbers and all that belongs to them.
        records: Gives the images one by one; can be called once.
    """

    results: Results
    records: Callable[[], Iterator[ImageResult]] = field(repr=False)


@dataclass(slots=True)
class _Scored:
    """What a protocol gave, before it becomes a result."""

    truth: Truth
    entries: list[Entry]
    bootstrap: Bootstrap
    records: Callable[[], Iterator[ImageResult]]


def assess(request: Request) -> Assessment:
    """Evaluate.

    Raises:
        ConfigError: What is asked for does not go together.
        DataError: Data, maps or predictions cannot be read, or are of other images.
    """
    thresholds(request.interval)  # refused now, and not after the networks have looked at everything
    truth = Truth.read(request.dataset, request.split, request.masks, request.protocol in VERSIONS)
    by_protocol = _sweep if request.protocol in VERSIONS else _boxes
    scored = by_protocol(request, truth)
    first = scored.entries[0]
    labels = np.array([sample.label for sample in scored.truth.samples])
    own = request.contender.class_names if request.contender else ()
    names = request.dataset.class_names or (own if request.same_classes else ())
    results = Results(
        kind="smoke check" if request.smoke else "evaluation",
        created=dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        data={
            "name": request.dataset.name,
            "split": request.split,
            **scored.truth.facts(),
            "images_of_split": len(truth.samples),
            "partial": len(scored.truth.samples) < len(truth.samples),
            "class_names": tuple(names),
        },
        source={**_source(request), "class_names": own},
        protocol={
            "name": request.protocol,
            "interval": request.interval if request.protocol in VERSIONS or covered_masks(scored.truth.masks) else None,
            "crops": None if request.protocol in VERSIONS else request.crops,
            "rules": asdict(PROTOCOLS[request.protocol]),
        },
        same_classes=request.same_classes,
        rows=tuple(e.row for e in scored.entries),
        taus=_taus(request, first),
        differences=differences(scored.entries, scored.bootstrap),
        classes=class_rows(first, labels, names),
        bootstrap={"resamples": RESAMPLES, "seed": SEED, "level": LEVEL},
        versions=package_versions(),
    )
    return Assessment(results, scored.records)


def _taus(request: Request, first: Entry) -> tuple[float, ...]:
    if first.row.curve is None:
        return ()
    if first.outcomes is not None:
        return tuple(first.outcomes.taus.tolist())
    return tuple(thresholds(request.interval).tolist())


def _boxes(request: Request, truth: Truth) -> _Scored:
    """Protocols with one box an image."""
    rules = BOX_RULES[request.protocol]
    if request.maps is not None:
        msg = f"maps are scored at many thresholds: --maps needs --protocol {' or '.join(VERSIONS)}"
        raise ConfigError(msg)
    if request.predictions is not None:
        found, covered = _found(request, truth)
        sizes = [stated_size(sample) for sample in covered.samples]
        evaluation = evaluate_found(found, covered.samples, sizes, rules, SIDE, request.same_classes)
        bootstrap = Bootstrap(len(covered.samples))
        first = entry("predictions", evaluation.outcomes["predictions"], 0, "", bootstrap)
        first = replace(first, row=replace(first.row, coco=_coco_of_all(found, evaluation, request.same_classes)))
        entries = [with_kinds(first, evaluation), *_rivals(evaluation, bootstrap)]
        return _Scored(covered, entries, bootstrap, lambda: of_evaluation(evaluation, entries))
    contender = _contender(request)
    unreadable: dict[str, str] = {}
    look = replace(request.look(unreadable.__setitem__), rules=rules, ten_crops=request.crops > 1)
    choosing = _choosing(request, contender)
    evaluation = evaluate(contender.networks, truth.samples, look, request.on_images)
    request.coverage.note(list(unreadable), len(truth.samples), "could not be read")
    elsewhere = replace(look, on_unreadable=(lambda *_: None) if request.allow_missing else None)
    chosen = best_tau(contender.networks, choosing, elsewhere) if choosing else None
    bootstrap = Bootstrap(len(evaluation.samples))
    entries = _network_entries(contender, evaluation, chosen, bootstrap)
    here = truth.without(unreadable)
    if rules.cropped and covered_masks(here.masks):
        request.say(f"{request.protocol} looks at a crop, and masks are of whole images: PxAP and pIoU are left out")
        here = Truth(here.samples, [None] * len(here.samples))
    if covered_masks(here.masks):
        sweep = Sweep(here.samples, evaluation.sizes, here.masks, None, request.interval, request.processes)
        measured = {name: mask_metrics(sweep.count(list(maps)).masks) for name, maps in evaluation.maps.items()}
        entries = [
            replace(e, row=replace(e.row, metrics={**e.row.metrics, **measured.get(e.row.method, {})})) for e in entries
        ]
    return _Scored(here, entries, bootstrap, lambda: of_evaluation(evaluation, entries))


def _network_entries(
    contender: Contender, evaluation: Evaluation, chosen: float | None, bootstrap: Bootstrap
) -> list[Entry]:
    """What is measured at its own τ, CAM at an oracle's and at that of train-fullsup, and boxes without a network."""
    networks, outcomes = contender.networks, evaluation.outcomes
    entries: list[Entry] = []
    for name, network in (("FAM", networks.fam), ("CAM", networks.cam)):
        if network is networks.first:
            own = outcomes[name]
            found = entry(name, own, own.nearest(network.config.tau), "fixed", bootstrap)
            entries.append(with_detections(found, evaluation))
    if networks.cam is not None:
        cam = outcomes["CAM"]
        entries.append(entry("CAM, oracle τ", cam, cam.best(), "oracle", bootstrap))
        if chosen is not None:
            entries.append(entry(f"CAM, τ of {FULLSUP}", cam, cam.nearest(chosen), FULLSUP, bootstrap))
    entries = [with_kinds(e, evaluation) for e in entries]
    return [*entries, *_rivals(evaluation, bootstrap)]


def _choosing(request: Request, contender: Contender) -> list[Sample]:
    """Images of the split that is there to choose CAM's τ on; none if the data have no such split with boxes."""
    splits = request.dataset.splits()
    if contender.networks.cam is None or split_name(request.split) == FULLSUP or FULLSUP not in splits:
        return []
    samples = request.dataset.samples(FULLSUP, with_boxes=True, boxes_optional=True)
    if request.same_classes:
        check_labels(samples, contender.networks.cam.config.num_classes)
    if all(len(sample.boxes) for sample in samples):
        return samples
    request.say(f"{FULLSUP} has images without a box, so no τ can be chosen on it")
    return []


def _rivals(evaluation: Evaluation, bootstrap: Bootstrap) -> list[Entry]:
    return [entry(title, evaluation.outcomes[name], 0, "", bootstrap) for name, title in RIVALS.items()]


def _found(request: Request, truth: Truth) -> tuple[list[Found], Truth]:
    """Predictions and the images that they are of."""
    read = read_predictions(Path(request.predictions or ""), request.dataset, truth.samples, request.same_classes)
    lacking = missing(read, truth.samples)
    request.coverage.check(lacking, len(truth.samples), f"are not in '{request.predictions}'")
    here = truth.without(lacking).samples
    return [found for found in read if found is not None], Truth(here, [None] * len(here))


def _coco_of_all(found: Sequence[Found], evaluation: Evaluation, same_classes: bool) -> dict[str, float]:
    """COCO's average precision of all boxes, and not of the best of each image alone."""
    images = np.repeat(np.arange(len(found)), [len(f.boxes) for f in found])
    boxes = [
        evaluation.rules.to_frame(f.boxes, size_hw, evaluation.side)
        for f, size_hw in zip(found, evaluation.sizes, strict=True)
    ]
    labels = np.concatenate([f.labels if same_classes else np.zeros(len(f.boxes), np.int64) for f in found])
    truth_labels = [sample.label if same_classes else 0 for sample in evaluation.samples]
    scores = np.concatenate([f.scores for f in found])
    return average_precision(evaluation.truths, truth_labels, np.concatenate(boxes), labels, scores, images)


def _sweep(request: Request, truth: Truth) -> _Scored:
    """Protocols over many thresholds."""
    if request.predictions is not None:
        msg = f"protocol '{request.protocol}' thresholds maps, and predictions are boxes: leave --protocol out"
        raise ConfigError(msg)
    maps: dict[str, list[Raw]]
    if request.maps is not None:
        names = [sample.name for sample in truth.samples]
        paths = find_maps(request.maps, names, allow_missing=request.allow_missing)
        lacking = [name for name, path in zip(names, paths, strict=True) if path is None]
        request.coverage.check(lacking, len(names), f"have no map in '{request.maps}'")
        here, maps = truth.without(lacking), {"maps": [path for path in paths if path is not None]}
    else:
        here, maps = _network_maps(request, truth)
    sizes = [stated_size(sample) for sample in here.samples]
    version = VERSIONS[request.protocol] if here.has_boxes else None
    if version is None:
        request.say("the data have masks and no boxes: PxAP and pIoU alone are measured")
    done = request.on_images if request.maps is not None else lambda _: None
    sweep = Sweep(here.samples, sizes, here.masks, version, request.interval, request.processes, done)
    bootstrap = Bootstrap(len(here.samples))
    entries = []
    for name, raw in maps.items():
        counts = sweep.count(raw)
        entries.append(sweep.entry(name, counts, bootstrap))
        if counts.boxes.as_is:
            form = f"{counts.boxes.as_is} of {len(raw)} maps were of the protocol's own form and taken as they are"
            request.say(form)
    entries += sweep.rivals(bootstrap)
    return _Scored(here, entries, bootstrap, lambda: of_sweep(sweep, maps, entries))


def _network_maps(request: Request, truth: Truth) -> tuple[Truth, dict[str, list[Raw]]]:
    """The images that could be read, and the networks' maps of them."""
    contender = _contender(request)
    size = contender.networks.first.config.size
    if size != SIDE:
        request.say(f"the network's input is {size} pixels, the protocol's is {SIDE}: say so with the number")
    unreadable: dict[str, str] = {}
    look = request.look(unreadable.__setitem__)
    maps: dict[str, list[Raw]] = {}
    for batch in look.at(contender.networks, truth.samples):
        for seen in batch:
            for name, M in seen.maps.items():
                maps.setdefault(name, []).append(M)
        request.on_images(len(batch))
    request.coverage.note(list(unreadable), len(truth.samples), "could not be read")
    return truth.without(unreadable), maps


def _contender(request: Request) -> Contender:
    if request.contender is None:
        msg = "there is nothing to evaluate: give a model, maps or predictions"
        raise ConfigError(msg)
    return request.contender


def _source(request: Request) -> Mapping[str, Any]:
    if request.predictions is not None:
        return {"kind": "predictions", "name": str(request.predictions)}
    if request.maps is not None:
        return {"kind": "maps", "name": str(request.maps)}
    return _contender(request).facts()

"""What a run learns from beside its labels: pseudo-labels for unlabelled images, targets for the map, teachers.

All three are extensions and use no box. *Pseudo-labels* (Lee 2013) are the classes that the pretrained classifier
gives to images without labels, where its confidence is high enough.

*Targets* say where an object of the labelled class plausibly ends, which the paper's losses leave open: the class
activation map of the label (Zhou 2016), carried along to cells that look alike in the layer below, plus how unlike the
picture's border each cell is, weighed by a centre prior, and sharpened along colour edges by GrabCut (Rother 2004).

*Distillation* joins a target T with the map M of a trained model, the teacher: (2 M + T) / 3; of several it is the mean
of their maps. T knows the class; M has learnt from all the images what objects are like, and the errors that single
targets make average out in it. M does not depend on classes, so a teacher may know others than its student; where the
student's classifier is new, T is M cut along colour edges.

With ``targets = "evidence"`` a target is half the mean of the teachers' M and half the mean of the class evidence (see
:mod:`famcli_models.evidence`) of all networks that know the label: the student's own, and the teachers of the same
classes. Errors of different networks, and of maps that know the label and maps that do not, are different ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from famcli.data.sample import Sample, read_sample
from famcli.hub import find_model
from famcli.inference.engine import input_sides, mean_maps
from famcli.inference.pipeline import Failed, all_finished, run_images
from famcli.inference.torch_engine import TorchEngine, Trunk
from famcli.inference.views import Views, closer, infer_views
from famcli.training.data import TrainingData, digest_of
from famcli.training.monitor import Progress, counted, no_progress
from famcli.training.recipe import Recipe
from famcli_models.checkpoint import WEIGHTS_FILE
from famcli_models.errors import ConfigError, DataError
from famcli_models.evidence import carry, class_evidence
from famcli_models.files import sha256_file
from famcli_models.loading import load_model
from famcli_models.localization import upsample
from famcli_models.methods.cam import class_activation_maps
from famcli_models.methods.method import Method, min_max
from famcli_models.preprocess import resize

BATCH = 32
PSEUDO_LABELS = "pseudo_labels_sha256"  # in the provenance, as all keys here
TEACHER = "teacher_sha256"

BORDER_NEIGHBOURS = 10  # border cells that a cell is compared with
CENTRE_SIGMA = 0.7  # of the centre prior, in half sides of the picture
CUT = 0.475  # value of the fused map that separates object from background
GRABCUT_SIDE = 98  # pixels: seven for each cell of a 14x14 map
GRABCUT_ROUNDS = 3
CERTAIN = 0.25  # GrabCut keeps pixels this far from 1/2, after the sigmoid, as they are
SLOPE = 6.0  # of that sigmoid
HARD = 0.5  # hard targets are 1 above it
EVIDENCE_STRIDE = 16  # largest stride of X that class evidence is made of
NEED_CLASSIFIER = (
    "targets need class activation maps: start from backbone weights with a classifier of these classes, or "
    "take the targets from a trained model (teacher=fam-mobilenetv1-ilsvrc), or do without (lambda_target=0)"
)

Targets = list[np.ndarray]  # of each image (98, 98) float16 in [0, 1], in the frame of the whole image


def needs_pretrained(recipe: Recipe) -> bool:
    """Whether supervision is made with the weights that the run began with, in a resumed run too."""
    return recipe.train.lambda_target > 0 or bool(recipe.run.unlabelled)


def make_supervision(
    source: Method,
    recipe: Recipe,
    data: TrainingData,
    accelerator: Accelerator,
    provenance: MutableMapping[str, Any],
    workers: int,
    say: Callable[[str], None],
    progress: Progress = no_progress,
) -> tuple[Sequence[Sample], Targets | None]:
    """The images of a run with their labels and pseudo-labels, and their targets if the recipe asks for them.

    ``source`` is the model as it was when the run began, see :func:`needs_pretrained`. Pseudo-labels and teacher are
    noted in the ``provenance`` of the run, or compared if they are there already: a resumed run must have the same.
    """
    run, device = recipe.run, str(accelerator.device)
    targeted = recipe.train.lambda_target > 0
    if targeted and not source.learns_map:
        raise ConfigError(
            f"lambda_target draws a learnt map to targets, and {source.title} has none; set lambda_target=0"
        )
    asked = {"teacher": run.teacher, "hard_targets": run.hard_targets, "targets": run.targets != "edges"}
    for setting, given in asked.items() if not targeted else ():
        if given:
            raise ConfigError(f"{setting} is for targets of M, and there are none; set lambda_target, or leave it out")
    teachers = _teachers(run.teacher, provenance, say)  # a wrong one is noticed before the work
    samples: Sequence[Sample] = data.samples
    if data.unlabelled:
        # Whole batches each, for in other batches, or with other processes, a probability might be rounded otherwise.
        processes, process = accelerator.num_processes, accelerator.process_index
        mine = [i for i in range(len(data.unlabelled)) if i // BATCH % processes == process]
        share = [data.unlabelled[i] for i in mine]
        labels = pseudo_labels(source, share, run.unlabelled_confidence, device, workers, progress)
        found = gather_object([(mine[i], label) for i, label in labels.items()])
        added = [replace(data.unlabelled[i], label=label) for i, label in sorted(found)]
        digest = digest_of((sample.name, sample.label) for sample in added)
        if provenance.setdefault(PSEUDO_LABELS, digest) != digest:
            raise DataError(
                "the pseudo-labels of the unlabelled images are not those the run began with: the images, the device "
                "or the versions have changed; start a new run"
            )
        provenance["unlabelled"] = list(data.unlabelled_names)
        provenance["unlabelled_confidence"] = run.unlabelled_confidence
        provenance["pseudo_labelled"] = len(added)
        say(f"{len(added)} of {len(data.unlabelled)} unlabelled images have a pseudo-label")
        samples = [*samples, *added]
    targets = None
    views = Views(run.teacher_scales, run.teacher_flip, run.teacher_looks)
    if targeted and run.targets == "evidence":
        say(f"making targets for M from {' and '.join(['class evidence', *run.teacher])}")
        size = recipe.train.side(source.config.size)
        targets = evidence_targets(source, teachers, samples, size, device, workers, progress, views=views)
    elif targeted and (not teachers or _has_classifier(source)):
        say("making targets for M from the image labels")
        targets = make_targets(source, samples, device, workers, progress)
    if teachers and run.targets == "edges":
        say(f"distilling the maps of {' and '.join(run.teacher)} into the targets")
        targets = distill(teachers, samples, targets, device, workers, progress, views=views)
    if targets is not None and run.hard_targets:
        targets = [(target > HARD).astype(np.float16) for target in targets]
    return samples, targets


def first_stage(
    source: Method,
    samples: Sequence[Sample],
    device: str = "auto",
    workers: int = 2,
    progress: Progress = no_progress,
) -> np.ndarray | None:
    """Boxes ``(n, 4)`` that the method's first stage finds in the images, in shares of them; none without such a stage.

    ``source`` is the model as training starts from it; a resumed run has kept its boxes.
    """
    if not source.learns_boxes:
        return None
    trunk = Trunk(source, fold=False, names=("backbone",))  # the others have its weights now
    engine = TorchEngine(source, device, fold=False, trunk=trunk)
    with progress("first stage", len(samples)) as step:
        return source.first_stage(_Images(engine, samples, workers, step)).numpy()


class _Images:
    """Samples as a :class:`famcli_models.methods.method.TrainingImages`."""

    def __init__(
        self, engine: TorchEngine, samples: Sequence[Sample], workers: int, step: Callable[[int], object]
    ) -> None:
        self.engine, self.samples, self.workers, self.step = engine, samples, workers, step
        self.labels = torch.tensor([sample.label for sample in samples])

    def features(self, numbers: Sequence[int], side: int) -> Iterator[Tensor | None]:
        results = run_images(
            numbers,
            lambda number: resize(read_sample(self.samples[number], side).image, side),
            lambda batch: self.engine.features(np.stack([view for _, view in batch])).X,
            lambda _number, _view, X: X,
            batch_size=BATCH,
            workers=max(1, self.workers),
        )
        for X in results:
            if isinstance(X, Failed) and not isinstance(X.error, DataError):
                raise X.error
            self.step(1)
            yield None if isinstance(X, Failed) else X


def _has_classifier(model: Method) -> bool:
    """Whether it has the classifier that its backbone was pretrained with."""
    return model.provenance.get("classifier") == "pretrained"


def pseudo_labels(
    model: Method,
    samples: Sequence[Sample],
    confidence: float,
    device: str = "auto",
    workers: int = 2,
    progress: Progress = no_progress,
) -> dict[int, int]:
    """Number of an image in ``samples`` to the class that a pretrained classifier gives it; their labels are not read.

    Left out are images whose class has a probability below ``confidence``, and those that cannot be read.
    """
    if not _has_classifier(model):
        msg = "unlabelled images need a classifier that knows classes: give backbone_weights that have one, of as many"
        raise ConfigError(msg)
    engine, size = TorchEngine(model, device, fold=False), model.config.size

    def load(number: int) -> np.ndarray:
        return resize(read_sample(samples[number], size).image, size)

    def infer(batch: Sequence[tuple[int, np.ndarray]]) -> list[tuple[float, int]]:
        X = engine.features(np.stack([view for _, view in batch])).X
        with torch.inference_mode():
            probability, classes = model.classifier(X.mean(dim=(2, 3))).softmax(dim=1).max(dim=1)
        return list(zip(probability.tolist(), classes.tolist(), strict=True))

    results = run_images(
        range(len(samples)),
        load,
        infer,
        lambda number, _view, found: (number, *found),
        batch_size=BATCH,
        workers=max(1, workers),
    )
    with progress("pseudo-labels", len(samples)) as step:
        known = [result for result in counted(results, step) if not isinstance(result, Failed)]
    return {number: label for number, probability, label in known if probability >= confidence}


def make_targets(
    model: Method,
    samples: Sequence[Sample],
    device: str = "auto",
    workers: int = 2,
    progress: Progress = no_progress,
) -> Targets:
    """Targets of M from image labels alone; backbone and classifier of the model are pretrained on these classes."""
    if not _has_classifier(model):
        raise ConfigError(NEED_CLASSIFIER)
    engine, size = TorchEngine(model, device, fold=False), model.config.size
    below: list[Tensor] = []  # of the last batch, features of the stage below X

    def infer(batch: Sequence[tuple[Sample, np.ndarray]]) -> np.ndarray:
        below.clear()
        X = engine.features(np.stack([view for _, view in batch])).X
        with torch.inference_mode():
            on_grid = F.adaptive_avg_pool2d(below[0], (X.shape[-2], X.shape[-1]))
            labels = torch.tensor([sample.label for sample, _ in batch], device=X.device)
            return np.asarray(fuse(X, on_grid, model.classifier.weight[labels]).cpu().numpy())

    with _stage_below(model, below.append), progress("targets", len(samples)) as step:
        results = run_images(
            samples,
            lambda sample: _resized(sample, [size])[0],
            infer,
            lambda _, view, fused: sharpen(view, fused),
            batch_size=BATCH,
            workers=max(1, workers),
        )
        return all_finished(counted(results, step))


def evidence_targets(
    model: Method,
    teachers: Sequence[Method],
    samples: Sequence[Sample],
    size: int,
    device: str = "auto",
    workers: int = 2,
    progress: Progress = no_progress,
    *,
    views: Views,
) -> Targets:
    """Targets of M from the class evidence of several networks, and from the maps of teachers if there are any.

    The model is run at ``size``, and teachers in ``views``, whose scales are multiples of their own input sizes.
    """
    if views.looks > 1:
        raise ConfigError("class evidence is made in one look at an image; set teacher_looks=1, or targets=edges")
    if not _has_classifier(model):
        raise ConfigError(NEED_CLASSIFIER)
    own = _at_most_at(EVIDENCE_STRIDE, model)
    runs = [(TorchEngine(own, device, fold=own is not model), [size], False)]
    runs += [(TorchEngine(teacher, device), input_sides(teacher.config, views.scales), True) for teacher in teachers]
    all_sides = sorted({side for _, sides, _ in runs for side in sides})

    def infer(batch: Sequence[tuple[Sample, list[np.ndarray]]]) -> np.ndarray:
        labels = torch.tensor([sample.label for sample, _ in batch])
        evidence, maps = [], []
        for engine, sides, is_teacher in runs:
            for i in map(all_sides.index, sides):
                images = np.stack([of_sides[i] for _, of_sides in batch])
                if _has_classifier(engine.model) and engine.class_names == model.class_names:
                    evidence.append(_evidence(engine, images, labels))
                if is_teacher:
                    maps.append(engine.infer([images], flip=views.flip).maps)
        return mean_maps([mean_maps(found) for found in (evidence, maps) if found])

    results = run_images(
        samples,
        lambda sample: _resized(sample, all_sides),
        infer,
        lambda _sample, _images, T: upsample(T, (GRABCUT_SIDE, GRABCUT_SIDE)).astype(np.float16),
        batch_size=BATCH,
        workers=max(1, workers),
    )
    with progress("targets", len(samples)) as step:
        return all_finished(counted(results, step))


def _at_most_at(stride: int, model: Method) -> Method:
    """A model whose X has this stride at most, its kernels dilated: an untrained one with this trunk and classifier."""
    if model.config.stride <= stride:
        return model
    finer = type(model)(replace(model.config, stride=stride, dilation=True), model.class_names, model.provenance)
    finer.backbone.load_state_dict(model.backbone.state_dict())
    finer.classifier.load_state_dict(model.classifier.state_dict())
    return finer


@torch.inference_mode()
def _evidence(engine: TorchEngine, images: np.ndarray, labels: Tensor) -> np.ndarray:
    """Class evidence ``(B, h, w)`` for the labels ``(B,)`` of a batch, carried along similar cells."""
    features, weight = engine.features(images), engine.model.classifier.weight
    of_labels = weight[labels.to(weight.device)]
    return class_evidence(features.X, of_labels, features.cells)[:, 1].cpu().numpy()


def distill(
    teachers: Sequence[Method],
    samples: Sequence[Sample],
    targets: Targets | None,
    device: str = "auto",
    workers: int = 2,
    progress: Progress = no_progress,
    *,
    views: Views,
) -> Targets:
    """Targets in which a map of teachers takes part, beside ``targets`` or, without them, that map cut along edges.

    The map is the mean over the teachers, each in its ``views``, whose scales are multiples of its own input size.
    """
    engines = [TorchEngine(teacher, device, fold=False) for teacher in teachers]
    sides = [input_sides(engine.config, views.scales) for engine in engines]
    all_sides = sorted({side for of_engine in sides for side in of_engine})

    def load(number: int) -> list[np.ndarray]:
        return _resized(samples[number], all_sides)

    def infer(batch: Sequence[tuple[int, list[np.ndarray]]]) -> np.ndarray:
        whole = {side: np.stack([images[i] for _, images in batch]) for i, side in enumerate(all_sides)}

        def maps(engine: TorchEngine, own: Sequence[int]) -> np.ndarray:
            def cut(i: int, box: np.ndarray) -> list[np.ndarray]:
                return _resized(samples[batch[i][0]], own, box)

            images, tau = [whole[side] for side in own], engine.config.tau
            return infer_views(engine, images, None, views, cut, tau=tau, workers=max(1, workers)).maps

        return mean_maps([maps(engine, own) for engine, own in zip(engines, sides, strict=True)])

    def finish(number: int, images: list[np.ndarray], M: np.ndarray) -> np.ndarray:
        large = cv2.resize(M, (GRABCUT_SIDE, GRABCUT_SIDE), interpolation=cv2.INTER_LINEAR)
        T = cut_along_edges(images[0], large) if targets is None else targets[number]
        return np.asarray((2 * large + T) / 3, np.float16)

    numbers = range(len(samples))
    results = run_images(numbers, load, infer, finish, batch_size=BATCH, workers=max(1, workers))
    with progress("maps of the teacher", len(samples)) as step:
        return all_finished(counted(results, step))


def fuse(X: Tensor, below: Tensor, weights: Tensor) -> Tensor:
    """Class activation map, affinities, border distance and centre prior in one map ``(B, H, W)`` in [0, 1].

    ``below`` are features ``(B, D, H, W)`` of the stage below X, ``weights`` ``(B, C)`` the classifier's of the labels.
    """
    B, _, H, W = X.shape  # of (B, C, H, W)
    cam = class_activation_maps(X, weights)
    cells = below.flatten(2).transpose(1, 2)  # (B, HW, D)
    carried = carry(cam.flatten(1)[..., None], cells - cells.mean(dim=(0, 1)))
    unit = F.normalize(cells, dim=-1)
    grid = unit.view(B, H, W, -1)
    border = torch.cat([grid[:, 0], grid[:, -1], grid[:, :, 0], grid[:, :, -1]], dim=1)
    likeness = (unit @ border.transpose(1, 2)).topk(BORDER_NEIGHBOURS, dim=-1).values.mean(dim=-1)
    fused = min_max(min_max(carried.view(B, H, W)) + cam + min_max(1 - likeness.view(B, H, W)))
    y, x = (torch.linspace(-1, 1, n, device=X.device) for n in (H, W))
    centre = torch.exp(-(y[:, None] ** 2 + x**2) / (4 * CENTRE_SIGMA**2))  # the root of a Gaussian
    return min_max(fused * centre)


def sharpen(view: np.ndarray, fused: np.ndarray) -> np.ndarray:
    """Cut a fused map ``(H, W)`` along the colour edges of its view ``(h, w, 3)``; ``(98, 98)`` float16."""
    large = cv2.resize(fused, (GRABCUT_SIDE, GRABCUT_SIDE), interpolation=cv2.INTER_LINEAR)
    return cut_along_edges(view, 1 / (1 + np.exp(-SLOPE * (large - CUT))))


def cut_along_edges(view: np.ndarray, soft: np.ndarray) -> np.ndarray:
    """GrabCut of a view ``(h, w, 3)`` uint8 RGB from a map ``(98, 98)`` in [0, 1]; ``(98, 98)`` float16, 0 or 1."""
    small = cv2.resize(view, soft.shape[::-1], interpolation=cv2.INTER_AREA)[..., ::-1].copy()  # OpenCV wants BGR
    labels = np.where(soft > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[soft > 1 - CERTAIN] = cv2.GC_FGD
    labels[soft < CERTAIN] = cv2.GC_BGD
    if 0 < (soft > 0.5).sum() < soft.size:
        cv2.setRNGSeed(0)  # GrabCut starts with k-means
        rect: Any = None  # a mask stands in for it, which OpenCV's types do not know
        cv2.grabCut(small, labels, rect, np.zeros((1, 65)), np.zeros((1, 65)), GRABCUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    return ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.float16)


def _teachers(names: Sequence[str], provenance: MutableMapping[str, Any], say: Callable[[str], None]) -> list[Method]:
    """The teachers, and what they learnt from in the provenance; a resumed run must find them as they were."""
    folders = [find_model(name, say) for name in names]
    models = [load_model(folder) for folder in folders]
    for name, model in zip(names, models, strict=True):
        if model.class_conditional:
            msg = f"the map of teacher '{name}', a {model.title}, depends on the class; give a model whose map does not"
            raise ConfigError(msg)
    if models:
        digest = ", ".join(sha256_file(folder / WEIGHTS_FILE) for folder in folders)
        if provenance.setdefault(TEACHER, digest) != digest:
            raise ConfigError(f"{' or '.join(names)} has other weights than when the run began; start a new run")
        origins = [model.provenance for model in models]
        data = (name for origin in origins for key in ("data", "unlabelled") for name in origin.get(key, []))
        provenance["teacher_data"] = list(dict.fromkeys(data))
        if any(origin.get("tuned_on_test") for origin in origins):
            provenance["tuned_on_test"] = True
    return models


def _resized(sample: Sample, sides: Sequence[int], box: np.ndarray | None = None) -> list[np.ndarray]:
    """The whole image, or its part in a box, xyxy in shares of it, at some sizes.

    Black if it cannot be read, for training replaces such an image and its target.
    """
    try:
        image = read_sample(sample, max(sides) if box is None else closer(max(sides), box)).image
        return [resize(image, side, box) for side in sides]
    except DataError:
        return [np.zeros((side, side, 3), np.uint8) for side in sides]


@contextmanager
def _stage_below(model: Method, keep: Callable[[Tensor], None]) -> Iterator[None]:
    """While the context lasts, ``keep`` gets each output of the stage before the one that X comes from."""
    net: Any = model.backbone.net
    names = [stage["module"] for stage in net.feature_info.info]
    name = names[max(0, names.index(model.backbone.layer) - 1)]
    module = model.backbone.layer_module(name)  # type: ignore[operator]  # nn.Module types it as a Tensor
    handle = module.register_forward_hook(lambda _module, _inputs, output: keep(output))
    try:
        yield
    finally:
        handle.remove()

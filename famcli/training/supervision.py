"""What a run is taught: its images with their classes, guessed ones too, and the targets of M."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from famcli.data.sample import Sample
from famcli.hub import find_model
from famcli.training.data import Material, digest_of
from famcli.training.pseudolabels import pseudo_label
from famcli.training.recipe import Recipe
from famcli.training.targets import make_targets, refuse_without_map
from famcli.training.teacher import taught
from famcli_models.checkpoint import WEIGHTS_FILE
from famcli_models.errors import ConfigError, DataError
from famcli_models.files import sha256_file
from famcli_models.loading import load_model
from famcli_models.methods.method import Method

GUESSED = "pseudo_labels_sha256"  # in the provenance, as all keys here
TEACHER = "teacher_sha256"


@dataclass(frozen=True, slots=True)
class Lessons:
    """What :func:`famcli.training.loop.fit` is given.

    Attributes:
        samples: Labelled images, then those whose class was guessed.
        targets: For each of them a map ``(98, 98)`` float16 in [0, 1], or none.
    """

    samples: Sequence[Sample]
    targets: list[np.ndarray] | None = field(default=None, repr=False)


def needs_pretrained(recipe: Recipe) -> bool:
    """Whether lessons are made with the weights that the run began with, a resumed one too."""
    return recipe.train.lambda_target > 0 or bool(recipe.run.unlabelled)


def make_lessons(
    source: Method,
    recipe: Recipe,
    material: Material,
    accelerator: Accelerator,
    provenance: MutableMapping[str, Any],
    workers: int,
    say: Callable[[str], None],
) -> Lessons:
    """Guess classes and make targets, as the recipe asks.

    Args:
        source: The model as it was when the run began; see :func:`needs_pretrained`.
        recipe: Of the run.
        material: Of the run.
        accelerator: The main process guesses, for all of them must have the same images; each makes all targets.
        provenance: Of the run. What was guessed and who taught is added, or compared if it is there already.
        workers: Threads for decoding and GrabCut.
        say: Told what is being done.

    Raises:
        ConfigError: The recipe asks for what cannot be, or the teacher is not the one the run began with.
        DataError: The guesses are not those the run began with.
        FamError: See :func:`famcli.hub.find_model`.
    """
    run, device = recipe.run, str(accelerator.device)
    targeted = recipe.train.lambda_target > 0
    if targeted:
        refuse_without_map(source)
    if run.teacher and not targeted:
        msg = "a teacher takes part in the targets of M, and there are none; set lambda_target, or leave it out"
        raise ConfigError(msg)
    teacher = _teacher(run.teacher, provenance, say) if run.teacher else None  # a wrong one is noticed before the work
    samples: Sequence[Sample] = material.samples
    if material.unlabelled:
        guessed = _guess(source, recipe, material, accelerator, workers)
        _compare(guessed, provenance)
        provenance["unlabelled"] = list(material.unlabelled_names)
        provenance["unlabelled_confidence"] = run.unlabelled_confidence
        provenance["pseudo_labelled"] = len(guessed)
        say(f"{len(guessed)} of {len(material.unlabelled)} unlabelled images have a class that is sure")
        samples = [*samples, *guessed]
    targets = None
    if targeted and (teacher is None or source.provenance.get("classifier") == "pretrained"):
        say("making targets for M from the image labels")
        targets = make_targets(source, samples, device, workers)
    if teacher is not None:
        say(f"asking the teacher, {run.teacher}")
        targets = taught(teacher, samples, targets, device, workers)
    return Lessons(samples, targets)


def _guess(source: Method, recipe: Recipe, material: Material, accelerator: Accelerator, workers: int) -> list[Sample]:
    """The unlabelled images whose class is sure, with that class."""
    found: list[list[tuple[int, int]]] = [[]]
    if accelerator.is_main_process:
        numbered = [replace(sample, name=str(i)) for i, sample in enumerate(material.unlabelled)]
        least, device = recipe.run.unlabelled_confidence, str(accelerator.device)
        found[0] = [(int(s.name), s.label) for s in pseudo_label(source, numbered, least, device, workers)]
    broadcast_object_list(found)
    return [replace(material.unlabelled[i], label=label) for i, label in found[0]]


def _compare(guessed: Sequence[Sample], provenance: MutableMapping[str, Any]) -> None:
    digest = digest_of((sample.name, sample.label) for sample in guessed)
    if provenance.setdefault(GUESSED, digest) != digest:
        msg = (
            "the classes guessed for the unlabelled images are not those the run began with: the images, the device "
            "or the versions have changed; start a new run"
        )
        raise DataError(msg)


def _teacher(name: str, provenance: MutableMapping[str, Any], say: Callable[[str], None]) -> Method:
    """The teacher, and what it learnt from in the provenance; a resumed run must find it as it was."""
    folder = find_model(name, say)
    model = load_model(folder)
    if model.class_conditional:
        msg = f"the map of teacher '{name}', a {model.title}, depends on the class; give a model whose map does not"
        raise ConfigError(msg)
    digest = sha256_file(folder / WEIGHTS_FILE)
    if provenance.setdefault(TEACHER, digest) != digest:
        msg = f"teacher '{name}' has other weights than when the run began; start a new run"
        raise ConfigError(msg)
    origin = model.provenance
    provenance["teacher_data"] = [*origin.get("data", []), *origin.get("unlabelled", [])]
    if origin.get("tuned_on_test"):
        provenance["tuned_on_test"] = True
    return model

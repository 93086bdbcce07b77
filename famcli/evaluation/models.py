"""The model under test and its baselines: loaded by name, and where their weights came from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from famcli.data.dataset import Dataset
from famcli.data.sample import Sample
from famcli.hub.names import find_model
from famcli.inference.engine import AUTO, Engine, open_engine
from famcli_models.checkpoint import WEIGHTS_FILE
from famcli_models.class_names import BY_NUMBER, Matches
from famcli_models.errors import DataError, UnknownNameError, listed
from famcli_models.files import sha256_file

if TYPE_CHECKING:  # torch takes seconds to import, and maps and boxes of others are scored without it
    from famcli_models.methods.method import Method


BASELINE = "cam"  # what an evaluation compares with, unless it is told otherwise
SHOWN = 3  # classes that are unknown, in a message
BOXES_ALONE = "score the boxes alone with --other-classes"


@dataclass(frozen=True, slots=True)
class Model:
    """The model under test, or a baseline beside it."""

    engine: Engine[Any] = field(repr=False)
    title: str  # what rows of results call it; no two of an evaluation have the same
    name: str | None = None  # what the user called it; none for a baseline that is part of the model under test
    folder: Path | None = None  # its checkpoint, if it was read from one
    classes: Mapping[int, int] | None = None  # by label of the data; none where labels are classes of the model

    def class_of(self, sample: Sample) -> int:
        """The class of the model that an image is of."""
        return sample.label if self.classes is None else self.classes[sample.label]


def find_models(
    model: str | Path | Method,
    method: str | None = None,
    baseline: str | Path | Method | None = None,
    say: Callable[[str], None] | None = None,
    *,
    device: str = AUTO,
    engine: str = AUTO,
    scales: Sequence[float] = (1.0,),
) -> list[Model]:
    """The model under test, and its baseline: another model of any method, or that of its own features if it has one.

    ``model`` and ``baseline`` are a packaged name, a checkpoint folder, a name on the Hub, or a model; ``say`` is
    called with a sentence on what is downloaded, or why there is no baseline. ``scales`` are as
    :func:`famcli.inference.engine.open_engine` takes them.
    """
    opened = partial(_open, say=say, device=device, engine=engine, scales=scales)
    first = opened(model, method)
    if baseline is not None:
        other = opened(baseline, None)
        title = other.title if other.title != first.title else f"{other.title} (baseline)"
        return [first, replace(other, title=title)]
    if first.engine.config.method == BASELINE:
        return [first]
    own = first.engine.beside(BASELINE)
    if own is not None:
        return [first, Model(own, own.title)]
    if say is not None:
        say(
            f"no {BASELINE.upper()} beside it: this {first.title} has none without training. Train one with 'fam train "
            f"--method {BASELINE}' on the same data and give its run as --baseline RUN"
        )
    return [first]


def match_classes(
    models: Sequence[Model], dataset: Dataset, labels: Collection[int], say: Callable[[str], None] | None = None
) -> list[Model]:
    """The models, each with its class for the labels of a dataset; how they were matched is said.

    Raises:
        DataError: A class of these labels is none of a model's, or the dataset has no names and another number.
    """
    names: Sequence[str] = dataset.class_names
    if not names:  # what the first model calls them is what the others have to know
        names = models[0].engine.class_names
        _check_numbers(dataset, labels, len(names), models[0].title)
    found: list[Model] = []
    for model in models:
        known = model.engine.class_names
        matches = Matches.from_lists(names, known, [name for label, name in enumerate(names) if label in labels])
        classes = {label: matches.places[name] for label, name in enumerate(names) if name in matches.places}
        if unknown := sorted(label for label in labels if label not in classes):
            first = [names[label] if label < len(names) else f"number {label}, which has no name" for label in unknown]
            what = f"{len(unknown):,} of {len(labels):,} classes of '{dataset.name}' are none of {model.title}"
            more = " ..." if len(first) > SHOWN else ""
            raise DataError(f"{what}: {listed(first[:SHOWN])}{more}; {BOXES_ALONE}, or correct the names")
        if say is not None and known not in [other.engine.class_names for other in found]:
            by_number = not dataset.class_names or BY_NUMBER in matches.ways.values()
            how = f"{len(names):,} classes go by number" if by_number else matches.sentence(known, len(names))
            others = "; no image is of the others" if any(name not in matches.places for name in names) else ""
            say(f"{dataset.name} and {model.title}: {how}{others}")
        found.append(replace(model, classes=classes))
    return found


def _check_numbers(dataset: Dataset, labels: Collection[int], number: int, title: str) -> None:
    """Make sure that a dataset without names has as many classes, by its largest label, as a model."""
    classes = 1 + max(labels)
    if classes < number:  # other splits may have more
        classes = 1 + max(sample.label for split in dataset.own_splits() for sample in dataset.samples(split))
    if classes != number:
        what = f"'{dataset.name}' has no class names, and labels up to {classes - 1}"
        needs = f"its {classes:,} classes cannot be those of {title} by number, which are {number:,}"
        raise DataError(f"{what}: {needs}; put a file classes.txt with a name a line beside them, or {BOXES_ALONE}")


def _open(
    model: str | Path | Method,
    method: str | None,
    say: Callable[[str], None] | None,
    device: str,
    engine: str,
    scales: Sequence[float],
) -> Model:
    if isinstance(model, (str, Path)):
        folder = find_model(str(model), say)
        found = open_engine(folder, method, device, name=engine, scales=scales, say=say)
        return Model(found, found.title, str(model), folder)
    from famcli.inference.torch_engine import TorchEngine
    from famcli_models.methods import METHODS

    if method is not None and method not in METHODS:
        raise UnknownNameError("method", method, METHODS)
    network = METHODS[method].from_model(model) if method else model
    return Model(TorchEngine(network, device), network.title, network.title)


def source(models: Sequence[Model], views: str | None = None) -> dict[str, Any]:
    """Where the model under test and its baseline came from, and which views they have, in words; JSON values."""
    first, *baselines = models
    config, origin, folder = first.engine.config, first.engine.provenance, first.folder
    facts = {
        "kind": "model",
        "name": first.name,
        "method": first.engine.title,
        "backbone": config.backbone,
        "backbone_weights": origin.get("backbone_weights"),
        "weights_sha256": _sha256(first),
        "revision": folder.name if folder and folder.parent.name == "snapshots" else None,
        "input_size": config.size,
        "views": views,
        "classifier": config.classifier,
        **{key: origin.get(key) for key in ("data", "recipe", "seed", "settings_sha256")},
        "tuned_on_test": bool(origin.get("tuned_on_test", False)),
        "baseline": None,
    }
    for other in baselines:
        if other.name is not None:
            facts["baseline"] = other.name
            facts["baseline_weights_sha256"] = _sha256(other)
            facts["baseline_tuned_on_test"] = bool(other.engine.provenance.get("tuned_on_test", False))
    return facts


def _sha256(model: Model) -> str | None:
    return sha256_file(model.folder / WEIGHTS_FILE) if model.folder else None

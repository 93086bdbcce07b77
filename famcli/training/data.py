"""The images of a run: what it trains on, the validation set that chooses its best epoch, and which splits they are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import numpy as np

from famcli.data.dataset import Dataset, is_dataset, is_prepared, open_dataset
from famcli.data.listing import list_images
from famcli.data.metadata import read_class_names
from famcli.data.sample import FULLSUP, NO_BOXES, TEST, Sample, split_name
from famcli.training.recipe import IMAGENET, NONE, RunConfig
from famcli_models.checkpoint import packaged
from famcli_models.class_names import Matches
from famcli_models.errors import ConfigError, DataError, listed, short

BY_LOSS = "loss"
AUTO = "auto"
HELD_OUT = "held-out"
FEWEST = 5  # images of a class from which on one of them is held out


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The images of a run."""

    names: tuple[str, ...]  # of the datasets
    samples: Sequence[Sample] = field(repr=False)  # to train on, without boxes
    class_names: tuple[str, ...]  # by label; may be empty
    validation: Sequence[Sample] = field(repr=False)  # with boxes, or all without; may be empty
    select: str  # the split of the validation set with boxes, ``held-out`` for labels alone, or ``loss``
    on_test: bool  # the test split is trained on or selected by
    remarks: tuple[str, ...] = ()  # what was left out or decided while reading
    unlabelled: Sequence[Sample] = field(default=(), repr=False)  # to train on under pseudo-labels
    unlabelled_names: tuple[str, ...] = ()  # of the datasets that these are from

    @property
    def num_classes(self) -> int:
        """As many as there are names, or as the largest label asks for."""
        return len(self.class_names) or 1 + max(sample.label for sample in self.samples)

    @property
    def selected_by(self) -> str:
        """What the best epoch is chosen by, in words."""
        if self.select == HELD_OUT:
            return f"the lowest loss of the class on {len(self.validation)} images that are not trained on (no boxes)"
        if self.validation:
            return f"GT-known Loc on {self.select} ({len(self.validation)} images with boxes)"
        return (
            "the lowest training loss, with the last step's weights, among epochs whose M has not collapsed (no boxes)"
        )

    def digest(self) -> str:
        """SHA-256 of the images' names and labels, in order, and of the names of the unlabelled ones."""
        labelled = ((sample.name, sample.label) for sample in self.samples)
        return digest_of(chain(labelled, ((sample.name, "?") for sample in self.unlabelled)))

    def digest_of_all(self) -> str:
        """The same of these and the validation set, however a seed divided them."""
        samples = sorted((sample.name, sample.label) for sample in [*self.samples, *self.validation])
        return digest_of([*samples, *((sample.name, "?") for sample in self.unlabelled)])


def digest_of(labels: Iterable[tuple[str, object]]) -> str:
    """SHA-256 of images' names and labels, in order."""
    digest = hashlib.sha256()
    for name, label in labels:
        digest.update(f"{name}\n{label}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def absolute_paths(config: RunConfig) -> RunConfig:
    """The same with absolute paths, so that a run can be resumed from any folder; names stay names."""

    def absolute(path: str, is_name: bool) -> str:
        return path if is_name or not Path(path).exists() else str(Path(path).absolute())

    weights = config.backbone_weights
    return replace(
        config,
        data=tuple(absolute(name, is_prepared(name)) for name in config.data),
        unlabelled=tuple(absolute(name, is_prepared(name)) for name in config.unlabelled),
        teacher=tuple(absolute(name, name in packaged()) for name in config.teacher),
        backbone_weights=absolute(weights, weights in (IMAGENET, NONE, *packaged())),
        class_names=str(Path(config.class_names).absolute()) if config.class_names else "",
    )


def open_data(config: RunConfig, seed: int = 0) -> TrainingData:
    """Open the datasets of a run; the test split is refused unless the recipe says that this is known.

    ``seed`` chooses the images that are held out.
    """
    if not config.data:
        raise ConfigError("no data to train on; give --data NAME or FOLDER ('fam data list' shows the names)")
    train, select = split_name(config.split), split_name(config.select)
    on_test = TEST in (train, select)
    if on_test and not config.i_know_this_is_test:
        raise ConfigError(
            "training on the test split, or selecting by it, makes its scores worthless; to do it nevertheless add "
            "--i-know-this-is-test, and the run will be marked"
        )
    datasets = [open_dataset(name) for name in config.data]
    sources = _of_same_classes(datasets, train)
    samples: Sequence[Sample] = [sample for source in sources for sample in source.samples(train)]
    remarks = [remark for source in sources for remark in (*source.dataset.remarks, *source.remarks)]
    if config.images_per_class:
        samples, everything = few_of_each_class(samples, config.images_per_class), len(samples)
        remarks.append(f"training takes {len(samples)} of {everything} images, {config.images_per_class} of each class")
    wanted = {AUTO: FULLSUP, BY_LOSS: ""}.get(select, select)
    having = [source for source in sources if wanted in source.dataset.splits()]
    if not having and select not in (AUTO, BY_LOSS):
        known = sorted({name for dataset in datasets for name in dataset.splits()})
        msg = f"no dataset has the split '{select}' to select by (there are {', '.join(known)}); use select=loss"
        raise DataError(msg)
    found = [s for source in having for s in source.samples(wanted, with_boxes=True, boxes_optional=select == AUTO)]
    validation = [sample for sample in found if len(sample.boxes)]
    if select == AUTO and validation:
        select = FULLSUP
        if len(validation) < len(found):
            remarks.append(f"{len(found) - len(validation)} images of {FULLSUP} have no box to validate by")
    elif select == AUTO:
        validation = found
        if not found and config.hold_out:
            samples, validation = hold_out(samples, config.hold_out, seed)
            counts = f"{len(validation)} of {len(samples) + len(validation)} images are held out of training"
            share = f"to validate by (about {config.hold_out:.0%} of each class)"
            few = f"no image is held out of training to validate by: no class has {FEWEST}"
            remarks.append(f"{counts} {share}" if validation else few)
        select = HELD_OUT if validation else BY_LOSS
    class_names = _names_in(Path(config.class_names), sources[0].names) if config.class_names else sources[0].names
    if len(class_names) == 1:
        remarks.append(f"there is one class: the model will call whatever it finds '{class_names[0]}'")
    unlabelled = [_without_labels(name, train) for name in config.unlabelled]
    taken = {sample.path.resolve() for sample in [*samples, *validation]} if unlabelled else set()
    return TrainingData(
        names=tuple(dataset.name for dataset in datasets),
        samples=samples,
        class_names=class_names,
        validation=validation,
        select=select,
        on_test=on_test,
        remarks=tuple(remarks),
        unlabelled=[sample for _, found in unlabelled for sample in found if sample.path.resolve() not in taken],
        unlabelled_names=tuple(name for name, _ in unlabelled),
    )


def few_of_each_class(samples: Sequence[Sample], most: int) -> list[Sample]:
    """At most so many samples of each class, always the same ones, in their order."""
    labels, kept = np.array([sample.label for sample in samples]), set[int]()
    for label in np.unique(labels):
        kept.update(np.random.default_rng(int(label)).permutation(np.flatnonzero(labels == label))[:most].tolist())
    return [samples[number] for number in sorted(kept)]


def hold_out(samples: Sequence[Sample], share: float, seed: int) -> tuple[list[Sample], list[Sample]]:
    """The samples without a share of each class, and that share: at random by a seed, one image at least of five."""
    held: set[int] = set()
    labels = np.array([sample.label for sample in samples])
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        count = max(round(share * len(of_class)), int(len(of_class) >= FEWEST))
        held.update(np.random.default_rng((seed, int(label))).permutation(of_class)[:count].tolist())
    kept = [sample for number, sample in enumerate(samples) if number not in held]
    return kept, [samples[number] for number in sorted(held)]


def _without_labels(name: str, split: str) -> tuple[str, Sequence[Sample]]:
    """Name and images of a dataset, or of a folder that is none: all the images in it."""
    folder = Path(name)
    if is_prepared(name) or not folder.is_dir() or is_dataset(folder):
        dataset = open_dataset(name)
        return dataset.name, dataset.samples(split)
    listing = list_images([name]).check_whole()
    return folder.absolute().name, [Sample(n, listing.path(n), 0, NO_BOXES) for n in listing.names]


def _names_in(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Class names in a file, which may be others than those of the data, but not those of other labels."""
    given = tuple(read_class_names(path))
    places = Matches.from_names(given, names).places
    for label, name in enumerate(given):
        if (other := places.get(name, label)) != label:
            what = f"'{path}' calls label {label} '{short(name)}', which the data call label {other}"
            raise ConfigError(f"{what}: put the names in the order of the labels, or leave out class_names")
    return given


@dataclass(frozen=True, slots=True)
class _Source:
    """A dataset of a run, whose labels become those of classes that all of them have in common."""

    dataset: Dataset
    names: tuple[str, ...]  # of these classes; may be empty
    labels: Mapping[int, int] | None = None  # by label of the dataset; none where they are the same
    remarks: tuple[str, ...] = ()

    def samples(self, split: str, **options: bool) -> list[Sample]:
        samples, labels = self.dataset.samples(split, **options), self.labels
        return samples if labels is None else [replace(s, label=labels.get(s.label, s.label)) for s in samples]


def _of_same_classes(datasets: Sequence[Dataset], split: str) -> list[_Source]:
    """The datasets, with the labels of the first that has class names."""
    first = next((dataset for dataset in datasets if dataset.class_names), datasets[0])
    names, sources = first.class_names, []
    for dataset in datasets:
        if dataset.class_names == names:
            sources.append(_Source(dataset, names))
            continue
        if not dataset.class_names:
            classes = 1 + max(sample.label for sample in dataset.samples(split))
            if classes != len(names):
                counts = f"'{dataset.name}' has no class names, and {classes:,} classes to the {len(names):,}"
                raise DataError(f"{counts} of '{first.name}', so they cannot go by number: put a classes.txt beside it")
            remark = f"{dataset.name}: its {classes:,} classes go by number, as '{first.name}' names them"
            sources.append(_Source(dataset, names, remarks=(remark,)))
            continue
        matches = Matches.from_lists(dataset.class_names, names)
        if unknown := [name for name in dataset.class_names if name not in matches.places]:
            both = f"'{first.name}' and '{dataset.name}' name their classes differently ({listed(unknown[:3])})"
            raise DataError(f"{both}; train on one of them")
        labels = {label: matches.places[name] for label, name in enumerate(dataset.class_names)}
        how = matches.sentence(names)
        sources.append(_Source(dataset, names, labels, (f"{dataset.name} and {first.name}: {how}",)))
    return sources

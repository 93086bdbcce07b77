"""What a run learns from and what its best epoch is chosen by: images with labels, and the honesty of splits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from famcli.data.dataset import Dataset, Sample, open_dataset
from famcli.data.metadata import read_class_names
from famcli.data.splits import FULLSUP, TEST, split_name
from famcli.recipe import RunConfig
from famcli_models.errors import ConfigError, DataError

BY_LOSS = "loss"
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Material:
    """The images of a run.

    Attributes:
        names: Of the datasets.
        samples: To train on, without boxes.
        class_names: By label; may be empty.
        judged: Images with boxes that the best epoch is chosen by; none if it is chosen by the loss.
        select: The split they are from, or ``loss``.
        on_test: The test split is trained on or selected by.
    """

    names: tuple[str, ...]
    samples: Sequence[Sample] = field(repr=False)
    class_names: tuple[str, ...]
    judged: Sequence[Sample] = field(repr=False)
    select: str
    on_test: bool

    @property
    def num_classes(self) -> int:
        """As many as there are names, or as the largest label asks for."""
        return len(self.class_names) or 1 + max(sample.label for sample in self.samples)

    def digest(self) -> str:
        """SHA-256 of the images' names and labels, in order."""
        digest = hashlib.sha256()
        for sample in self.samples:
            digest.update(f"{sample.name}\n{sample.label}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


def gather(config: RunConfig) -> Material:
    """Open the datasets of a run.

    Raises:
        ConfigError: No data were named, or the test split was without saying that this is known.
        DataError: A dataset cannot be read, or two of them name their classes differently.
    """
    if not config.data:
        msg = "no data to train on; give --data NAME or FOLDER ('fam data list' shows the names)"
        raise ConfigError(msg)
    train, select = split_name(config.split), split_name(config.select)
    on_test = TEST in (train, select)
    if on_test and not config.i_know_this_is_test:
        msg = (
            "training on the test split, or selecting by it, makes its scores worthless; to do it nevertheless add "
            "--i-know-this-is-test, and the run will be marked"
        )
        raise ConfigError(msg)
    datasets = [open_dataset(name) for name in config.data]
    samples = [sample for dataset in datasets for sample in dataset.samples(train)]
    if select == AUTO:
        select = FULLSUP if any(FULLSUP in dataset.splits() for dataset in datasets) else BY_LOSS
    judged = [] if select == BY_LOSS else _judged(datasets, select)
    names = tuple(read_class_names(Path(config.class_names))) if config.class_names else _class_names(datasets)
    return Material(tuple(dataset.name for dataset in datasets), samples, names, judged, select, on_test)


def _judged(datasets: Sequence[Dataset], split: str) -> list[Sample]:
    having = [dataset for dataset in datasets if split in dataset.splits()]
    if not having:
        known = sorted({name for dataset in datasets for name in dataset.splits()})
        msg = f"no dataset has the split '{split}' to select by (there are {', '.join(known)}); use select=loss"
        raise DataError(msg)
    return [sample for dataset in having for sample in dataset.samples(split, with_boxes=True)]


def _class_names(datasets: Sequence[Dataset]) -> tuple[str, ...]:
    named = [dataset for dataset in datasets if dataset.class_names]
    for dataset in named[1:]:
        if dataset.class_names != named[0].class_names:
            msg = f"'{named[0].name}' and '{dataset.name}' name their classes differently; train on one of them"
            raise DataError(msg)
    return named[0].class_names if named else ()

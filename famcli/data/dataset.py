"""A dataset: where its images are, what its classes are called, and the samples of its splits.

On disk ("prepared") it is a folder with ``dataset.json`` and ``metadata/<split>/`` in wsolevaluation's layout.
The image files may lie elsewhere, so that nobody's photographs are copied. A folder with ``metadata/`` alone is
a dataset too, and other forms (see :mod:`famcli.data.readers`) are opened in memory.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from famcli.data import metadata
from famcli.data.metadata import METADATA
from famcli.data.public.catalog import CATALOG
from famcli.data.readers import read_own
from famcli.data.sample import BENCHMARK_NAMES, FULLSUP, NO_BOXES, SPLITS, Sample, in_order, split_name
from famcli.data.sources import missing_hint
from famcli.data.truth import check_truth
from famcli_models.errors import ConfigError, DataError, UnknownNameError, short
from famcli_models.files import write_atomic

__all__ = ["DATASET_FILE", "SPLITS", "Dataset", "Sample", "data_home", "open_dataset", "write_dataset"]

DATASET_FILE = "dataset.json"
FORMAT, FORMAT_VERSION = "fam-dataset", 1
MAX_FILE_BYTES = 64 * 2**20  # a million class names still fit


@dataclass(frozen=True)
class Dataset:
    """An opened dataset; samples are read when asked for.

    Attributes:
        name: Its name in the data home, or the name of its folder or file.
        root: Folder of ``dataset.json`` and ``metadata``, or the own file or folder it was read from.
        images: The folder that image names are relative to.
        class_names: Names by label; empty if the dataset has none.
        fullsup: Name of the sibling dataset that has the split train-fullsup.
        facts: Source, terms and the like; ``counts`` has the number of images and boxes by split.
        held: Samples by split, with their boxes, of a dataset that was opened in memory.
    """

    name: str
    root: Path
    images: Path
    class_names: tuple[str, ...] = ()
    fullsup: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    held: Mapping[str, list[Sample]] | None = field(default=None, repr=False, compare=False)

    @property
    def remarks(self) -> list[str]:
        """What was left out or decided when own data was opened; sentences for the user."""
        return list(self.facts.get("remarks", ())) if self.held is not None else []

    def splits(self) -> list[str]:
        """Splits that can be read, by the paper's names and in its order; that of the sibling included."""
        sibling = self._sibling()
        return in_order([*self.own_splits(), *([FULLSUP] if sibling and FULLSUP in sibling.own_splits() else [])])

    def own_splits(self) -> list[str]:
        """Splits of this dataset alone, whose image names are relative to :attr:`images`."""
        if self.held is not None:
            return list(self.held)
        found = metadata.splits_of(self.root / METADATA)
        counts = self.facts.get("counts")  # a folder that dataset.json does not count is left of an earlier one
        return found if counts is None else [split for split in found if split in counts]

    def count(self, splits: Iterable[str] = ()) -> int:
        """Images listed in some splits, or in all; for a progress bar, so a split that is not there counts nothing."""
        total = 0
        for split in [split_name(split) for split in splits] or self.splits():
            if split == FULLSUP and split not in self.own_splits() and (sibling := self._sibling()):
                total += sibling.count([split])
            elif self.held is not None:
                total += len(self.held.get(split, ()))
            elif folder := self._folder(split):
                total += metadata.count_images(folder)
        return total

    def samples(
        self, split: str, *, with_boxes: bool = False, boxes_optional: bool = False, checked: bool = True
    ) -> list[Sample]:
        """Samples of a split, in the order of its list.

        Args:
            split: One of :meth:`splits`, or the same by another name: ``train``, ``val``.
            with_boxes: Read the boxes too, at least one for each image. Training never does.
            boxes_optional: With boxes, let images have none.
            checked: With boxes, compare them and the stated sizes with the headers of the images.

        Raises:
            DataError: The split is not there, a file cannot be read, an image has no label or no box, or a box or a
                stated size cannot be true (see :mod:`famcli.data.truth`).
        """
        samples = self._samples(split, with_boxes=with_boxes, boxes_optional=boxes_optional)
        if with_boxes and checked:
            name = self.name if self.root == data_home() / self.name else os.fspath(self.root)
            check_truth(samples, f"'{name}', {split_name(split)}", f"fam data check {shlex.quote(name)}")
        return samples

    def _samples(self, split: str, *, with_boxes: bool, boxes_optional: bool) -> list[Sample]:
        name = split_name(split)
        if self.held is not None and name in self.held:
            samples = self.held[name]
            bare = next((s for s in samples if not len(s.boxes)), None)
            if with_boxes and bare is not None and not boxes_optional:
                raise DataError(f"'{self.root}', {name}: image '{bare.name}' has no box, which is needed here")
            return [s if with_boxes or not len(s.boxes) else dataclasses.replace(s, boxes=NO_BOXES) for s in samples]
        if folder := self._folder(name):
            return metadata.read_split(folder, self.images, with_boxes=with_boxes, boxes_optional=boxes_optional)
        if name == FULLSUP and self.fullsup:
            if sibling := self._sibling():
                return sibling.samples(name, with_boxes=with_boxes, boxes_optional=boxes_optional, checked=False)
            why = f"'{self.fullsup}', which is not there: {_get(self.fullsup)}"
            raise DataError(f"'{self.name}' takes {FULLSUP} from {why}")
        found = f"splits found: {', '.join(self.splits()) or 'none'}"
        raise DataError(f"'{self.root}' has no split '{split}' ({found}){self._how_to_say(name)}")

    def _folder(self, split: str) -> Path | None:
        """The folder of a split of this dataset alone."""
        counted = self.facts.get("counts", {split: {}}) if self.held is None else {}
        return metadata.split_folder(self.root / METADATA, split) if split in counted else None

    def _how_to_say(self, split: str) -> str:
        """The command that says which split own images are of, if nothing in them does; otherwise nothing."""
        if self.held is None or split not in SPLITS or split in self.held:
            return ""
        again = read_own(self.root, str(self.facts.get("format", "auto")), split=split)
        if split not in again.splits:
            return ""
        words = ["--from", str(self.root), "--split", split]
        words += ["--images", str(self.images)] if again.images != self.images else []
        command = f"fam data prepare NAME {shlex.join(words)}"
        return f"; nothing in it tells the split, so if its images are {split}, run '{command}' and give NAME instead"

    def _sibling(self) -> Dataset | None:
        if not self.fullsup or not (self.root.parent / self.fullsup / METADATA).is_dir():
            return None
        return _open_folder(self.root.parent / self.fullsup)


def data_home() -> Path:
    """Where prepared datasets live: ``$FAM_DATA``, else the user's cache folder."""
    try:
        if os.environ.get("FAM_DATA"):
            return Path(os.environ["FAM_DATA"]).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fam" / "data"
    except RuntimeError as error:
        raise ConfigError(
            "no home folder is known for this user: set HOME, or FAM_DATA to a folder for data"
        ) from error


def is_prepared(name: str) -> bool:
    """Whether a name, and not a path, is that of a dataset in the data home."""
    # os.path and not Path: for a name longer than a file system holds, Path raises.
    return Path(name).name == name and name not in ("", ".", "..") and os.path.isfile(data_home() / name / DATASET_FILE)


def is_dataset(folder: Path) -> bool:
    """Whether a folder holds ``dataset.json`` or a split in ``metadata/``."""
    return (folder / DATASET_FILE).is_file() or bool(metadata.splits_of(folder / METADATA))


def open_dataset(name_or_path: str | os.PathLike[str], images: Path | None = None) -> Dataset:
    """A dataset by the name it was prepared under, or by its path.

    A prepared name comes first, as packaged models do; write ``./cub`` for a folder of that name.

    Args:
        name_or_path: A name in the data home, a folder with ``dataset.json`` or ``metadata/``, or data in any form
            that :func:`famcli.data.readers.read_own` knows.
        images: The folder that the image names of own data are relative to, if they are not found near it.

    Raises:
        UnknownNameError: It is neither a prepared dataset nor here.
        DataError: It is a path and not there, or cannot be read.
    """
    name = os.fspath(name_or_path)
    if is_prepared(name):
        return _open_folder(data_home() / name)
    path = Path(name)
    there = os.path.exists(path)
    hint = "" if there else missing_hint(path)
    if not there and (hint or path.name != name):
        raise DataError(f"there is no file or folder '{short(name)}'{hint}")
    if not there or not name:
        prepared = [p.parent.name for p in data_home().glob(f"*/{DATASET_FILE}")]
        raise UnknownNameError("dataset", name, prepared, f"or give a file or folder; {_get(name)}")
    if (path / DATASET_FILE).is_file() or (images is None and is_dataset(path)):
        return _open_folder(path)
    own = read_own(path, images=images)
    name = path.absolute().stem if path.is_file() else path.absolute().name
    return Dataset(name, path, own.images, own.class_names, facts=own.facts(), held=own.splits)


def _open_folder(root: Path) -> Dataset:
    if not (root / DATASET_FILE).is_file():
        return Dataset(root.absolute().name, root, root, metadata.class_names_in(root))
    path = root / DATASET_FILE
    try:
        data = metadata.read_json(path, MAX_FILE_BYTES)
    except DataError as error:
        raise DataError(f"{error}: prepare the dataset again") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT or data.get("format_version") != FORMAT_VERSION:
        needs = f"'format' {FORMAT}, version {FORMAT_VERSION}"
        raise DataError(f"{path} is not a dataset of this version of fam: it needs {needs}")
    try:
        counts = {split_name(s): {what: int(n) for what, n in found.items()} for s, found in data["counts"].items()}
        fullsup = str(data["fullsup"]) if data["fullsup"] else None
        facts, class_names = {**data["facts"], "counts": counts}, tuple(str(name) for name in data["class_names"])
        return Dataset(str(data["name"]), root, root / str(data["images"]), class_names, fullsup, facts)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"{path} is damaged ({type(error).__name__}: {error}): prepare the dataset again") from error


def write_dataset(
    root: Path,
    name: str,
    images: Path,
    class_names: Iterable[str],
    splits: Mapping[str, Iterable[Sample]],
    fullsup: str | None = None,
    facts: Mapping[str, Any] | None = None,
    *,
    benchmark_names: bool = False,
) -> dict[str, dict[str, int]]:
    """Write a prepared dataset, each file whole or not at all; gives the number of ``images`` and ``boxes`` by split.

    ``dataset.json`` is removed first and written last, so that what is half-written is never taken for whole.
    Splits that were there before and are not given stay on disk, but the dataset has them no more. Samples are taken
    one by one, so that memory does not grow with their number; ``benchmark_names`` calls the folders of the splits
    train, val and test, as wsolevaluation's programs do. The rest is as in :class:`Dataset`.
    """
    counts = {}
    (root / DATASET_FILE).unlink(missing_ok=True)
    for split, samples in splits.items():
        folder = BENCHMARK_NAMES.get(split_name(split), split) if benchmark_names else split_name(split)
        counts[split_name(split)] = metadata.write_split(root / METADATA / folder, samples)
    where, home = images.absolute(), root.absolute()
    data = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": name,
        "images": where.relative_to(home).as_posix() if where.is_relative_to(home) else str(where),
        "fullsup": fullsup,
        "counts": counts,
        "facts": dict(facts or {}),
        "class_names": list(class_names),
    }
    text = json.dumps(data, ensure_ascii=False, indent=2) + "\n"
    write_atomic(root / DATASET_FILE, lambda path: path.write_bytes(text.encode("utf-8", "backslashreplace")))
    return counts


def _get(name: str) -> str:
    command = f"download {name}" if name in CATALOG else f"prepare {name or 'NAME'} --from DIR"
    return f"get it with 'fam data {command}'"

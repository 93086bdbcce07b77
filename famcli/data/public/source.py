"""The folder that a public dataset is prepared from: its archives, or what somebody extracted from them before."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import tee
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from famcli.data.images import Header, read_headers
from famcli.data.public.catalog import DatasetFacts
from famcli.data.public.download import check_space, verify
from famcli.data.public.extract import Place, extract, extract_nested
from famcli.data.sample import Sample
from famcli_models.boxes import FloatArray
from famcli_models.errors import DataError

NAMED = 5  # images that cannot be read, one by one


class Talk(Protocol):
    """Where progress bars, remarks and warnings go: the console of the command line."""

    def progress(
        self, what: str, total: int | None, *, in_bytes: bool = False
    ) -> AbstractContextManager[Callable[..., object]]:
        """A bar; gives the function that advances it."""

    def say(self, text: str) -> object:
        """A remark."""

    def warn(self, text: str) -> object:
        """Something that went wrong while the rest went on."""


class Contents(NamedTuple):
    """What was found, ready to be written."""

    images: Path  # the folder that image names are relative to
    class_names: tuple[str, ...]  # by label; may be empty
    splits: Mapping[str, Iterable[Sample]]  # each may be taken once
    watched: Iterable[Path]  # files and folders of which a change means that the dataset should be prepared anew


@dataclass(slots=True)
class Source:
    """The folder of ``--from``, and where to extract to."""

    facts: DatasetFacts
    folder: Path  # of archives or extracted trees; never written to, unless it is ``out`` too
    out: Path  # of the prepared dataset
    talk: Talk
    hashes: dict[str, str] = field(default_factory=dict)  # of the archives used so far, by name
    unreadable: int = 0  # images that could not be read so far

    def archive(self, name: str) -> Path | None:
        """An archive, verified; ``None`` if it is not there."""
        path = self.folder / name
        row = next(archive for archive in self.facts.archives if archive.name == name)
        if not path.is_file():
            return None
        if path.name not in self.hashes:
            with self.talk.progress(f"checking {name}", path.stat().st_size, in_bytes=True) as step:
                self.hashes[path.name] = verify(path, row, self.out, step)
            if not row.hash:
                self.talk.say(f"{name} is not pinned: its {self.hashes[path.name]} was taken as it is")
        return path

    def first(self, *places: str, holding: str = "") -> Path | None:
        """The first of some places below the folder that exists and, if asked for, holds a file matching a pattern."""
        paths = (self.folder / place for place in places)
        return next((p for p in paths if p.exists() and (not holding or any(p.glob(holding)))), None)

    def benchmark_list(self, *places: str) -> Path | None:
        """A list of wsolevaluation; of the places the first is where a download puts it."""
        path = self.first(*places)
        return self.archive(places[0]) if path == self.folder / places[0] else path

    def tree(self, archive: str, into: str, *places: str, holding: str) -> Path | None:
        """An extracted tree; not the one that was extracted here, perhaps by half, while its archive is there."""
        found = self.first(*places, holding=holding)
        ours = found is not None and found.absolute() == (self.out / into).absolute()
        return None if ours and (self.folder / archive).is_file() else found

    def extract(self, name: str, place: Place, into: str, total: int, nested: bool = False) -> None:
        """Extract a verified archive of ``total`` files, or a tar of tars, to the folder ``into`` below ``out``."""
        unpacked = next(archive.unpacked for archive in self.facts.archives if archive.name == name)
        if not (self.out / into).exists():  # a second start must not ask for the whole space again
            check_space((self.out, unpacked, f"extract {name}"))
        with self.talk.progress(f"extracting {name}", total) as step:
            run = extract_nested if nested else extract
            run(self.folder / name, self.out, place, max(2 * unpacked, 4 * 10**9), step)

    def missing(self, *parts: str) -> DataError:
        """The error that names what is missing and where to get it."""
        pages = dict.fromkeys(archive.page for archive in self.facts.archives if archive.required)
        login = " (a login is needed)" if self.facts.name == "ilsvrc" else ""
        return DataError(
            f"'{self.folder}' has not all of {self.facts.title}; missing: {'; '.join(parts)}. "
            f"Get it at {' and '.join(pages)}{login}, or name another folder with --from"
        )

    def sized(self, samples: Iterable[Sample], what: str, total: int) -> Iterator[Sample]:
        """Samples with their sizes from the images' headers, and boxes cut to the image.

        An image that cannot be read is warned about and stays listed, as in the benchmark; an absent one is an error.
        """
        with self.talk.progress(what, total) as step:
            for_paths, for_samples = tee(samples)  # read_headers is a few hundred ahead, and no more
            for sample, header in zip(for_samples, read_headers((s.path for s in for_paths), step=step), strict=True):
                if not isinstance(header, DataError):
                    yield replace(sample, size_hw=header.size_hw, boxes=_inside(sample, header))
                    continue
                if not os.path.isfile(sample.path):
                    raise DataError(f"'{sample.path}' is listed but not there: extract the images again") from header
                self.unreadable += 1
                if self.unreadable <= NAMED:
                    self.talk.warn(f"{sample.path}: {header}")
                yield sample


def _inside(sample: Sample, header: Header) -> FloatArray:
    """Boxes of the stored pixels, which publishers mean, in the frame of the upright picture, cut to it."""
    if not len(sample.boxes):
        return sample.boxes
    height, width = header.size_hw
    x0, y0, x1, y1 = sample.boxes.T
    if header.orientation >= 5:  # transposed first; what is left is a mirroring of the upright frame
        x0, y0, x1, y1 = y0, x0, y1, x1
    if header.orientation in {2, 3, 6, 7}:
        x0, x1 = width - x1, width - x0
    if header.orientation in {3, 4, 7, 8}:
        y0, y1 = height - y1, height - y0
    boxes = np.stack([x0, y0, x1, y1], axis=1).clip(0, (width, height, width, height))
    if (boxes[:, 2:] <= boxes[:, :2]).any():
        size = f"{width}x{height}"
        raise DataError(f"'{sample.name}' has a box outside of the image, which is {size}: {sample.boxes.tolist()}")
    return boxes

"""Given classes (GT-known mode): what ``--label`` and ``--labels`` say, classes of the model or names of one's own."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from famcli.data.listing import Listing
from famcli.data.lists import read_list
from famcli.data.sources import missing_hint
from famcli_models.class_names import Matches
from famcli_models.errors import ConfigError, DataError, UnknownNameError, listed, near_names, shown

BY_FOLDER = "folder"
MOST_COMPARED = 100  # names that the model's nearest are looked for, which takes a millisecond each
TYPING_ERROR = 0.8  # share of letters that a name has in common with a class that was probably meant
NUMBER = re.compile(r"0|[1-9][0-9]{0,5}")  # without leading zeros: a folder 001 is somebody's name


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes that are given to the images of a run.

    Attributes:
        indices: Of each text that was given: its class among those of the model, or among ``own``.
        own: Names of one's own, sorted; empty if all are classes of the model.
        unknown: The first of them that are no classes of the model, each with the model's nearest names.
        how: How they were matched with classes of the model, a sentence; empty if names are one's own.
    """

    indices: Mapping[str, int]
    own: tuple[str, ...] = ()
    unknown: Mapping[str, list[str]] | None = None
    how: str = ""

    @classmethod
    def from_texts(cls, texts: Iterable[str], class_names: Sequence[str], *, conditional: bool = False) -> Classes:
        """Classes of the model if it knows all of the texts, and else names of one's own.

        With ``conditional`` the model's maps depend on the class, so that it has to know them all.
        """
        given = sorted(set(texts))
        if any(not text.strip() for text in given):
            raise DataError("the name of a class is empty")
        matches = Matches.from_names(given, class_names)
        others = [text for text in given if text not in matches.places]
        numbers = {text: int(text) for text in others if NUMBER.fullmatch(text) and int(text) < len(class_names)}
        unknown = [text for text in others if text not in numbers and text not in matches.ambiguous]
        if not unknown:
            matches.check()
            remarks = [matches.sentence(class_names)] if matches.places else []
            if numbers:
                named = listed([f"{number} is {class_names[index]}" for number, index in numbers.items()])
                remarks.append(f"numbers: classes of the model by index ({named})")
            return cls({**matches.places, **numbers}, how="; ".join(remarks))
        if conditional:
            hint = "the model's map is that of the class asked for, so it takes no names of your own; a FAM does"
            raise UnknownNameError("class", unknown[0], class_names, hint)
        near = {text: near_names(text, class_names, TYPING_ERROR) for text in unknown[:MOST_COMPARED]}
        return cls({text: i for i, text in enumerate(given)}, tuple(given), near)

    def find(self, label: str | int | None) -> int | None:
        """Class index of one of the texts, or of what is an index already."""
        return self.indices[label] if isinstance(label, str) else label if label is None else int(label)

    def remark(self) -> str | None:
        """Says how classes were matched, or which names are one's own, so that an error is noticed."""
        if not self.own or self.unknown is None:
            return self.how or None
        near = [f"{shown(text)} is near {listed(names)}" for text, names in self.unknown.items() if names]
        hint = f"; no class of the model, but {'; '.join(near[:3])}" if near else ""
        return f"names: {len(self.own)} own class{'es' * (len(self.own) > 1)} ({listed(self.own)}){hint}"


def folder_label(name: str, root: Path) -> str:
    """What ``--labels folder`` says of an image: the name of its folder, that of ``root`` if it lies directly there."""
    return PurePosixPath(name).parent.name or root.absolute().name


def read_labels(place: str | Path) -> dict[str, str]:
    """Labels of images by name, from a file with lines ``image,class``, which may name images that are not there."""
    path = Path(place)
    if not path.is_file():
        either = f"is neither 'folder' nor a file of lines IMAGE,CLASS{missing_hint(path)}"
        raise DataError(f"--labels {shown(str(place))} {either}; --label gives one class, or name, to all images")
    labels: dict[str, str] = {}
    with path.open("rb") as file:
        for number, line in enumerate(read_list(file, f"'{path}'"), 1):
            if not line.strip():
                continue
            name, label = _split_label(line)
            if not name or not label:
                raise DataError(f"{path}, line {number}: expected 'image,class', got {shown(line)}")
            if not label.isprintable():  # nor are bytes that are no text
                raise DataError(f"{path}, line {number}: the class {shown(label)} is no text")
            if labels.setdefault(name, label) != label:
                both = f"{shown(labels[name])} and {shown(label)}"
                raise DataError(f"{path}, line {number}: {shown(name)} has two classes, {both}")
    return labels


def _split_label(line: str) -> tuple[str, str]:
    """Name and class of a line, whose name may be quoted as a spreadsheet does."""
    name, _, label = line.rpartition(",")
    quoted = next(csv.reader([line])) if line.startswith('"') else []
    if len(quoted) == 2:
        name, label = quoted
    return name.strip(), sys.intern(label.strip())


@dataclass(frozen=True, slots=True)
class GivenClasses:
    """What ``--label`` or ``--labels`` says of the images of a run.

    Attributes:
        text: The class of an image by its name, or ``None``.
        classes: All that are given in the run, by every rank.
        remarks: What to know of them.
    """

    text: Callable[[str], str | None]
    classes: Classes
    remarks: tuple[str, ...] = ()

    @classmethod
    def from_options(
        cls, label: str | None, labels: str | None, listing: Listing, class_names: Sequence[str], *, conditional: bool
    ) -> GivenClasses | None:
        """Classes of the images in a listing, tars not yet opened; ``None`` if none are given."""
        if label is not None and labels is not None:
            raise ConfigError("--label is one class for all images and --labels one for each: give one of the two")
        remarks = []
        find: Callable[[str], str | None]
        if label is not None:
            find, texts = (lambda _: label), {label}
        elif labels is None:
            return None
        elif labels == BY_FOLDER:
            if listing.has_tars:
                raise ConfigError(
                    "--labels folder is for images in folders, and these lie in tars: give a file of lines"
                )
            find = partial(folder_label, root=Path(listing.root))
            texts = {folder_label(name, Path(listing.root)) for name in listing.names}
        else:
            table = read_labels(labels)
            absent = [] if listing.has_tars else [name for name in table if name not in listing.names]
            if absent:
                entries = "entries" if len(absent) > 1 else "entry"
                remarks.append(f"{len(absent)} {entries} of '{labels}' not among the images ({listed(absent)})")
            find, texts = table.get, {table[name] for name in table.keys() - absent}
        classes = Classes.from_texts(texts, class_names, conditional=conditional)
        if remark := classes.remark():
            remarks.append(remark)
        return cls(find, classes, tuple(remarks))

    def find(self, name: str) -> int | None:
        """Class index of an image, or ``None`` of one that no class is given for."""
        return self.classes.find(self.text(name))

"""Given class labels (GT-known mode): what ``--labels`` says, as a class index for each image."""

from __future__ import annotations

import csv
import functools
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from famcli_models.errors import DataError, UnknownNameError

BY_FOLDER = "folder"


def find_class(text: str, class_names: Sequence[str]) -> int:
    """Class index of a name, up to case, or of a number in range; others are answered with the near names."""
    lowered = [name.lower() for name in class_names]
    if text.lower() in lowered:
        return lowered.index(text.lower())
    if text.isdecimal() and int(text) < len(class_names):
        return int(text)
    hint = f"or give a number from 0 to {len(class_names) - 1}"
    raise UnknownNameError("class", text, class_names, hint)


def read_labels(value: str, names: Sequence[str], class_names: Sequence[str], root: Path = Path()) -> dict[str, int]:
    """Class index by image name; images that a file does not name are absent.

    ``value`` is ``folder``, which takes the name of each image's folder (``root`` for those directly in it), the path
    of a file with lines ``image,class``, or one class for all images.
    """
    index = functools.cache(lambda label: find_class(label, class_names))  # many images share few classes
    if value == BY_FOLDER:
        return {name: index(PurePosixPath(name).parent.name or root.absolute().name) for name in names}
    path = Path(value)
    if not path.is_file():
        return dict.fromkeys(names, index(value))
    labels = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read labels '{path}': {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, comma, label = line.rpartition(",")
        if not comma:
            raise DataError(f"{path}, line {number}: expected 'image,class', got '{line}'")
        quoted = next(csv.reader([line])) if line.startswith('"') else []
        if len(quoted) == 2:
            name, label = quoted
        try:
            labels[name.strip()] = index(label.strip())
        except UnknownNameError as error:
            raise DataError(f"{path}, line {number}: {error}") from error
    return labels

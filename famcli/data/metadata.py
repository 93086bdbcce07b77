"""Reads and writes labelled image lists as text, in the layout of the wsolevaluation benchmark.

A split is a folder with ``image_ids.txt`` (``path``), ``class_labels.txt`` (``path,label``), ``image_sizes.txt``
(``path,width,height``) and ``localization.txt`` (``path,x0,y0,x1,y1``, a line a box). The files store inclusive
corners, and only here is one added or taken away. Decimals, which the benchmark's own programs refuse, are kept.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from famcli.data.sample import BENCHMARK_NAMES, MAX_CLASSES, MAX_PIXEL, NO_BOXES, Sample, in_order, split_name
from famcli_models.boxes import FloatArray
from famcli_models.errors import DataError, short
from famcli_models.files import open_regular, read_regular, write_atomic

METADATA = "metadata"
IDS, LABELS, SIZES, BOXES = "image_ids.txt", "class_labels.txt", "image_sizes.txt", "localization.txt"
CLASS_FILES = ("classes.txt", "synset_words.txt")
MAX_LINE = 2**16  # characters: a path of 4,096 with its numbers is far shorter
MAX_JSON = 2**29  # bytes; parsed, it takes about ten times as much memory
WHOLE_NUMBER = re.compile(r"-?[0-9]+(\.0*)?")  # numbers of some tools are written 12.0
DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]*)?(e-?[0-9]+)?")
# What the fields after a path must be: in words, their form, and the largest value.
Numbers = tuple[str, re.Pattern[str], float]
_LABEL: Numbers = (f"a whole number up to {MAX_CLASSES - 1:,}", WHOLE_NUMBER, MAX_CLASSES - 1)
_SIZE: Numbers = (f"whole numbers up to {MAX_PIXEL:,}", WHOLE_NUMBER, MAX_PIXEL)
_CORNERS: Numbers = (f"numbers up to {MAX_PIXEL:,}", DECIMAL, MAX_PIXEL)


def splits_of(folder: Path) -> list[str]:
    """Splits with a list of images in a folder, by the paper's names; other folders keep theirs."""
    return in_order(split_name(ids.parent.name) for ids in folder.glob(f"*/{IDS}"))


def split_folder(folder: Path, split: str) -> Path | None:
    """Where a split is kept, under the paper's name, the benchmark's or its own."""
    name = split_name(split)
    names = [name, BENCHMARK_NAMES.get(name, name), split]
    names += [ids.parent.name for ids in folder.glob(f"*/{IDS}") if split_name(ids.parent.name) == name]
    return next((folder / n for n in names if (folder / n).is_dir()), None)


def read_split(folder: Path, images: Path, *, with_boxes: bool = False, boxes_optional: bool = False) -> list[Sample]:
    """Samples of one split, in the order of ``image_ids.txt``, whose names are relative to ``images``.

    With boxes, each image must have one, unless they are optional: then there may also be no file, or one of masks.
    """
    names = [name for _, name in read_lines(folder / IDS, "surrogateescape")]
    if not names:
        raise DataError(f"{folder}: no images in {IDS}")
    places = {name: i for i, name in enumerate(names)}  # of an image listed twice, the last
    labels: list[int | None] = [None] * len(names)
    for name, label in read_labels(folder / LABELS):
        if name in places:
            if labels[places[name]] not in (None, label):
                raise DataError(f"{folder / LABELS}: '{short(name)}' has the labels {labels[places[name]]} and {label}")
            labels[places[name]] = label
    sizes: list[tuple[int, int] | None] = [None] * len(names)
    known: dict[tuple[int, int], tuple[int, int]] = {}  # a million images share a few thousand sizes
    if (folder / SIZES).is_file():
        for name, (width, height) in _rows(folder / SIZES, 2, _SIZE):
            if name in places:
                size_hw = int(height), int(width)
                sizes[places[name]] = known.setdefault(size_hw, size_hw)
    boxes: dict[str, FloatArray] = {}
    masks = with_boxes and names_masks(folder / BOXES)
    if masks and not boxes_optional:
        why = "names masks and has no boxes, which are needed here: use a protocol that scores masks"
        raise DataError(f"{folder / BOXES} {why}")
    if with_boxes and not masks and not (boxes_optional and not (folder / BOXES).exists()):
        boxes = boxes_by_name(folder / BOXES)
    samples = []
    for name in names:
        label_ = labels[places[name]]
        if label_ is None or (with_boxes and not boxes_optional and name not in boxes):
            what = f"label in {LABELS}" if label_ is None else f"box in {BOXES}"
            raise DataError(f"{folder}: image '{name}' has no {what}")
        samples.append(Sample(name, images / name, label_, boxes.get(name, NO_BOXES), sizes[places[name]]))
    return samples


def read_labels(path: Path) -> Iterator[tuple[str, int]]:
    """Name and label of each line of ``class_labels.txt``."""
    return ((name, int(label)) for name, (label,) in _rows(path, 1, _LABEL))


def boxes_by_name(path: Path) -> dict[str, FloatArray]:
    """``localization.txt`` as ``(N, 4)`` half-open xyxy by name, all boxes of an image in the order of the file."""
    boxes: dict[str, list[tuple[float, ...]]] = {}
    for name, (x0, y0, x1, y1) in _rows(path, 4, _CORNERS):
        boxes.setdefault(name, []).append((x0, y0, x1 + 1, y1 + 1))
    return {name: np.array(rows, dtype=np.float64) for name, rows in boxes.items()}


def names_masks(path: Path) -> bool:
    """Whether a ``localization.txt`` has ``path,mask,ignore`` on its lines, as for OpenImages, and no boxes."""
    line = next((text for _, text in read_lines(path, "surrogateescape")), "") if path.is_file() else ""
    return line.count(",") >= 2 and line.rsplit(",", 2)[1].lower().endswith(".png")


def read_mask_lines(path: Path) -> Iterator[tuple[str, str, str]]:
    """Name, mask and mask of what to ignore, which may be empty, of each line of such a ``localization.txt``."""
    for number, line in read_lines(path, "surrogateescape"):
        name, *masks = line.rsplit(",", 2)
        if len(masks) != 2 or not masks[0]:
            expected = "an image, its mask and what to ignore"
            raise DataError(f"{path}, line {number}: expected {expected}, got '{short(line)}'")
        yield name, masks[0], masks[1]


def count_images(folder: Path) -> int:
    """Images listed in a split, without reading them; 0 if there is no list."""
    return sum(1 for _ in read_lines(folder / IDS, "surrogateescape")) if (folder / IDS).is_file() else 0


def write_split(folder: Path, samples: Iterable[Sample]) -> dict[str, int]:
    """Write the four files of a split, each whole or not at all; gives the number of ``images`` and ``boxes``.

    Samples are taken one by one, so that memory stays flat. Without any size or box there is no file of them.
    """
    counts = {"images": 0, "boxes": 0}
    sizes = 0

    def fill(ids: TextIO, labels: TextIO, boxes: TextIO, image_sizes: TextIO) -> None:
        nonlocal sizes
        for sample in samples:
            if not sample.name.strip() or "\n" in sample.name or "\r" in sample.name:
                why = f"is empty or breaks the line, which {IDS} cannot hold: rename it"
                raise DataError(f"the image name {sample.name!r} {why}")
            ids.write(f"{sample.name}\n")
            labels.write(f"{sample.name},{sample.label}\n")
            if sample.size_hw is not None:
                image_sizes.write(f"{sample.name},{sample.size_hw[1]},{sample.size_hw[0]}\n")
                sizes += 1
            for x0, y0, x1, y1 in sample.boxes.tolist():  # whole numbers are written without a decimal point
                corners = (str(int(c)) if c == int(c) else repr(c) for c in (x0, y0, x1 - 1, y1 - 1))
                boxes.write(f"{sample.name},{','.join(corners)}\n")
            counts["images"] += 1
            counts["boxes"] += len(sample.boxes)

    _write_together([folder / file for file in (IDS, LABELS, BOXES, SIZES)], fill)
    for file, lines in ((BOXES, counts["boxes"]), (SIZES, sizes)):
        if not lines:
            (folder / file).unlink()
    return counts


def _write_together(paths: list[Path], fill: Callable[..., object], *opened: TextIO) -> None:
    """Open all files at once, each under a temporary name, and rename them when all are written."""
    if not paths:
        fill(*opened)
        return

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            _write_together(paths[1:], fill, *opened, file)

    write_atomic(paths[0], write)


def read_class_names(path: Path) -> list[str]:
    """Class names of a file that has one a line."""
    return unique_class_names(line for _, line in read_lines(path))


def unique_class_names(lines: Iterable[str]) -> list[str]:
    """Class names: the first synonym, or a WordNet id alone; one that is there already adds the second, or the id."""
    names: list[str] = []
    known: set[str] = set()
    for line in lines:
        first, _, rest = line.partition(" ")
        wordnet = first if len(first) == 9 and first[0] == "n" and first[1:].isdigit() else ""
        synonyms = (rest if wordnet and rest else line).split(", ")
        name = synonyms[0]
        if name.lower() in known:
            name = f"{name} ({synonyms[1] if len(synonyms) > 1 else wordnet or len(names)})"
        known.add(name.lower())
        names.append(name)
    return names


def class_names_in(folder: Path) -> tuple[str, ...]:
    """Class names of a folder that keeps them in a file of the usual name; empty if it does not."""
    found = next((folder / file for file in CLASS_FILES if (folder / file).is_file()), None)
    return tuple(read_class_names(found)) if found else ()


def read_lines(path: Path, errors: str = "strict") -> Iterator[tuple[int, str]]:
    """Number and text of lines that are not blank; only line feeds end one: names may hold what looks like an end."""
    try:
        with io.TextIOWrapper(open_regular(path), encoding="utf-8-sig", errors=errors, newline="\n") as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE), ""), 1):
                if len(line) == MAX_LINE:
                    raise DataError(f"{path}, line {number}: longer than {MAX_LINE:,} characters, which none needs")
                text = line.rstrip("\r\n")
                if text.strip():
                    yield number, text
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        hint = "get it again, or save it as UTF-8"
        raise DataError(f"'{path}' is not UTF-8 text (byte {error.start}): {hint}") from error


def read_json(path: Path, most: int = MAX_JSON) -> Any:
    """What a JSON file of at most so many bytes holds."""
    try:
        return json.loads(read_regular(path, most))
    except OSError as error:
        raise DataError(f"cannot read '{path}': {error.strerror}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        why = short(str(error) or "it needs too much memory")
        raise DataError(f"'{path}' is not JSON that can be read ({why})") from error


def _rows(path: Path, count: int, numbers: Numbers) -> Iterator[tuple[str, list[float]]]:
    """Path and numbers of each line."""
    what, pattern, top = numbers
    for number, line in read_lines(path, "surrogateescape"):  # names need not be Unicode
        name, *texts = line.rsplit(",", count)
        values = [float(text) for text in texts if pattern.fullmatch(text)]
        if len(texts) != count or len(values) != count or not all(abs(value) <= top for value in values):
            expected = f"{count + 1} fields (a path, then {what})"
            raise DataError(f"{path}, line {number}: expected {expected}, got '{short(line)}'")
        yield name, values

"""What other tools found, tied to the images of a dataset: score maps in a folder, and boxes in a COCO file.

Maps are a ``.npy`` for each image. wsolevaluation writes ``<image id>.npy`` with the picture's own extension before it
(``a/1.jpg.npy``), while its manual asks for ``a/1.npy``; both are taken. Nothing is unpickled.

Boxes are read in two forms. A COCO dataset whose annotations have a ``score``, as ``fam predict`` writes it, lists
every image that was tried, so that an image without annotations is one in which nothing was found. A COCO results list
has entries alone: an image without any was perhaps never tried, and counts as missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tokenize import TokenError
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from famcli.data.dataset import Dataset
from famcli.data.images import Header, read_headers
from famcli.data.metadata import read_json
from famcli.data.readers.coco import CocoFile, Id, bbox_fault, dataset_files, identifier, read_categories, read_images
from famcli.data.sample import Sample
from famcli.data.truth import size_fault
from famcli_models.boxes import FloatArray, as_boxes, xywh_to_xyxy
from famcli_models.class_names import Matches
from famcli_models.errors import DataError, short, shown

MAX_SCORE = 1e300
MAX_MAP_PIXELS = 2**26  # a larger array is no map of a picture
NO_LABEL = -1  # where classes do not apply; this and what is below are classes that the dataset does not have
AGNOSTIC = "score the boxes alone with --other-classes"


def find_maps(folder: Path, names: Sequence[str], allow_missing: bool = False) -> dict[str, Path]:
    """The file of each image's map, by name; it is not opened, and some may be missing if that is allowed."""
    if not folder.is_dir():
        raise DataError(f"'{folder}' is not a folder of score maps; give one with a file <image id>.npy for each image")
    found: dict[str, Path] = {}
    owners: dict[Path, str] = {}
    for name in names:
        full, short = folder / f"{name}.npy", folder / PurePosixPath(name).with_suffix(".npy")
        path = next((p for p in (full, short) if p.is_file()), None)
        if path is None:
            continue
        found[name] = path
        if (other := owners.setdefault(path, name)) != name:
            raise DataError(f"'{path}' may be the map of '{other}' or of '{name}': name the maps {full.name} and so on")
    missing = [name for name in names if name not in found]
    if missing and not (allow_missing and found):
        example = PurePosixPath(missing[0])
        lacks = f"has no map for {len(missing):,} of {len(names):,} images: {some_names(missing)}"
        raise DataError(f"'{folder}' {lacks}; expected '{example}.npy' or '{example.with_suffix('.npy')}'")
    return found


def read_map(path: Path) -> FloatArray:
    """One map ``(h, w)`` of finite numbers, as it was written, in float64."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped: the shape is checked before it is read
    except (OSError, ValueError, EOFError, SyntaxError, TypeError, OverflowError, TokenError) as error:
        raise DataError(f"{path}: not a .npy array that can be read ({error})") from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path}: a .npz archive; save each map with numpy.save")
    if array.ndim != 2 or not 0 < array.size <= MAX_MAP_PIXELS:
        raise DataError(f"{path}: the array has shape {array.shape}; a score map has two dimensions, height and width")
    if array.dtype.kind not in "fiub":
        raise DataError(f"{path}: the array holds {array.dtype}; a score map holds floats or integers")
    scores = np.array(array, dtype=np.float64)
    if not np.isfinite(scores).all():
        what = "NaN" if np.isnan(scores).any() else "infinite values"
        raise DataError(f"{path}: the map holds {what}; make it again, or write zeros to count the image as wrong")
    return scores


def some_names(names: Sequence[str]) -> str:
    """The first names of a list, for a message."""
    return ", ".join(f"'{name}'" for name in names[:3]) + (" ..." if len(names) > 3 else "")


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in one image, the highest score first, equal ones in the order of the file."""

    boxes: FloatArray  # (k, 4) half-open xyxy in original pixels, as they were written: not cut to the image
    labels: npt.NDArray[np.int64]  # (k,) class of the dataset, from NO_LABEL down one it lacks, NO_LABEL if none apply
    scores: FloatArray  # (k,) finite


def read_predictions(
    path: Path,
    dataset: Dataset,
    samples: Sequence[Sample],
    same_classes: bool = True,
    say: Callable[[str], object] = lambda _: None,
) -> dict[str, Found]:
    """Detections of each sample that the file covers, by name.

    Images are matched by file name (see :func:`match_names`), and classes as :class:`Matches` does, which is said; in a
    results list both by the ids of the COCO file that the dataset was opened from. What makes no sense, or is of other
    images or classes, is refused with the first such entry and their number.
    """
    try:
        data = read_json(path)
    except DataError as error:
        raise DataError(f"{error}; give a file such as 'fam predict --out boxes.json' writes") from error
    if isinstance(data, list):
        file = _from_results(path, data, dataset, samples, same_classes)
    elif isinstance(data, dict) and all(isinstance(data.get(key), list) for key in ("images", "annotations")):
        file = _from_dataset(path, data, dataset, samples, same_classes, say)
    else:
        raise DataError(
            f"'{path}' holds no predictions in COCO's form: a list of results, or a dataset with images, annotations "
            "that have a score, and categories, as 'fam predict --out boxes.json' writes it"
        )
    return _entries_of(file, same_classes)


@dataclass(slots=True)
class _Faults:
    """What is wrong with a file: the first of all, and how many of its kind there are."""

    path: Path
    first: tuple[str, str] | None = None
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, sentence: str) -> None:
        self.first = self.first or (kind, sentence)
        self.counts[kind] += 1

    def check(self) -> None:
        if self.first is not None:
            (kind, sentence), count = self.first, self.counts[self.first[0]]
            raise DataError(f"'{self.path}': {sentence}" + (f" ({count:,} {kind})" if count > 1 else ""))


class _File(NamedTuple):
    """A file whose images and categories are tied to the dataset."""

    path: Path
    key: str  # what its list of entries is called in messages
    entries: Sequence[Any]
    names: Mapping[Id, str | None]  # sample by image id; none for an image of the dataset that is not scored
    labels: Mapping[Id, int]  # by category id
    covered: Collection[str]  # names of the images that were tried, whether they have entries or not
    listed: bool  # the file lists its images, and its entries have ids of their own


def _entries_of(file: _File, same_classes: bool) -> dict[str, Found]:
    """The entries by sample."""
    faults = _Faults(file.path)
    rows: dict[str, list[tuple[float, list[float], int]]] = {name: [] for name in file.covered}
    ids: set[Id] = set()
    images: dict[Id, None] = {}  # in the order of the file
    for number, entry in enumerate(file.entries):
        where = f"{file.key}[{number}]"
        image = identifier(entry.get("image_id")) if isinstance(entry, dict) else None
        if image is None:
            faults.add("such entries", f"{where} has no image_id, a whole number or a text")
            continue
        if (fault := _fault(entry)) is not None:
            faults.add(fault[0], f"{where} {fault[1]}")
            continue
        if file.listed and "id" in entry:
            own = identifier(entry["id"])
            if own is None or own in ids:
                faults.add("such ids", f"{where} has the id {shown(entry['id'])}, which is no id of its own")
                continue
            ids.add(own)
        category = identifier(entry.get("category_id"))
        label = NO_LABEL if category is None or not same_classes else file.labels.get(category)
        if label is None or (same_classes and category is None):
            which = f"the category_id {shown(entry.get('category_id'))}, which is not known"
            faults.add("such categories", f"{where} has {which}")
            continue
        images[image] = None
        if image not in file.names and file.listed:
            faults.add("such entries", f"{where} belongs to image {shown(image)}, which the file does not list")
        if (name := file.names.get(image)) is not None:
            rows.setdefault(name, []).append((float(entry["score"]), entry["bbox"], label))
    faults.check()
    unknown = [f"image_id {shown(image)}" for image in images if image not in file.names]
    _refuse_unknown(file.path, unknown, len(images))
    return {name: _found(of_image) for name, of_image in rows.items()}


def _found(rows: list[tuple[float, list[float], int]]) -> Found:
    rows = sorted(rows, key=lambda row: -row[0])
    return Found(
        xywh_to_xyxy(as_boxes([row[1] for row in rows])),
        np.array([row[2] for row in rows], dtype=np.int64),
        np.array([row[0] for row in rows], dtype=np.float64),
    )


def _fault(entry: Mapping[str, Any]) -> tuple[str, str] | None:
    """Kind and words of what is wrong with an entry, whatever images and classes there are."""
    if fault := bbox_fault(entry.get("bbox")):
        return "such boxes", fault
    if "score" not in entry:
        return "such entries", "has no score; truth has none, predictions need one"
    score = entry["score"]
    if type(score) not in {int, float} or not abs(score) <= MAX_SCORE:  # text, truth values and NaN are none
        return "such scores", f"has the score {shown(score)}; a finite number is needed"
    return None


def _refuse_unknown(path: Path, unknown: Sequence[str], total: int) -> None:
    """Predictions for images that are not to be scored: a few are a mistake, most are of other data."""
    if not unknown:
        return
    what, do = f"has predictions for {len(unknown):,} images that", "predict the images of the split alone"
    if 2 * len(unknown) > total:
        what, do = f"holds predictions of other images: {len(unknown):,} of its {total:,}", "check --data and --split"
    raise DataError(f"'{path}' {what} are not in this split, the first is {unknown[0]}; {do}")


def _coco_source(dataset: Dataset) -> CocoFile | None:
    """The COCO file that a dataset was opened from, if it was one."""
    if dataset.held is None or dataset.facts.get("format") != "coco":
        return None
    files = dataset_files(dataset.root)
    return CocoFile.load(files[0]) if len(files) == 1 else None


def _from_results(
    path: Path, entries: list[Any], dataset: Dataset, samples: Sequence[Sample], same_classes: bool
) -> _File:
    source = _coco_source(dataset)
    if source is None:
        raise DataError(
            f"'{path}' is a list of results, whose image ids mean nothing without the COCO file they are of: give that "
            "file as --data, or write a whole dataset ('fam predict --format coco')"
        )
    scored = {sample.name for sample in samples}
    names = {number: name if name in scored else None for name, number in source.ids.items()}
    labels = {category: label for label, category in enumerate(source.categories)}
    used = {identifier(e.get("category_id")) for e in entries if isinstance(e, dict)} - {None}
    if same_classes and len(used) == 1 and not used & set(labels):
        raise DataError(_one_class(path, f"number {used.pop()}"))
    return _File(path, "entry ", entries, names, labels, (), listed=False)


def _one_class(path: Path, name: str) -> str:
    return f"'{path}' has a single category, {name}, which is no class of the dataset: {AGNOSTIC}"


def _from_dataset(
    path: Path,
    data: Mapping[str, Any],
    dataset: Dataset,
    samples: Sequence[Sample],
    same_classes: bool,
    say: Callable[[str], object],
) -> _File:
    by_name = {sample.name: sample for sample in samples}
    images = read_images(path, data["images"], by_name.__contains__)
    files = [image.name for image in images]
    matched, source = match_names(path, files, by_name), _coco_source(dataset)
    others = set(source.ids) - set(by_name) if source else set()  # in the dataset's file, but not scored
    unknown = [f"'{name}'" for name in files if name not in matched and name not in others]
    _refuse_unknown(path, unknown, len(files))
    _check_sizes(path, [(by_name[matched[i.name]], i.size_hw) for i in images if i.size_hw and i.name in matched])
    names = {image.id: matched.get(image.name) for image in images}
    labels = _labels(path, data.get("categories"), dataset, samples, say) if same_classes else {}
    return _File(path, "annotations", data["annotations"], names, labels, matched.values(), listed=True)


def _check_sizes(path: Path, pairs: Sequence[tuple[Sample, tuple[int, int]]]) -> None:
    """Sizes in the file against those of the images; boxes in another frame would be wrong without a word."""
    faults = _Faults(path)
    headers = iter(read_headers(sample.path for sample, _ in pairs if sample.size_hw is None))
    for sample, stated_hw in pairs:
        header = Header(sample.size_hw) if sample.size_hw is not None else next(headers)
        # An image that cannot be read has no size to differ from: its boxes can be scored all the same.
        if isinstance(header, Header) and (fault := size_fault(stated_hw, header)):
            faults.add("such images", f"'{short(sample.name)}' {fault}")
    faults.check()


def _labels(
    path: Path, categories: Any, dataset: Dataset, samples: Sequence[Sample], say: Callable[[str], object]
) -> dict[Id, int]:
    """Label by category id; from :data:`NO_LABEL` down for classes that the dataset does not have."""
    if not isinstance(categories, list) or not categories:
        raise DataError(f"'{path}' needs categories, each with an id and a name, or {AGNOSTIC}")
    named = list(read_categories(path, categories).items())
    # Without names the labels stand for themselves, as 'fam data convert' writes them.
    names = dataset.class_names or tuple(str(i) for i in range(1 + max(s.label for s in samples)))
    matches = Matches.from_names([name for _, name in named], names)
    matches.check()
    labels = {number: matches.places.get(name, NO_LABEL - i) for i, (number, name) in enumerate(named)}
    known = {label for label in labels.values() if label >= 0}
    if not known and len(named) == 1:
        raise DataError(_one_class(path, f"'{named[0][1]}'"))
    how = f"compare names, or {AGNOSTIC}"
    if not known:
        raise DataError(f"none of the {len(named):,} categories of '{path}' is a class of the data: {how}")
    if lacking := sorted({sample.label for sample in samples} - known):
        first = names[lacking[0]] if lacking[0] < len(names) else str(lacking[0])
        lacks = f"has no category for {len(lacking):,} classes of the dataset, the first is '{first}'"
        raise DataError(f"'{path}' {lacks}: list all categories ('fam predict --all-categories'), {how}")
    by_number = "" if dataset.class_names else ", which are numbers: the data have no names"
    say(f"'{path}': {matches.sentence(names, len(named))}{by_number}")
    return labels


def match_names(source: Path, files: Sequence[str], names: Collection[str]) -> dict[str, str]:
    """The name that each file has here, for the files that have one.

    One folder may be in front of all files, or of all names: ``fam predict`` names images from the folder that it was
    given. The folder that explains most files counts; several that explain equally many are refused.
    """
    known = set(names)
    tails: dict[str, list[str]] = {}  # folders in front of a tail of a name here
    for name in known:
        for i in _slashes(name):
            tails.setdefault(name[i + 1 :], []).append(name[: i + 1])
    votes: Counter[tuple[str, str]] = Counter()  # folder to take away, folder to put in front
    for file in files:
        votes["", ""] += file in known
        votes.update((file[: i + 1], "") for i in _slashes(file) if file[i + 1 :] in known)
        votes.update(("", front) for front in tails.get(file, ()))
    most = max(votes.values(), default=0)
    best = sorted(shift for shift, count in votes.items() if count == most)
    if not most:
        return {}
    away, front = best[0]  # names as they are come first
    if len(best) > 1 and (away or front):
        example = next(file for file in files if file.startswith(away) and front + file[len(away) :] in known)
        folders = " and ".join(f"'{(front or away).rstrip('/')}'" for away, front in best[:2])
        raise DataError(
            f"'{source}': the folder that '{example}' and the other names start from cannot be told ({folders} explain "
            "equally many): write the file names as the dataset does"
        )
    shifted = {file: front + file[len(away) :] for file in files if file.startswith(away)}
    return {file: name for file, name in shifted.items() if name in known}


def _slashes(name: str) -> list[int]:
    return [i for i, letter in enumerate(name) if letter == "/"]

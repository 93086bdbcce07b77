"""Reader of ILSVRC 2012 CLS-LOC: its training images are train-weaksup, its validation images test, with all boxes.

Each part may come as the publisher's archive or as somebody's tree: ``train/WNID/*.JPEG``; ``val/*.JPEG`` (flat) or
``val/WNID/*.JPEG``; labels of flat validation images as the development kit, a list of WordNet ids, wsolevaluation's
lists, or with the boxes; boxes as the XML archive, a folder of XML files, or wsolevaluation's lists.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from famcli.data.dataset import Sample
from famcli.data.images import is_image
from famcli.data.metadata import boxes_by_name, read_labels, read_lines, unique_class_names
from famcli.data.public.extract import read_members
from famcli.data.public.source import Contents, Source
from famcli.data.readers.voc import parse_xml, read_bytes
from famcli.data.sample import NO_BOXES
from famcli_models.boxes import FloatArray
from famcli_models.errors import DataError
from famcli_models.files import write_atomic

TRAIN, VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
KIT, BOXES = "ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_bbox_val_v3.tgz"
ARCHIVES = {"train": TRAIN, "val": VAL}
PUBLISHED = {"train": 1_281_167, "val": 50_000}
WNID = re.compile(r"n[0-9]{8}")
BASES = (".", "ILSVRC", "Data/CLS-LOC", "ILSVRC/Data/CLS-LOC")  # ours, wsolevaluation's, Kaggle's
KITS = ("ILSVRC2012_devkit_t12", "devkit", ".")
META, TRUTH = "data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"  # of the development kit
XML_FOLDERS = ("boxes/val", "bbox/val", "ILSVRC2012_bbox_val_v3/val", "Annotations/CLS-LOC/val", "val_xml", "val", ".")
LOCALIZATION = ("metadata/ILSVRC/test/localization.txt", "metadata/test/localization.txt", "localization.txt")
CLASS_LABELS = ("metadata/ILSVRC/test/class_labels.txt", "metadata/test/class_labels.txt", "class_labels.txt")
WNID_LISTS = ("imagenet_2012_validation_synset_labels.txt", "validation_synset_labels.txt", "val_wnids.txt")
NAME_FILES = ("synset_words.txt", "LOC_synset_mapping.txt")
TOLERATED = 0.1  # share of images whose XML names another class than their label does, before it is an error
KIT_LIMIT, XML_LIMIT = 200 << 20, 1 << 30  # bytes that an archive read in memory may unpack to


class _Boxes(NamedTuple):
    """Boxes of validation images by the stem of the file name, all objects in the order of the file."""

    by_stem: Mapping[str, FloatArray]  # (N, 4) half-open xyxy
    classes: Mapping[str, tuple[str, ...]]  # WordNet ids of the same objects; empty where the boxes came without them
    watched: Path  # the file or folder that they were read from


class _Labels(NamedTuple):
    """Labels of validation images by stem, and where they came from."""

    by_stem: Mapping[str, int]
    origin: str
    watched: tuple[Path, ...] = ()


def read_ilsvrc(source: Source, *, without_train: bool = False) -> Contents:
    """Find and read ILSVRC.

    Sizes are read for the test images alone: nothing needs those of the training images, and opening 1.28 million
    files takes an hour on a slow disk; ``fam data check`` reads them. ``without_train`` gives the test split alone.
    """
    parts = ["val"] if without_train else ["train", "val"]
    bases = {part: _base(source, part) for part in parts}
    boxes = _find_boxes(source)
    kit_path = source.archive(KIT) or source.first(*KITS, holding=TRUTH)
    _refuse_missing(source, bases, boxes, kit_path)
    root = _one_root(source, bases)
    for part in parts:
        if bases[part] is None:
            source.archive(ARCHIVES[part])
            source.extract(ARCHIVES[part], _place, part, PUBLISHED[part], nested=part == "train")
    words, truth = _read_devkit(kit_path) if kit_path else (_words(source), None)
    found = _val_images(root)
    folders = root / "val" if without_train else root / "train"
    wnids = sorted(path.name for path in folders.iterdir() if WNID.fullmatch(path.name) and path.is_dir())
    wnids = sorted(words) or wnids if without_train else wnids  # their places are the labels
    labels = _val_labels(source, found, wnids, truth, boxes)
    tests = _test_samples(source, root, found, labels, boxes)
    if boxes.classes and wnids:
        _compare(source, tests, labels, boxes, wnids)
    splits: dict[str, Iterable[Sample]] = {"test": source.sized(tests, "sizes of test", len(tests))}
    watched = [*(root / part for part in parts), boxes.watched, *labels.watched]
    if not without_train:
        splits = {"train-weaksup": _train_samples(source, root, wnids), **splits}
        watched += [root / "train" / wnid for wnid in wnids]
    lines = [f"{wnid} {words.get(wnid, wnid)}" for wnid in wnids]  # an id without a name is its own
    if lines:  # for --set class_names=, and for programs that read the usual file
        text = "\n".join([*lines, ""]).encode()
        write_atomic(source.out / NAME_FILES[0], lambda path: path.write_bytes(text))
    return Contents(root, tuple(unique_class_names(lines)), splits, watched)


def _base(source: Source, part: str) -> Path | None:
    """The folder with an extracted ``train`` or ``val``; ours goes on from its archive while that is there."""
    for base in BASES:
        tree = source.tree(ARCHIVES[part], part, f"{base}/{part}", holding="*")
        if tree and any(WNID.fullmatch(p.name) or (part == "val" and is_image(p.name)) for p in tree.iterdir()):
            return tree.parent.absolute()
    return None


def _refuse_missing(source: Source, bases: Mapping[str, Path | None], boxes: _Boxes, kit_path: Path | None) -> None:
    lacking = [
        f"{'training' if part == 'train' else 'validation'} images ({ARCHIVES[part]}, or a folder {part}/)"
        for part, base in bases.items()
        if base is None and not (source.folder / ARCHIVES[part]).is_file()
    ]
    if not boxes.by_stem:
        lacking.append(f"boxes ({BOXES}, a folder of its XML files, or {LOCALIZATION[0]})")
    base = bases["val"]
    flat = base is None or not any(WNID.fullmatch(path.name) for path in (base / "val").iterdir())
    if flat and not (kit_path or source.first(*CLASS_LABELS, *WNID_LISTS) or boxes.classes):
        lacking.append(f"labels of the validation images ({KIT}, or {CLASS_LABELS[0]})")
    if lacking:
        raise source.missing(*lacking)


def _one_root(source: Source, bases: Mapping[str, Path | None]) -> Path:
    roots = {base or source.out.absolute() for base in bases.values()}
    if len(roots) > 1:
        tree = next(base for base in bases.values() if base is not None)
        raise DataError(
            f"one part of ILSVRC is extracted in '{tree}' and another would be extracted to '{source.out}', but a "
            f"dataset has one folder of images: extract both, or add --out '{tree}' to extract the other part there"
        )
    return roots.pop()


def _place(name: str) -> str | None:
    """Where a class of the training images goes, or a validation image."""
    file = name.rpartition("/")[2]
    wnid = file.removesuffix(".tar")
    return f"val/{file}" if wnid == file else f"train/{wnid}" if WNID.fullmatch(wnid) else None


def _find_boxes(source: Source) -> _Boxes:
    """The boxes, from the first that is there of: XML archive, XML files, wsolevaluation's list; empty without any."""
    archive = source.archive(BOXES)
    folders = (f"{base}/{xml}" for base in (".", "ILSVRC") for xml in XML_FOLDERS)
    folder = source.first(*folders, holding="ILSVRC2012_val_*.xml")
    if archive:  # read without extracting it: fifty thousand little files help nobody
        members = read_members(archive, lambda name: name.endswith(".xml") and "/." not in f"/{name}", XML_LIMIT)
        return _read_xml(source, ((Path(name).stem, text, f"{archive}:{name}") for name, text in members), archive)
    if folder:
        files = sorted(path for path in folder.glob("*.xml") if not path.name.startswith("."))
        return _read_xml(source, ((path.stem, read_bytes(path), str(path)) for path in files), folder)
    lists = source.benchmark_list(*LOCALIZATION)
    boxes = {Path(name).stem: array for name, array in boxes_by_name(lists).items()} if lists else {}
    return _Boxes(boxes, {}, lists or source.folder)


def _read_xml(source: Source, files: Iterable[tuple[str, bytes, str]], origin: Path) -> _Boxes:
    """Annotations of stem, content and place; corners are inclusive and from 0, as wsolevaluation takes them."""
    boxes: dict[str, FloatArray] = {}
    classes: dict[str, tuple[str, ...]] = {}
    with source.talk.progress(f"reading XML files of '{origin}'", PUBLISHED["val"]) as step:
        for stem, content, where in files:
            annotation = parse_xml(content, where)
            if not annotation.classes:
                raise DataError(f"'{where}' has no object")
            boxes[stem], classes[stem] = np.trunc(annotation.boxes + 1), annotation.classes  # Pascal's count from 1
            step()
    return _Boxes(boxes, classes, origin)


def _read_devkit(kit: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """Synonyms by WordNet id, and the id of each validation image; the kit's own numbers are no order of labels."""
    if kit.is_dir():
        files = {file: (kit / file).read_bytes() for file in (META, TRUTH) if (kit / file).is_file()}
    else:
        members = read_members(kit, lambda name: name.endswith((META, TRUTH)), KIT_LIMIT)
        files = {META if name.endswith(META) else TRUTH: content for name, content in members}
    if set(files) != {META, TRUTH}:
        raise DataError(f"'{kit}' lacks {META} or {TRUTH}: get the development kit again")
    from scipy.io import loadmat  # only the development kit is in MATLAB's form, and scipy takes a while

    try:
        rows = loadmat(io.BytesIO(files[META]), squeeze_me=True)["synsets"]
        leaves = [row for row in rows if int(row["num_children"]) == 0]  # the others are groups of classes
        ids = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in leaves}
        words = {str(row["WNID"]): str(row["words"]) for row in leaves}
    except Exception as error:  # loadmat raises whatever a damaged byte leads to
        why = f"cannot read meta.mat ({type(error).__name__}): get the development kit again"
        raise DataError(f"'{kit}': {why}") from error
    try:
        return words, tuple(ids[int(line)] for line in files[TRUTH].decode("ascii").split())
    except (ValueError, KeyError) as error:
        raise DataError(f"'{kit}': {TRUTH} has a line that is no ILSVRC2012_ID of meta.mat ({error})") from error


def _words(source: Source) -> dict[str, str]:
    """Synonyms by WordNet id, from ``synset_words.txt`` or ``LOC_synset_mapping.txt`` if there is one."""
    path = source.first(*(f"{base}/{file}" for base in BASES for file in NAME_FILES))
    words = {}
    for number, line in read_lines(path) if path else ():
        wnid, _, rest = line.partition(" ")
        if not WNID.fullmatch(wnid):
            raise DataError(f"'{path}', line {number}: expected a WordNet id and names, got '{line}'")
        words[wnid] = rest.strip() or wnid
    return words


def _val_images(root: Path) -> dict[str, str]:
    """Stem to name relative to the root, sorted by stem, of flat images or images by class."""
    found: dict[str, str] = {}
    for path in (root / "val").iterdir():
        for image in path.iterdir() if WNID.fullmatch(path.name) else (path,):
            if is_image(image.name):
                found[image.stem] = image.relative_to(root).as_posix()
    return dict(sorted(found.items()))


def _val_labels(
    source: Source, found: Mapping[str, str], wnids: list[str], truth: Iterable[str] | None, boxes: _Boxes
) -> _Labels:
    """Labels by the first of: folders by class, development kit, lists of WordNet ids or labels, XML."""
    in_order: list[str] = []  # without names: line n belongs to the nth image, whose name ends in n
    by_wnid: dict[str, str] = {}
    watched: tuple[Path, ...] = ()
    if all(name.count("/") == 2 for name in found.values()):
        by_wnid, origin = {stem: name.split("/")[1] for stem, name in found.items()}, "their folders"
    elif truth:
        in_order, origin = list(truth), KIT
    elif listed := source.first(*WNID_LISTS):
        in_order, origin, watched = [line.strip() for _, line in read_lines(listed)], str(listed), (listed,)
    elif labels_file := source.benchmark_list(*CLASS_LABELS):
        by_stem = {Path(name).stem: label for name, label in read_labels(labels_file)}
        return _Labels(by_stem, str(labels_file), (labels_file,))
    else:
        by_wnid, origin = {stem: names[0] for stem, names in boxes.classes.items() if len(set(names)) == 1}, "the XML"
    by_wnid |= {f"ILSVRC2012_val_{i:08d}": wnid for i, wnid in enumerate(in_order, 1)}
    index = {wnid: i for i, wnid in enumerate(wnids)}
    unknown = sorted({wnid for stem, wnid in by_wnid.items() if stem in found and wnid not in index})
    if unknown:
        such = f"that are no class of train/, such as {unknown[0]}"
        raise DataError(f"validation images have labels, from {origin}, {such}")
    return _Labels({stem: index[wnid] for stem, wnid in by_wnid.items() if wnid in index}, origin, watched)


def _test_samples(source: Source, root: Path, found: Mapping[str, str], labels: _Labels, boxes: _Boxes) -> list[Sample]:
    for what, known in (("label", labels.by_stem), ("box", boxes.by_stem)):
        lost = [stem for stem in found if stem not in known]
        if lost:
            images = f"{len(lost)} of {len(found)} validation images in '{root / 'val'}'"
            raise DataError(f"{images} have no {what}, such as {lost[0]}")
    if not found:
        raise source.missing(f"validation images in '{root / 'val'}'")
    return [Sample(name, root / name, labels.by_stem[stem], boxes.by_stem[stem]) for stem, name in found.items()]


def _compare(source: Source, tests: list[Sample], labels: _Labels, boxes: _Boxes, wnids: list[str]) -> None:
    """Labels and boxes come from two files: shuffled labels must not become a dataset."""
    other = [s.name for s in tests if wnids[s.label] not in boxes.classes[Path(s.name).stem]]
    if len(other) > TOLERATED * len(tests):
        raise DataError(
            f"the labels from {labels.origin} and the classes in the XML differ for {len(other)} of {len(tests)} "
            f"images, such as '{other[0]}': one of them is of other data"
        )
    if other:
        source.talk.warn(f"{len(other)} images have another class in the XML than their label, such as '{other[0]}'")


def _train_samples(source: Source, root: Path, wnids: list[str]) -> Iterator[Sample]:
    with source.talk.progress("listing train-weaksup", len(wnids)) as step:
        for label, wnid in enumerate(wnids):
            folder = root / "train" / wnid
            for file in sorted(path.name for path in folder.iterdir() if is_image(path.name)):
                yield Sample(f"train/{wnid}/{file}", folder / file, label, NO_BOXES)
            step()

"""ILSVRC 2012 CLS-LOC: train and validation images to train-weaksup and test, with all boxes of an image.

Everything may come as the publisher's archive or as somebody's extracted tree, each part on its own:

* ``train/WNID/*.JPEG``;
* ``val/*.JPEG`` (flat) or ``val/WNID/*.JPEG``;
* labels of flat validation images: the development kit, a list of WordNet ids, wsolevaluation's lists, or the boxes;
* boxes: the XML archive, a folder of XML files, or wsolevaluation's lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from famcli.data.dataset import Sample
from famcli.data.images import EXTENSIONS
from famcli.data.metadata import boxes_by_name, read_labels
from famcli.data.public.ilsvrcboxes import BOX_ARCHIVE, ValBoxes, read_xml_archive, read_xml_folder
from famcli.data.public.source import Contents, Source, read_lines
from famcli.data.public.synsets import NAME_FILES, TRUTH, WNID, Devkit, name_classes, read_devkit, read_words
from famcli.data.sample import NO_BOXES
from famcli_models.boxes import FloatArray
from famcli_models.errors import DataError

TRAIN, VAL, KIT = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"
BASES = (".", "ILSVRC", "Data/CLS-LOC", "ILSVRC/Data/CLS-LOC")  # ours, wsolevaluation's, Kaggle's
KITS = ("ILSVRC2012_devkit_t12", "devkit", ".")
XML_FOLDERS = ("boxes/val", "bbox/val", "ILSVRC2012_bbox_val_v3/val", "Annotations/CLS-LOC/val", "val_xml", "val", ".")
XML_BASES = (".", "ILSVRC")
LOCALIZATION = ("metadata/ILSVRC/test/localization.txt", "metadata/test/localization.txt", "localization.txt")
CLASS_LABELS = ("metadata/ILSVRC/test/class_labels.txt", "metadata/test/class_labels.txt", "class_labels.txt")
WNID_LISTS = ("imagenet_2012_validation_synset_labels.txt", "validation_synset_labels.txt", "val_wnids.txt")
PUBLISHED_TRAIN, PUBLISHED_VAL = 1_281_167, 50_000
TOLERATED = 0.1  # share of images whose XML names another class than their label does, before it is an error


@dataclass(frozen=True, slots=True)
class _Labels:
    """Labels of validation images by stem, and where they came from."""

    by_stem: Mapping[str, int]
    origin: str
    watched: tuple[Path, ...] = ()


def read_ilsvrc(source: Source, *, without_train: bool = False) -> Contents:
    """Find and read ILSVRC.

    Sizes are read for the test images alone: nothing needs those of the training images, and opening 1.28 million
    files takes an hour on a slow disk; ``fam data check`` looks at them.

    Args:
        source: Where to look.
        without_train: Prepare the test split alone.

    Raises:
        DataError: Something is missing or damaged, or labels and boxes disagree.
    """
    wanted = ([] if without_train else ["train"]) + ["val"]
    bases = {part: _base(source, part) for part in wanted}
    lacking = [
        f"{what} ({name}, or a folder {part}/)"
        for part, name, what in (("train", TRAIN, "training images"), ("val", VAL, "validation images"))
        if part in bases and bases[part] is None and not (source.folder / name).is_file()
    ]
    boxes = _find_boxes(source)
    kit_path = source.archive(KIT) or source.first(*KITS, holding=TRUTH)
    if boxes is None:
        lacking.append(f"boxes ({BOX_ARCHIVE}, a folder of its XML files, or {LOCALIZATION[0]})")
    flat = bases["val"] is None or not any(WNID.fullmatch(p.name) for p in bases["val"].joinpath("val").iterdir())
    if flat and not (kit_path or source.first(*CLASS_LABELS, *WNID_LISTS) or (boxes and boxes.classes)):
        lacking.append(f"labels of the validation images ({KIT}, or {CLASS_LABELS[0]})")
    if lacking or boxes is None:
        raise source.missing(*lacking)
    root = _one_root(source, bases)
    for part, name in (("train", TRAIN), ("val", VAL)):
        if part in bases and bases[part] is None:
            _unpack(source, part, name)
    kit = read_devkit(kit_path) if kit_path else None
    words = _words(source, kit)
    wnids = _wnids(root, words, without_train)
    found = _val_images(root)
    labels = _val_labels(source, found, wnids, kit, boxes)
    tests = _test_samples(root, found, labels, boxes, source)
    if boxes.classes:
        _compare(tests, labels, boxes, wnids, source)
    splits = {"test": source.sized(tests, "sizes of test", len(tests))}
    if not without_train:
        splits = {"train-weaksup": _train_samples(root, wnids, source), **splits}
    classes = [root / "train" / wnid for wnid in wnids] if not without_train else []
    watched = [*({root / part for part in wanted}), *classes, *boxes.watched, *labels.watched]
    return Contents(root, name_classes(wnids, words, source.out) if wnids else (), splits, watched)


def _base(source: Source, part: str) -> Path | None:
    """The folder with an extracted ``train`` or ``val``; ours goes on from its archive while that is there."""
    for base in BASES:
        folder = source.folder / base / part
        name = TRAIN if part == "train" else VAL
        ours = folder.absolute() == (source.out / part).absolute() and (source.folder / name).is_file()
        if folder.is_dir() and not ours and _holds_images(folder, part):
            return (source.folder / base).absolute()
    return None


def _holds_images(folder: Path, part: str) -> bool:
    for path in folder.iterdir():
        if WNID.fullmatch(path.name) or (part == "val" and path.suffix.lower() in EXTENSIONS):
            return True
    return False


def _one_root(source: Source, bases: Mapping[str, Path | None]) -> Path:
    roots = {base or source.out.absolute() for base in bases.values()}
    if len(roots) > 1:
        tree = next(base for base in bases.values() if base is not None)
        msg = (
            f"one part of ILSVRC is extracted in '{tree}' and another would be extracted to '{source.out}', but a "
            f"dataset has one folder of images: extract both, or add --out '{tree}' to extract the other part there"
        )
        raise DataError(msg)
    return roots.pop()


def _unpack(source: Source, part: str, name: str) -> None:
    source.archive(name)
    if part == "train":
        source.extract(name, _place_class, "train", PUBLISHED_TRAIN, nested=True)
    else:
        source.extract(name, lambda image: f"val/{image.rpartition('/')[2]}", "val", PUBLISHED_VAL)


def _place_class(name: str) -> str | None:
    stem = name.rpartition("/")[2].removesuffix(".tar")
    return f"train/{stem}" if WNID.fullmatch(stem) else None


def _find_boxes(source: Source) -> ValBoxes | None:
    archive = source.archive(BOX_ARCHIVE)
    if archive:
        with source.talk.progress(f"reading {BOX_ARCHIVE}", PUBLISHED_VAL) as step:
            return read_xml_archive(archive, step)
    folder = source.first(
        *(f"{base}/{xml}" for base in XML_BASES for xml in XML_FOLDERS), holding="ILSVRC2012_val_*.xml"
    )
    if folder:
        with source.talk.progress(f"reading XML files of '{folder}'", PUBLISHED_VAL) as step:
            return read_xml_folder(folder, step)
    lists = source.first(*LOCALIZATION)
    if lists is None:
        return None
    if lists == source.folder / LOCALIZATION[0]:
        source.archive(LOCALIZATION[0])  # says that it is not pinned
    by_stem: dict[str, FloatArray] = {Path(name).stem: array for name, array in boxes_by_name(lists).items()}
    return ValBoxes(by_stem, {}, (lists,))


def _words(source: Source, kit: Devkit | None) -> dict[str, str]:
    if kit:
        return dict(kit.words)
    path = source.first(*(f"{base}/{file}" for base in BASES for file in NAME_FILES))
    return read_words(path) if path else {}


def _wnids(root: Path, words: Mapping[str, str], without_train: bool) -> list[str]:
    """The sorted WordNet ids of the classes; their places are the labels."""
    if not without_train:
        return sorted(p.name for p in (root / "train").iterdir() if WNID.fullmatch(p.name) and p.is_dir())
    return sorted(words) or sorted(p.name for p in (root / "val").iterdir() if WNID.fullmatch(p.name))


def _val_images(root: Path) -> dict[str, str]:
    """Stem to name relative to the root, sorted by stem, of flat images or images by class."""
    found: dict[str, str] = {}
    for path in (root / "val").iterdir():
        inside = path.iterdir() if WNID.fullmatch(path.name) else (path,)
        for image in inside:
            if image.suffix.lower() in EXTENSIONS and not image.name.startswith("."):
                found[image.stem] = image.relative_to(root).as_posix()
    return dict(sorted(found.items()))


def _val_labels(
    source: Source, found: Mapping[str, str], wnids: list[str], kit: Devkit | None, boxes: ValBoxes
) -> _Labels:
    """Labels by the first of: folders by class, development kit, lists of WordNet ids or labels, XML."""
    index = {wnid: i for i, wnid in enumerate(wnids)}
    listed = source.first(*WNID_LISTS)
    labels_file = source.first(*CLASS_LABELS)
    by_wnid: Mapping[str, str]
    watched: tuple[Path, ...] = ()
    if all(name.count("/") == 2 for name in found.values()):
        by_wnid, origin = {stem: name.split("/")[1] for stem, name in found.items()}, "their folders"
    elif kit:
        by_wnid, origin = _in_order(kit.truth), KIT
    elif listed:
        words = (line.strip() for line in read_lines(listed))
        by_wnid, origin, watched = _in_order(word for word in words if word), str(listed), (listed,)
    elif labels_file:
        if labels_file == source.folder / CLASS_LABELS[0]:
            source.archive(CLASS_LABELS[0])  # says that it is not pinned
        by_stem = {Path(name).stem: label for name, label in read_labels(labels_file)}
        return _Labels(by_stem, str(labels_file), (labels_file,))
    else:
        by_wnid, origin = {stem: names[0] for stem, names in boxes.classes.items() if len(set(names)) == 1}, "the XML"
    unknown = sorted({wnid for stem, wnid in by_wnid.items() if stem in found and wnid not in index})
    if unknown:
        msg = f"validation images have labels, from {origin}, that are no class of train/, such as {unknown[0]}"
        raise DataError(msg)
    return _Labels({stem: index[wnid] for stem, wnid in by_wnid.items() if wnid in index}, origin, watched)


def _in_order(wnids: Iterable[str]) -> dict[str, str]:
    """The lists have no names: line n belongs to the nth image, whose name ends in n."""
    return {f"ILSVRC2012_val_{i:08d}": wnid for i, wnid in enumerate(wnids, 1)}


def _test_samples(
    root: Path, found: Mapping[str, str], labels: _Labels, boxes: ValBoxes, source: Source
) -> list[Sample]:
    for what, known in (("label", labels.by_stem), ("box", boxes.by_stem)):
        lost = [stem for stem in found if stem not in known]
        if lost:
            msg = f"{len(lost)} of {len(found)} validation images in '{root / 'val'}' have no {what}, such as {lost[0]}"
            raise DataError(msg)
    if not found:
        lacking = f"validation images in '{root / 'val'}'"
        raise source.missing(lacking)
    return [Sample(name, root / name, labels.by_stem[stem], boxes.by_stem[stem]) for stem, name in found.items()]


def _compare(tests: list[Sample], labels: _Labels, boxes: ValBoxes, wnids: list[str], source: Source) -> None:
    """Labels and boxes come from two files: shuffled labels must not become a dataset."""
    other = [s.name for s in tests if wnids and wnids[s.label] not in boxes.classes[Path(s.name).stem]]
    if len(other) > TOLERATED * len(tests):
        msg = (
            f"the labels from {labels.origin} and the classes in the XML differ for {len(other)} of {len(tests)} "
            f"images, such as '{other[0]}': one of them is of other data"
        )
        raise DataError(msg)
    if other:
        source.talk.warn(f"{len(other)} images have another class in the XML than their label, such as '{other[0]}'")


def _train_samples(root: Path, wnids: list[str], source: Source) -> Iterator[Sample]:
    with source.talk.progress("listing train-weaksup", len(wnids)) as step:
        for label, wnid in enumerate(wnids):
            folder = root / "train" / wnid
            for file in sorted(p.name for p in folder.iterdir()):
                if Path(file).suffix.lower() in EXTENSIONS and not file.startswith("."):
                    yield Sample(f"train/{wnid}/{file}", folder / file, label, NO_BOXES)
            step()

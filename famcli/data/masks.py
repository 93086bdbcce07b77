"""Masks of objects: where a dataset keeps them, and their pixels.

Masks are looked for when they are asked for, and not with the samples, so that a million training images stay light.
There are three kinds: image files named as the photographs, image files that a wsolevaluation ``localization.txt``
names in place of boxes, and the segmentations of a COCO file.

A mask is in the frame of the image as a viewer shows it, EXIF orientation applied. In a file named as its photograph a
pixel belongs to the object if it is brighter than half of the file's range: more than 127 of 255, which of CUB's six
levels of confidence are the upper three; in a file of zeros and ones, if it is one. In a file that wsolevaluation's
lists name, every pixel that is not black does, as in its own program.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from famcli.data.dataset import Dataset
from famcli.data.images import MAX_PIXELS
from famcli.data.listing import MASK_SUFFIX
from famcli.data.metadata import BOXES, METADATA, names_masks, read_mask_lines
from famcli.data.readers import find_images
from famcli.data.readers.coco import CocoFile, dataset_files, image_folder
from famcli.data.sample import Sample
from famcli_models.errors import DataError, shown

FOLDERS = ("masks", "segmentations")
SUFFIX = ".png"
FAINTEST = 51  # CUB's lowest level; a file whose largest value is from 2 to 50 holds numbers of classes, or is no mask
REACH = 1.0  # a polygon may leave the image by this many times its longer side: farther out it is not of this image
FIRST = 48  # the first of the 64 characters of packed run lengths: six bits each
Pixels = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class MaskFiles:
    """Image files of one sample's masks."""

    objects: tuple[Path, ...]  # one for each object, or one for all
    ignore: Path | None = None  # the region that does not count
    listed: bool = False  # a list of wsolevaluation names them, and its rules apply, which take a mask of any size


@dataclass(frozen=True, slots=True)
class Segmentations:
    """Segmentations of one sample in a COCO file, as they stand: of objects of its class, and of crowds to ignore."""

    name: str  # of the image and the file, for messages
    objects: tuple[Any, ...]
    crowds: tuple[Any, ...] = ()


MaskSource = MaskFiles | Segmentations


def find_masks(dataset: Dataset, samples: Sequence[Sample], folder: Path | None = None) -> list[MaskSource | None]:
    """Where the masks of each sample are; ``None`` for a sample without.

    Without a folder, masks are looked for in this order: in the lists of the dataset, in its COCO file, and in
    ``masks`` and ``segmentations`` in the dataset's folder, in that of its images and in the one above it. A file has
    the image's name with the suffix .png, in the same subfolder, or in any if no other file or image has that name.

    Args:
        dataset: The dataset.
        samples: Samples of it.
        folder: The folder of the mask files, if it should not be looked for.

    Raises:
        DataError: The folder is none, has no mask of any sample, or has a mask that may be of two.
    """
    if folder is not None and not folder.is_dir():
        msg = f"'{folder}' is not a folder of masks; give one with a {SUFFIX} file for each image"
        raise DataError(msg)
    listed = _listed(dataset, samples, folder)
    if any(listed):
        return list(listed)
    if folder is not None:
        found = _in_folder(folder, samples, strict=True)
        if not any(found):
            expected = PurePosixPath(samples[0].name).with_suffix(SUFFIX)
            msg = f"'{folder}' has no mask of any of the {len(samples):,} images; expected '{expected}' and so on"
            raise DataError(msg)
        return list(found)
    segmented = _segmented(dataset, samples)
    if any(segmented):
        return list(segmented)
    home = dataset.root if dataset.root.is_dir() else dataset.root.parent
    for place in dict.fromkeys((home, dataset.images, dataset.images.parent)):
        for name in FOLDERS:
            found = _in_folder(place / name, samples, strict=False)
            if any(found):
                return list(found)
    return [None] * len(samples)


def covered(masks: Sequence[MaskSource | None]) -> int:
    """Number of samples that have masks."""
    return sum(source is not None for source in masks)


def read_truth(source: MaskSource, size_hw: tuple[int, int]) -> tuple[list[Pixels], Pixels | None]:
    """The masks of one image.

    Args:
        source: Where they are.
        size_hw: ``(h, w)`` of the image, EXIF orientation applied.

    Returns:
        The pixels ``(h, w)`` of each object, and of the region to ignore if there is one, for
        :func:`famcli.evaluation.metrics.mask.truth_mask`. Masks of wsolevaluation's lists have sizes of their own.

    Raises:
        DataError: A mask is missing or cannot be read, or is of another size; the message names it.
    """
    if isinstance(source, Segmentations):
        try:
            crowds = [decode(crowd, size_hw) for crowd in source.crowds]
            ignore = np.logical_or.reduce(crowds) if crowds else None
            return [decode(segmentation, size_hw) for segmentation in source.objects], ignore
        except DataError as error:
            msg = f"{source.name}: {error}"
            raise DataError(msg) from error
    if source.listed:
        ignore = None if source.ignore is None else _values(source.ignore) > 0
        return [_values(path) > 0 for path in source.objects], ignore
    return [_object(path, size_hw) for path in source.objects], None


def _object(path: Path, size_hw: tuple[int, int]) -> Pixels:
    """Pixels of the object, by the range of the file."""
    values = _values(path)
    top = int(values.max(initial=0))
    if 1 < top < FAINTEST:
        msg = f"'{path}' has values up to {top}; a mask has 255 for the object (more than 127 counts), or 0 and 1 alone"
        raise DataError(msg)
    if values.shape != size_hw:
        (h, w), (height, width) = values.shape, size_hw
        turned = ": turn the mask as the EXIF data turn the image" if (w, h) == size_hw else ""
        msg = f"'{path}' is a mask of {w}x{h}, its image is {width}x{height}{turned}"
        raise DataError(msg)
    return values > (0 if top <= 1 else 127 if top <= 255 else 32_767)


def _values(path: Path) -> npt.NDArray[np.int64]:
    """Grey values ``(h, w)`` of a PNG file."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            size = image.width * image.height
            grey = image.mode in ("1", "L", "I", "I;16")  # else a palette, colours or transparency
            if size <= MAX_PIXELS:
                array = np.asarray(image if grey else image.convert("RGBA")).astype(np.int64)
    except FileNotFoundError as error:
        msg = f"there is no mask '{path}'"
        raise DataError(msg) from error
    except Exception as error:  # Pillow raises whatever a damaged byte leads to
        msg = f"'{path}' is not a PNG mask that can be read ({str(error).partition(' <')[0] or type(error).__name__})"
        raise DataError(msg) from error
    if size > MAX_PIXELS:
        msg = f"'{path}' has {size / 1e6:.0f} million pixels, more than any image that can be read"
        raise DataError(msg)
    if grey:
        return array
    if (array[..., :3] != array[..., :1]).any() or (array[..., 3] != 255).any():
        msg = f"'{path}' has colours or transparent pixels; a mask is grey, with 255 for the object"
        raise DataError(msg)
    return array[..., 0]


def _in_folder(folder: Path, samples: Sequence[Sample], *, strict: bool) -> list[MaskFiles | None]:
    """Files named as the images; where one may be of several, none, or an error if ``strict``."""
    files = _files(folder)
    if not files:
        return [None] * len(samples)
    of_stem: dict[str, list[Path]] = {}
    for key, file in files.items():
        of_stem.setdefault(PurePosixPath(key).name, []).append(file)
    images = Counter(PurePosixPath(name).stem for name in {sample.name for sample in samples})
    found: list[MaskFiles | None] = []
    for sample in samples:
        name = PurePosixPath(sample.name)
        path = files.get(sample.name) or files.get(name.with_suffix("").as_posix())
        alike = of_stem.get(name.stem, [])
        if path is None and alike and (len(alike) > 1 or images[name.stem] > 1):
            if strict:
                msg = (
                    f"'{alike[0]}' may be the mask of '{sample.name}', but other masks or images have that name too: "
                    f"put the masks into the folders of their images, as '{name.with_suffix(SUFFIX)}'"
                )
                raise DataError(msg)
        elif path is None and alike:
            path = alike[0]
        found.append(None if path is None else MaskFiles((path,)))
    return found


def _files(folder: Path) -> dict[str, Path]:
    """Mask files below a folder by relative POSIX path without the suffix; what ``fam predict`` made is no truth."""
    files: dict[str, Path] = {}
    for top, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if name.lower().endswith(SUFFIX) and not name.endswith(MASK_SUFFIX) and not name.startswith("."):
                path = Path(top, name)
                files[path.relative_to(folder).with_suffix("").as_posix()] = path
    return files


def _listed(dataset: Dataset, samples: Sequence[Sample], folder: Path | None) -> list[MaskFiles | None]:
    """Files that a list of wsolevaluation names."""
    lists = [
        path for pattern in ("", "*/", f"{METADATA}/*/") for path in sorted(dataset.root.glob(f"{pattern}{BOXES}"))
    ]
    wanted = {sample.name for sample in samples}
    objects: dict[str, list[str]] = {}
    ignored: dict[str, str] = {}
    for path in filter(names_masks, lists):
        for name, mask, ignore in read_mask_lines(path):
            if name in wanted:
                objects.setdefault(name, []).append(mask)
                if ignore and ignored.setdefault(name, ignore) != ignore:
                    msg = f"{path}: '{name}' has two masks of what to ignore, '{ignored[name]}' and '{ignore}'"
                    raise DataError(msg)
    if not objects:
        return [None] * len(samples)
    first = [masks[0] for masks in objects.values()]
    near = [place / name for place in (dataset.images, dataset.root, dataset.images.parent) for name in ("", *FOLDERS)]
    root = find_images(first, near if folder is None else [folder])
    if root is None and folder is not None:  # its files have other names: those of the images
        return [None] * len(samples)
    root = root or dataset.images
    found = {
        name: MaskFiles(tuple(root / mask for mask in masks), root / ignored[name] if name in ignored else None, True)
        for name, masks in objects.items()
    }
    return [found.get(sample.name) for sample in samples]


def _segmented(dataset: Dataset, samples: Sequence[Sample]) -> list[Segmentations | None]:
    """Segmentations in the COCO files that a dataset was opened from."""
    if dataset.held is None or dataset.facts.get("format") != "coco":
        return [None] * len(samples)
    found: dict[str, Segmentations] = {}
    wanted = {os.path.abspath(sample.path): sample for sample in samples}
    for path in dataset_files(dataset.root):
        file = CocoFile.load(path)
        of_image: dict[int, list[Mapping[str, Any]]] = {}
        for entry in file.annotations:
            of_image.setdefault(int(entry["image_id"]), []).append(entry)
        labels = {category: label for label, category in enumerate(file.categories)}
        roots = [dataset.images, image_folder(file) or path.parent]  # the first if --images was given
        for name, number in file.ids.items():
            sample = next((s for root in roots if (s := wanted.get(os.path.abspath(root / name)))), None)
            entries = [] if sample is None else of_image.get(number, [])
            entries = [e for e in entries if sample is not None and labels.get(int(e["category_id"])) == sample.label]
            objects = [e.get("segmentation") for e in entries if not e.get("iscrowd")]
            crowds = [e["segmentation"] for e in entries if e.get("iscrowd") and e.get("segmentation")]
            if sample is not None and objects and all(objects):  # an object with a box alone would be background
                key = os.path.abspath(sample.path)
                found.setdefault(key, Segmentations(f"{path}, '{name}'", tuple(objects), tuple(crowds)))
    return [found.get(os.path.abspath(sample.path)) for sample in samples]


def decode(segmentation: Any, size_hw: tuple[int, int]) -> Pixels:
    """The pixels ``(h, w)`` of the ``segmentation`` of a COCO annotation; an error is the reason alone.

    Polygons are filled by pycocotools. Run lengths, in columns, are unpacked here, because pycocotools leaves pixels
    that they do not reach undefined, and warns of NumPy 2.
    """
    if isinstance(segmentation, dict):
        return _from_runs(segmentation, size_hw)
    if isinstance(segmentation, list) and segmentation:
        return _from_polygons(segmentation, size_hw)
    msg = f"the segmentation is {shown(segmentation)}; polygons or run lengths are needed"
    raise DataError(msg)


def _from_polygons(polygons: Sequence[Any], size_hw: tuple[int, int]) -> Pixels:
    from pycocotools import mask

    h, w = size_hw
    far = (1 + REACH) * max(size_hw)
    for polygon in polygons:
        numbers = isinstance(polygon, list) and all(
            isinstance(v, (int, float)) and not isinstance(v, bool) for v in polygon
        )
        if not numbers or len(polygon) < 6 or len(polygon) % 2 or not all(abs(v) <= far for v in polygon):
            msg = f"the polygon {shown(polygon)} is not a list x, y, x, y, ... of three points or more in the image"
            raise DataError(msg)
    # An outline of four numbers would be taken for a box by pycocotools; there are six or more.
    runs = mask.merge(mask.frPyObjects([[float(v) for v in polygon] for polygon in polygons], h, w))
    return _from_runs({"size": [h, w], "counts": runs["counts"].decode("ascii")}, size_hw)


def _from_runs(segmentation: dict[str, Any], size_hw: tuple[int, int]) -> Pixels:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != list(size_hw):
        msg = f"the run lengths are of size {shown(size)} (height, width), the image's is {list(size_hw)}"
        raise DataError(msg)
    runs = _unpacked(counts) if isinstance(counts, str) else counts
    h, w = size_hw
    if (
        not isinstance(runs, list)
        or not all(isinstance(run, int) and 0 <= run <= h * w for run in runs)
        or sum(runs) != h * w
    ):
        msg = f"the run lengths {shown(counts)} do not add up to the {h * w:,} pixels of the image"
        raise DataError(msg)
    inside = np.arange(len(runs)) % 2 == 1  # background comes first
    return np.repeat(inside, runs).reshape(w, h).T


def _unpacked(text: str) -> list[int] | None:
    """Run lengths of COCO's packed form; ``None`` if it is damaged.

    Five bits a character, the lowest first, and one bit that says whether more follow; the sign is that of the
    highest. From the fourth on, what is written is the difference to the last run but one.
    """
    values: list[int] = []
    value = shift = 0
    for letter in text:
        code = ord(letter) - FIRST
        if not 0 <= code < 64 or shift > 60:
            return None
        value |= (code & 0x1F) << shift
        shift += 5
        if code & 0x20:
            continue
        if code & 0x10:
            value -= 1 << shift
        values.append(value)
        value = shift = 0
    if shift:
        return None
    for i in range(3, len(values)):
        values[i] += values[i - 2]
    return values

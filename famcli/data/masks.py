"""Masks of objects: where a dataset keeps them, and their pixels, in the frame of the upright image.

They are image files named as the photographs, image files that a wsolevaluation ``localization.txt`` names in place of
boxes, or the segmentations of a COCO file. In a file named as its photograph a pixel belongs to the object if it is
brighter than half of the file's range: more than 127 of 255, which of CUB's six levels of confidence are the upper
three. In a file that wsolevaluation's lists name, every pixel that is not black does, as in its own program.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from famcli.data.dataset import Dataset
from famcli.data.images import MAX_PIXELS
from famcli.data.metadata import BOXES, METADATA, names_masks, read_mask_lines
from famcli.data.readers import files_below, find_images
from famcli.data.readers.coco import CocoFile, CocoObject, Id, dataset_files, image_folder
from famcli.data.sample import Sample
from famcli.data.search import MASK_SUFFIX
from famcli_models.errors import DataError, shown
from famcli_models.files import open_regular

FOLDERS = ("masks", "segmentations")
SUFFIX = ".png"
FAINTEST = 51  # CUB's lowest level; a file whose largest value is from 2 to 50 holds numbers of classes, or is no mask
REACH = 1.0  # a polygon may leave the image by this many times its longer side: farther out it is not of this image
FIRST = 48  # the first of the 64 characters of packed run lengths: six bits each
Pixels = npt.NDArray[np.bool_]


class MaskFiles(NamedTuple):
    """Image files of one sample's masks."""

    objects: tuple[Path, ...]  # one for each object, or one for all
    ignore: Path | None = None  # the region that does not count
    listed: bool = False  # a list of wsolevaluation names them, and its rules apply, which take a mask of any size


class Segmentations(NamedTuple):
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
    """
    if folder is not None and not folder.is_dir():
        raise DataError(f"'{folder}' is not a folder of masks; give one with a {SUFFIX} file for each image")
    found: Mapping[str, MaskSource] = _listed(dataset, samples, folder)
    if folder is not None:
        found = found or _in_folder(folder, samples, strict=True)
        if not found:
            expected = f"expected '{PurePosixPath(samples[0].name).with_suffix(SUFFIX)}' and so on"
            raise DataError(f"'{folder}' has no mask of any of the {len(samples):,} images; {expected}")
    found = found or _segmented(dataset, samples)
    if not found:
        home = dataset.root if dataset.root.is_dir() else dataset.root.parent
        above = dict.fromkeys((home, dataset.images, dataset.images.parent))
        tried = (_in_folder(place / name, samples, strict=False) for place in above for name in FOLDERS)
        found = next(filter(None, tried), {})
    return [found.get(sample.name) for sample in samples]


def covered(masks: Sequence[MaskSource | None]) -> int:
    """Number of samples that have masks."""
    return sum(source is not None for source in masks)


def read_truth(source: MaskSource, size_hw: tuple[int, int]) -> tuple[list[Pixels], Pixels | None]:
    """The pixels ``(h, w)`` of each object of one upright image, and of the region to ignore if there is one.

    Masks of wsolevaluation's lists have sizes of their own: :func:`famcli.evaluation.metrics.mask.truth_mask` knows.
    """
    if isinstance(source, Segmentations):
        try:
            crowds = [decode(crowd, size_hw) for crowd in source.crowds]
            ignore = np.logical_or.reduce(crowds) if crowds else None
            return [decode(segmentation, size_hw) for segmentation in source.objects], ignore
        except DataError as error:
            raise DataError(f"{source.name}: {error}") from error
    if source.listed:
        ignore = None if source.ignore is None else _values(source.ignore) > 0
        return [_values(path) > 0 for path in source.objects], ignore
    return [_object(path, size_hw) for path in source.objects], None


def _object(path: Path, size_hw: tuple[int, int]) -> Pixels:
    """Pixels of the object, by the range of the file."""
    values = _values(path, size_hw)
    top = int(values.max(initial=0))
    if 1 < top < FAINTEST:
        needs = "a mask has 255 for the object (more than 127 counts), or 0 and 1 alone"
        raise DataError(f"'{path}' has values up to {top}; {needs}")
    return values > (0 if top <= 1 else 127 if top <= 255 else 32_767)


def _values(path: Path, size_hw: tuple[int, int] | None = None) -> npt.NDArray[Any]:
    """Grey values ``(h, w)`` of a PNG file, of a size if one is asked for; another is not decoded."""
    try:
        with open_regular(path) as file, Image.open(file, formats=("PNG",)) as image:
            width, height = image.size
            grey = image.mode in ("1", "L", "I", "I;16")  # else a palette, colours or transparency
            if width * height <= MAX_PIXELS and size_hw in (None, (height, width)):
                array = np.asarray(image if grey else image.convert("RGBA"))
    except FileNotFoundError as error:
        raise DataError(f"there is no mask '{path}'") from error
    except Exception as error:  # Pillow raises whatever a damaged byte leads to
        why = (error.strerror if isinstance(error, OSError) else "") or str(error).partition(" <")[0]
        raise DataError(f"'{path}' is not a PNG mask that can be read ({why or type(error).__name__})") from error
    if size_hw not in (None, (height, width)):
        turned = ": turn the mask as the EXIF data turn the image" if size_hw == (width, height) else ""
        real = f"its image is {size_hw[1]}x{size_hw[0]}{turned}"
        raise DataError(f"'{path}' is a mask of {width}x{height}, {real}")
    if width * height > MAX_PIXELS:
        size = f"{width * height / 1e6:.0f} million pixels"
        raise DataError(f"'{path}' has {size}, more than any image that can be read")
    if grey:
        return array
    colours = any((array[..., i] != array[..., 0]).any() for i in (1, 2))
    if colours or (array[..., 3] != 255).any():
        raise DataError(f"'{path}' has colours or transparent pixels; a mask is grey, with 255 for the object")
    return array[..., 0]


def _in_folder(folder: Path, samples: Sequence[Sample], *, strict: bool) -> dict[str, MaskFiles]:
    """Files named as the images; where one may be of several, none, or an error if ``strict``."""
    files = {  # by relative path without the suffix; what fam predict made is no truth
        name[: -len(SUFFIX)]: folder / name for name in files_below(folder, SUFFIX) if not name.endswith(MASK_SUFFIX)
    }
    by_stem: dict[str, list[Path]] = {}
    for key, file in files.items():
        by_stem.setdefault(PurePosixPath(key).name, []).append(file)
    images = Counter(PurePosixPath(name).stem for name in {sample.name for sample in samples})
    found: dict[str, MaskFiles] = {}
    for sample in samples if files else ():
        name = PurePosixPath(sample.name)
        path = files.get(sample.name) or files.get(name.with_suffix("").as_posix())
        alike = [] if path else by_stem.get(name.stem, [])
        if alike and len(alike) == images[name.stem] == 1:
            path = alike[0]
        elif alike and strict:
            raise DataError(
                f"'{alike[0]}' may be the mask of '{sample.name}', but other masks or images have that name too: "
                f"put the masks into the folders of their images, as '{name.with_suffix(SUFFIX)}'"
            )
        if path:
            found[sample.name] = MaskFiles((path,))
    return found


def _listed(dataset: Dataset, samples: Sequence[Sample], folder: Path | None) -> dict[str, MaskFiles]:
    """Files that a list of wsolevaluation names."""
    wanted = {sample.name for sample in samples}
    objects: dict[str, list[str]] = {}
    ignored: dict[str, str] = {}
    lists = (path for above in ("", "*/", f"{METADATA}/*/") for path in sorted(dataset.root.glob(f"{above}{BOXES}")))
    for path in filter(names_masks, lists):
        for name, mask, ignore in read_mask_lines(path):
            if name in wanted:
                objects.setdefault(name, []).append(mask)
                if ignore and ignored.setdefault(name, ignore) != ignore:
                    two = f"'{ignored[name]}' and '{ignore}'"
                    raise DataError(f"{path}: '{name}' has two masks of what to ignore, {two}")
    near = [place / name for place in (dataset.images, dataset.root, dataset.images.parent) for name in ("", *FOLDERS)]
    root = find_images([masks[0] for masks in objects.values()], [folder] if folder else near)
    if root is None and folder is not None:  # its files have other names: those of the images
        return {}
    root = root or dataset.images
    return {
        name: MaskFiles(tuple(root / mask for mask in masks), root / ignored[name] if name in ignored else None, True)
        for name, masks in objects.items()
    }


def _segmented(dataset: Dataset, samples: Sequence[Sample]) -> dict[str, Segmentations]:
    """Segmentations in the COCO files that a dataset was opened from."""
    found: dict[str, Segmentations] = {}
    if dataset.held is None or dataset.facts.get("format") != "coco":
        return found
    wanted = {os.path.abspath(sample.path): sample for sample in samples}
    for path in dataset_files(dataset.root):
        file = CocoFile.load(path)
        of_image: dict[Id, list[CocoObject]] = {}
        for item in file.objects():
            of_image.setdefault(item.image, []).append(item)
        labels = {category: label for label, category in enumerate(file.categories)}
        roots = [dataset.images, image_folder(file) or path.parent]  # the first if --images was given
        for image in file.images:
            sample = next((s for root in roots if (s := wanted.get(os.path.abspath(root / image.name)))), None)
            if sample is None:
                continue
            items = [item for item in of_image.get(image.id, ()) if labels[item.category] == sample.label]
            objects = [item.segmentation for item in items if not item.crowd]
            crowds = [item.segmentation for item in items if item.crowd and item.segmentation]
            if objects and all(objects):  # an object with a box alone would be background
                found.setdefault(sample.name, Segmentations(f"{path}, '{image.name}'", tuple(objects), tuple(crowds)))
    return found


def encode(mask: np.ndarray) -> dict[str, Any]:
    """Pixels ``(h, w)`` bool as the ``segmentation`` of a COCO annotation: packed run lengths."""
    from pycocotools import mask as rle

    runs = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(mask.shape), "counts": runs["counts"].decode("ascii")}


def decode(segmentation: Any, size_hw: tuple[int, int]) -> Pixels:
    """The pixels ``(h, w)`` of the ``segmentation`` of a COCO annotation; an error is the reason alone.

    Polygons are filled by pycocotools. Run lengths, in columns, are unpacked here, because pycocotools leaves pixels
    that they do not reach undefined, and warns of NumPy 2.
    """
    if isinstance(segmentation, list) and segmentation:
        segmentation = _runs_of(segmentation, size_hw)
    if not isinstance(segmentation, dict):
        raise DataError(f"the segmentation is {shown(segmentation)}; polygons or run lengths are needed")
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != list(size_hw):
        raise DataError(f"the run lengths are of size {shown(size)} (height, width), the image's is {list(size_hw)}")
    runs = _unpacked(counts) if isinstance(counts, str) else counts
    h, w = size_hw
    if not isinstance(runs, list) or not all(isinstance(r, int) and r >= 0 for r in runs) or sum(runs) != h * w:
        raise DataError(f"the run lengths {shown(counts)} do not add up to the {h * w:,} pixels of the image")
    inside = np.arange(len(runs)) % 2 == 1  # background comes first
    return np.repeat(inside, runs).reshape(w, h).T


def _runs_of(polygons: Sequence[Any], size_hw: tuple[int, int]) -> dict[str, Any]:
    """Polygons as packed run lengths."""
    from pycocotools import mask

    far = (1 + REACH) * max(size_hw)
    for polygon in polygons:
        good = isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0
        if not good or not all(type(v) in (int, float) and abs(v) <= far for v in polygon):
            needed = "a list x, y, x, y, ... of three points or more in the image"
            raise DataError(f"the polygon {shown(polygon)} is not {needed}")
    # An outline of four numbers would be taken for a box by pycocotools; there are six or more.
    runs = mask.merge(mask.frPyObjects([[float(v) for v in polygon] for polygon in polygons], *size_hw))
    return {"size": list(size_hw), "counts": runs["counts"].decode("ascii")}


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
        if not code & 0x20:
            value -= (code >> 4 & 1) << shift
            values.append(value + (values[-2] if len(values) > 2 else 0))
            value = shift = 0
    return None if shift else values

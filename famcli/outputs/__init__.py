"""What predictions are written as: the table of result formats, and that of the files beside them for each image.

Adding either is one function and one row. Modules are imported on first use, so that help needs nothing heavy.
"""

from __future__ import annotations

import os
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from famcli_models.errors import ConfigError, DataError, UnknownNameError
from famcli_models.files import encoded, is_stream, make_folders, real_path, scratch, write_atomic, write_pieces

if TYPE_CHECKING:
    from famcli.data.listing import Listing
    from famcli.outputs.coco import CocoIds
    from famcli.outputs.prediction import Prediction, Record

Records = Callable[[], "Iterable[Record]"]  # all of them in order; each call reads them from the beginning


@dataclass(frozen=True, slots=True)
class Run:
    """What a writer may need beside the records; the listing has the images that failed too.

    ``info`` says version, model, method and threshold, JSON-able; ``num_parts`` is 0 if parts were not asked for.
    ``polygons`` are wanted in place of run lengths, and ``all_categories`` in place of those that occur.
    """

    listing: Listing
    class_names: tuple[str, ...]
    ids: CocoIds
    info: Mapping[str, Any]
    num_parts: int = 0
    polygons: bool = False
    all_categories: bool = False


@dataclass(frozen=True, slots=True)
class Output:
    """A row of :data:`FORMATS` or :data:`IMAGE_FILES`."""

    writer: str  # ``module:function``, imported on first use
    summary: str  # what is written, for help and docs
    suffixes: tuple[str, ...] = ()  # of file names that this may be written to; the first row with one is its default
    folder: bool = False  # the results are a folder of files and not one file
    mask: bool = False  # the files need the pixels of the regions
    segmentations: tuple[str, ...] = ()  # forms of masks that the results have a place for: ``rle``, ``polygons``
    photo: bool = False  # they need the photograph
    links: bool = False  # they name the photographs as files, which those in tars and at URLs are not


# The results. A writer takes the records and the run, and yields the text of the file piece by piece; or, of a folder,
# the name of each file and its text, whole or in pieces, its bytes, or the path that it is a symbolic link to.
FORMATS: MutableMapping[str, Output] = {
    "coco": Output(
        "famcli.outputs.coco:dataset_json",
        "a full COCO dataset: info, images, categories, and annotations with a `score`",
        (".json",),
        segmentations=("rle", "polygons"),
    ),
    "coco-results": Output(
        "famcli.outputs.coco:results_json",
        "a list of detections, as `loadRes` of pycocotools takes it",
        (".json",),
        segmentations=("rle", "polygons"),
    ),
    "csv": Output(
        "famcli.outputs.tables:csv_lines",
        "one row for each box and class; an image without a box has one row for each class with empty corners",
        (".csv",),
    ),
    "jsonl": Output(
        "famcli.outputs.tables:json_lines",
        "one JSON object for each image, failed images included",
        (".jsonl",),
        segmentations=("rle",),
    ),
    "yolo": Output(
        "famcli.outputs.yolo:folder",
        "a folder with `data.yaml`, `labels` and links to the images",
        folder=True,
        segmentations=("polygons",),
        links=True,
    ),
    "voc": Output("famcli.outputs.voc:folder", "a folder with one Pascal VOC XML file for each image", folder=True),
    "labelstudio": Output(
        "famcli.outputs.labelstudio:folder",
        "a folder with `tasks.json`, which has the predictions, and `label_config.xml`",
        folder=True,
        segmentations=("polygons",),
        links=True,
    ),
    "cvat": Output(
        "famcli.outputs.cvat:annotations_xml", "the XML of CVAT for images 1.1", (".xml",), segmentations=("polygons",)
    ),
}
DEFAULT_FORMAT = "coco"
# Files that each image gets as soon as it is done, in a folder of their own. A writer takes a prediction, and yields
# for each file what its name has behind the image's, and its bytes.
IMAGE_FILES: MutableMapping[str, Output] = {
    "overlays": Output("famcli.outputs.image_files:overlays", "photographs with heat map, box and label", photo=True),
    "maps": Output("famcli.outputs.image_files:maps", "the maps (.npy, float32)"),
    "masks": Output("famcli.outputs.image_files:masks", "masks of the boxed regions (.png)", mask=True),
}


def find_output(kind: str, name: str, table: Mapping[str, Output]) -> Output:
    """A row of a table; an unknown name of this kind is answered with the near ones."""
    if name not in table:
        raise UnknownNameError(kind, name, table)
    return table[name]


def format_suffixes() -> dict[str, str]:
    """The default format of each suffix: the first that has it."""
    suffixes: dict[str, str] = {}
    for form, row in FORMATS.items():
        for suffix in row.suffixes:
            suffixes.setdefault(suffix, form)
    return suffixes


def choose_format(name: str | None, out: Path | None) -> str:
    """The format of a name, or else of the suffix of a file; a suffix that belongs to other formats is refused."""
    suffix, defaults = out.suffix.lower() if out else "", format_suffixes()
    if name is not None:
        row = find_output("format", name, FORMATS)
        if suffix in defaults and suffix not in row.suffixes:
            fitting = " or ".join(form for form, other in FORMATS.items() if suffix in other.suffixes)
            form = f"{name}, a folder of files" if row.folder else name
            raise ConfigError(f"--out '{out}' is a name for {fitting}, and --format is {form}: change one")
        return name
    if suffix and suffix not in defaults:
        known = ", ".join(defaults)
        raise ConfigError(f"no format is known by the suffix of --out '{out}' ({known} are); say which with --format")
    return defaults.get(suffix, DEFAULT_FORMAT)


def check_segmentation(form: str, chosen: str | None) -> None:
    """Refuse a form of masks that the format of the results, if there are any, has no place for."""
    fitting = [name for name, row in FORMATS.items() if form in row.segmentations]
    if chosen not in fitting:
        where = f"--format {chosen} has no place" if chosen else "without --out or --format there is no place"
        raise ConfigError(f"{where} for masks as '{form}'; {', '.join(fitting)} have one")


def check_out(out: Path, name: str, listing: Listing) -> None:
    """Refuse a target for the results in the format of a name that cannot be, before any work is done."""
    chosen = FORMATS[name]
    if chosen.links and not listing.is_local:
        taken = ", ".join(form for form, row in FORMATS.items() if not row.links)
        raise ConfigError(
            f"--format {name} names the photographs as files, and these lie in tars or at URLs, which only {taken} take"
        )
    if chosen.folder:
        if is_stream(out):
            raise ConfigError(f"--format {name} is a folder of files, and '{out}' is none; name a new folder")
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ConfigError(f"--out '{out}' is there already; name a new folder")
    elif out.is_dir():
        raise ConfigError(f"--out '{out}' is a folder; name a file, for example {out / 'boxes.json'}")
    elif out.exists() and not is_stream(out) and not isinstance(listing.root, str):
        paths = map(listing.path, listing.names)
        if any(out.samefile(path) for path in paths if path.exists()):
            raise ConfigError(f"--out '{out}' is one of the images; name another file")


def check_not_read(out: Path, read: Iterable[Path]) -> None:
    """Refuse a target for the results that is one of the files which the run reads."""
    if out.exists() and any(path.exists() and out.samefile(path) for path in read):
        raise ConfigError(f"--out '{out}' is a file that this run reads; name another one")


def check_local(path: Path) -> None:
    """Refuse a URL, of which a path has lost a slash, as a place to write to."""
    if re.match("[a-z][a-z0-9+.-]+:/", str(path)):
        raise ConfigError(f"'{path}' is a URL; results are written to files here, which can be copied there")


def write_results(chosen: Output, records: Records, run: Run, out: Path) -> None:
    """Write the results, whole or not at all; a ``DataError`` says why the disk refuses."""
    pieces = pkgutil.resolve_name(chosen.writer)(records, run)
    try:
        if chosen.folder:
            _write_folder(pieces, real_path(out))
        else:
            write_pieces(out, pieces)
    except BrokenPipeError:  # whoever reads a stream has enough
        raise
    except OSError as error:
        raise DataError(f"cannot write '{out}': {error.strerror or error}") from error


def write_prediction(prediction: Prediction, out: Path, name: str) -> None:
    """Write one prediction as a file of a format; a ``DataError`` says why the disk refuses."""
    from famcli.data.listing import Listing, Names
    from famcli.outputs.coco import CocoIds
    from famcli.version import __version__

    names, class_names = Names([prediction.name]), prediction.class_names
    info = {"version": f"fam {__version__}"}
    num_parts = len(prediction.parts.weights) if prediction.parts else 0
    run = Run(Listing(Path(), names), class_names, CocoIds.numbered(names, class_names), info, num_parts)
    write_results(FORMATS[name], lambda: [prediction.to_dict()], run, out)


def write_image_files(folders: Mapping[str, Path], prediction: Prediction) -> None:
    """Write the files of one image, each whole or not at all, to the folder given for each name in the table.

    A file that cannot be written does not keep the others from it; then a ``DataError`` names each one.
    """
    refused = []
    for name, folder in folders.items():
        for ending, content in pkgutil.resolve_name(IMAGE_FILES[name].writer)(prediction):
            path = folder / (prediction.name.lstrip("/") + ending)
            try:
                write_atomic(path, partial(Path.write_bytes, data=content), one_of_many=True)
            except OSError as error:
                refused.append(f"'{path}' ({error.strerror or error})")
    if refused:
        raise DataError(f"cannot write {', '.join(refused)}")


def _write_folder(files: Iterable[tuple[str, str | bytes | Path | Iterator[str]]], folder: Path) -> None:
    with scratch(folder.parent) as beside:
        made = beside / folder.name
        made.mkdir()
        for name, content in files:
            path = made / name.lstrip("/")
            make_folders(path.parent)
            if isinstance(content, Path):
                path.symlink_to(content)
            elif isinstance(content, bytes):
                path.write_bytes(content)
            else:
                pieces = [content] if isinstance(content, str) else content
                with path.open("wb") as file:
                    file.writelines(encoded(pieces))
        if hasattr(os, "sync"):  # not on Windows
            os.sync()  # once for all files, which may be a million
        if folder.is_dir():
            folder.rmdir()  # it is empty, or this refuses
        made.rename(folder)

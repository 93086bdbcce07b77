"""A whole prediction run: images in, results out with files beside them, resumable. What ``fam predict`` calls."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from famcli.data.listing import STDIN, Listing, list_images
from famcli.hub import find_model
from famcli.inference.engine import open_engine
from famcli.inference.journal import Journal
from famcli.inference.labels import Classes, read_labels
from famcli.inference.predictor import Predictor, Settings
from famcli.outputs import (
    FORMATS,
    IMAGE_FILES,
    Output,
    Run,
    check_out,
    check_segmentation,
    choose_format,
    find_output,
    write_image_files,
    write_results,
)
from famcli.outputs.coco import CocoIds
from famcli.outputs.prediction import Failure, Item, Record
from famcli_models.checkpoint import COLLAPSED, DEFAULT_MODEL, WEIGHTS_FILE, read_config
from famcli_models.errors import ConfigError, DataError, listed, short
from famcli_models.files import sha256_file

Progress = Callable[[int, int], AbstractContextManager[Callable[[], object]]]
PACE = {"batch_size", "workers"}  # settings that change no result


@dataclass(slots=True)
class Summary:
    """What a run did."""

    images: int = 0  # without the failures
    boxes: int = 0
    empty: int = 0  # images in which no pixel passed the threshold
    failures: list[Failure] = field(default_factory=list)
    warnings: list[Failure] = field(default_factory=list)  # images whose files beside the results could not be written
    remarks: list[str] = field(default_factory=list)  # what to know of the names that were given

    def count(self, record: Record) -> None:
        """Add one record."""
        if "error" in record:
            self.failures.append(Failure(record["file_name"], record["error"]))
            return
        self.images += 1
        self.boxes += len(record["boxes"])
        self.empty += not record["boxes"]
        if "warning" in record:
            self.warnings.append(Failure(record["file_name"], record["warning"]))


def predict_files(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    *,
    model: str | Path = DEFAULT_MODEL,
    method: str | None = None,
    device: str = "auto",
    engine: str = "torch",
    settings: Settings | None = None,
    format: str | None = None,  # noqa: A002
    image_files: Mapping[str, str | Path] | None = None,
    label: str | None = None,
    labels: str | None = None,
    coco_images: str | Path | None = None,
    segmentation: str | None = None,
    all_categories: bool = False,
    resume: bool = False,
    say: Callable[[str], None] | None = None,
    progress: Progress = lambda total, done: nullcontext(lambda: None),  # noqa: ARG005
    on_record: Callable[[Record], object] = lambda record: None,  # noqa: ARG005
    **changes: Any,
) -> Summary:
    """Predict files and write the results, whole or not at all, in the order of the files' names.

    Finished images are kept in a journal beside ``out`` until all are done. A file that cannot be read is a failure of
    its own, and the others go on; a file beside the results that cannot be written is a warning.

    Args:
        inputs: Images, folders (searched recursively), glob patterns, or ``-`` for a list on standard input.
        out: The file of the results, or the folder if the format is one; by default none is written.
        model: A packaged name, the folder of a checkpoint, or a name on the Hugging Face Hub.
        method: See :func:`famcli_models.load_model`.
        device: See :class:`famcli.Predictor`.
        engine: Likewise.
        settings: How maps become boxes.
        format: A name in ``famcli.outputs.FORMATS``; by default the first that the suffix of ``out`` is of.
        image_files: A folder for each kind of ``famcli.outputs.IMAGE_FILES`` that every image gets.
        label: The class of all images, or a name of one's own for what is on them.
        labels: Likewise for each image: ``folder``, or the path of a file of lines ``image,class``.
        coco_images: A COCO file to take image and category ids from.
        segmentation: Form of the masks in the results, ``rle`` or ``polygons``, if the format has a place for it.
        all_categories: List the categories that do not occur too.
        resume: Go on with an interrupted run of the same arguments.
        say: Called with a sentence on what is downloaded, and on what was done before.
        progress: Given the number of images and how many were done before, a context that gives a function to call
            after each image.
        on_record: Called with the record of each image, in order, as soon as it is done; first those done before.
        **changes: Fields of ``settings`` to change, for example ``max_boxes=3``.

    Raises:
        FamError: An argument cannot be used, there are no images, or the disk refuses.
    """
    out = Path(out) if out is not None else None
    if out is None and resume:
        raise ConfigError("only a run with --out can be resumed")
    format = choose_format(format, out)  # noqa: A001
    chosen = FORMATS[format]
    folders = {kind: Path(folder) for kind, folder in (image_files or {}).items()}
    rows = [find_output("image file", kind, IMAGE_FILES) for kind in folders]
    if segmentation is not None:
        check_segmentation(segmentation, None if out is None else format)
    settings = _with_needs(replace(settings or Settings(), **changes), rows, segmentation)
    given = [str(item) for item in ([inputs] if isinstance(inputs, (str, Path)) else inputs)]
    listing = list_images(given, sys.stdin if STDIN in given else (), [*folders.values(), *([out] if out else [])])
    if out is not None:
        check_out(out, chosen, listing)
    for folder in folders.values():
        _make_folder(folder)

    checkpoint = find_model(str(model), say)
    collapsed = read_config(checkpoint)["provenance"].get(COLLAPSED)
    if collapsed and say is not None:
        say(f"warning: the training of this model has failed: {short(str(collapsed))}")
    predictor = Predictor(open_engine(checkpoint, method, device, amp=settings.amp, name=engine), settings=settings)
    summary, names = Summary(), listing.names
    known, own_names = _given_classes(label, labels, listing, predictor, summary)
    class_names = own_names or predictor.class_names
    ids = CocoIds.from_file(Path(coco_images), class_names) if coco_images else CocoIds.numbered(names, class_names)
    used = {"model_sha256": sha256_file(checkpoint / WEIGHTS_FILE), "method": predictor.config.method}
    header = {
        **{name: value for name, value in asdict(settings).items() if name not in PACE},
        **used,
        "root": str(listing.root),
        "label": label,
        "labels": sha256_file(Path(labels)) if labels and Path(labels).is_file() else labels,
        "coco_images": sha256_file(Path(coco_images)) if coco_images else None,
        "image_files": {kind: str(folder) for kind, folder in folders.items()},
    }
    journal = Journal(out, header) if out is not None else None
    if journal and resume:
        journal.resume(names)
        for record in journal.records():
            summary.count(record)
            on_record(record)
        if say is not None:
            say(f"{journal.done} of {len(names)} images were done before")

    done = journal.done if journal else 0
    items = _items(listing, names[done:], ids, known)
    results = predictor.stream(items, partial(write_image_files, folders), own_names)
    records = (result.to_dict() for result in results)
    with progress(len(names), done) as step:
        for record in journal.keep(records) if journal else records:
            summary.count(record)
            on_record(record)
            step()
    if out is None or journal is None:
        return summary
    info = {
        "description": f"Boxes by {predictor.engine.map_title} (weakly supervised object localization)",
        "version": f"fam {version('famcli')}",
        "model": str(model),
        **used,
        "threshold": predictor.tau,
    }
    num_parts = predictor.engine.num_parts if settings.parts else 0
    polygons = segmentation == "polygons"
    run = Run(listing, class_names, ids, info, num_parts, polygons, all_categories)
    write_results(chosen, journal.records, run, out)
    journal.path.unlink()
    return summary


def _with_needs(settings: Settings, rows: Sequence[Output], segmentation: str | None) -> Settings:
    """The settings, with what the files of the images and the results need."""
    masks = settings.masks or segmentation is not None or any(row.mask for row in rows)
    return replace(settings, masks=masks, photos=settings.photos or any(row.photo for row in rows))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make the folder '{folder}': {error.strerror or error}") from error


def _items(
    listing: Listing, names: Sequence[str], ids: CocoIds, known: Mapping[str, int | None] | None
) -> Iterator[Item]:
    """The images of these names, those without an id or a label refused."""
    for name in names:
        refused = None
        if name not in ids.images:
            refused = "not among the images of the --coco-images file"
        elif known is not None and name not in known:
            refused = "no label was given for it"
        yield Item(name, listing.path(name), known.get(name) if known else None, refused)


def _given_classes(
    label: str | None, labels: str | None, listing: Listing, predictor: Predictor, summary: Summary
) -> tuple[dict[str, int | None] | None, tuple[str, ...]]:
    """The class index of images by name, if classes are given, and the names of one's own that they count among.

    The summary gets the remarks on them.
    """
    if label is not None and labels is not None:
        raise ConfigError("--label is one class for all images and --labels one for each: give one of the two")
    if label is not None:
        texts = dict.fromkeys(listing.names, label)
    elif labels is not None:
        texts = read_labels(labels, listing.names, listing.root)
    else:
        return None, ()
    here = set(listing.names)
    if absent := [name for name in texts if name not in here]:
        entries = "entries" if len(absent) > 1 else "entry"
        summary.remarks.append(f"{len(absent)} {entries} of '{labels}' not among the images ({listed(absent)})")
    texts = {name: text for name, text in texts.items() if name in here}
    conditional = predictor.engine.class_conditional
    classes = Classes.from_texts(texts.values(), predictor.class_names, conditional=conditional)
    if remark := classes.remark():
        summary.remarks.append(remark)
    return {name: classes.find(text) for name, text in texts.items()}, classes.own

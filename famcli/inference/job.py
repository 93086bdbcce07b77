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

from famcli.data.listing import STDIN, list_images
from famcli.hub import find_model
from famcli.inference.engine import open_engine
from famcli.inference.journal import Journal
from famcli.inference.labels import read_labels
from famcli.inference.predictor import Predictor, Settings
from famcli.outputs import (
    FORMATS,
    IMAGE_FILES,
    Run,
    check_out,
    check_segmentation,
    choose_format,
    find_output,
    write_image_files,
    write_results,
)
from famcli.outputs.coco import CocoIds
from famcli.outputs.prediction import Failure, Item, Record, to_record
from famcli_models.checkpoint import DEFAULT_MODEL, WEIGHTS_FILE
from famcli_models.errors import DataError
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

    def count(self, record: Record) -> None:
        """Add one record."""
        if "error" in record:
            self.failures.append(Failure(record["file_name"], record["error"]))
            return
        self.images += 1
        self.boxes += len(record["boxes"])
        self.empty += not record["boxes"]


def predict_files(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    model: str | Path = DEFAULT_MODEL,
    method: str | None = None,
    device: str = "auto",
    engine: str = "torch",
    settings: Settings | None = None,
    format: str | None = None,  # noqa: A002
    image_files: Mapping[str, str | Path] | None = None,
    labels: str | None = None,
    coco_images: str | Path | None = None,
    segmentation: str | None = None,
    all_categories: bool = False,
    resume: bool = False,
    say: Callable[[str], None] | None = None,
    progress: Progress = lambda total, done: nullcontext(lambda: None),  # noqa: ARG005
    on_records: Callable[[Iterator[Record]], object] | None = None,
    **changes: Any,
) -> Summary:
    """Predict files and write the results, whole or not at all, in the order of the files' names.

    Finished images are kept in a journal beside ``out`` until all are done. A file that cannot be read is a failure of
    its own, and the others go on.

    Args:
        inputs: Images, folders (searched recursively), glob patterns, or ``-`` for a list on standard input.
        out: The file of the results, or the folder if the format is one.
        model: A packaged name, the folder of a checkpoint, or a name on the Hugging Face Hub.
        method: See :func:`famcli_models.load_model`.
        device: See :class:`famcli.Predictor`.
        engine: Likewise.
        settings: How maps become boxes.
        format: A name in ``famcli.outputs.FORMATS``; by default the first that the suffix of ``out`` is of.
        image_files: A folder for each kind of ``famcli.outputs.IMAGE_FILES`` that every image gets.
        labels: Known classes: ``folder``, the path of a file of lines ``image,class``, or one class for all images.
        coco_images: A COCO file to take image and category ids from.
        segmentation: Form of the masks in the results, ``rle`` or ``polygons``, if the format has a place for it.
        all_categories: List the categories that do not occur too.
        resume: Go on with an interrupted run of the same arguments.
        say: Called with a sentence on what is downloaded, and on what was done before.
        progress: Given the number of images and how many were done before, a context that gives a function to call
            after each image.
        on_records: Called with all records when every image is done, before the results are written.
        **changes: Fields of ``settings`` to change, for example ``max_boxes=3``.

    Raises:
        FamError: An argument cannot be used, there are no images, or the disk refuses.
    """
    out = Path(out)
    format = choose_format(format, out)  # noqa: A001
    chosen = FORMATS[format]
    folders = {kind: Path(folder) for kind, folder in (image_files or {}).items()}
    rows = [find_output("image file", kind, IMAGE_FILES) for kind in folders]
    settings = replace(settings or Settings(), **changes)
    if segmentation is not None:
        check_segmentation(segmentation, format)
    settings = replace(settings, masks=settings.masks or segmentation is not None or any(row.mask for row in rows))
    given = [str(item) for item in ([inputs] if isinstance(inputs, (str, Path)) else inputs)]
    listing = list_images(given, sys.stdin if STDIN in given else (), [*folders.values(), out])
    check_out(out, chosen, listing)
    for folder in folders.values():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"cannot make the folder '{folder}': {error.strerror or error}") from error

    checkpoint = find_model(str(model), say)
    predictor = Predictor(open_engine(checkpoint, method, device, amp=settings.amp, name=engine), settings=settings)
    names, class_names = listing.names, predictor.class_names
    ids = CocoIds.from_file(Path(coco_images), class_names) if coco_images else CocoIds.numbered(names, class_names)
    known = read_labels(labels, names, class_names, listing.root) if labels else None
    used = {"model_sha256": sha256_file(checkpoint / WEIGHTS_FILE), "method": predictor.config.method}
    header = {
        **{name: value for name, value in asdict(settings).items() if name not in PACE},
        **used,
        "root": str(listing.root),
        "labels": sha256_file(Path(labels)) if labels and Path(labels).is_file() else labels,
        "coco_images": sha256_file(Path(coco_images)) if coco_images else None,
        "image_files": {kind: str(folder) for kind, folder in folders.items()},
    }
    journal, summary = Journal(out, header), Summary()
    if resume:
        journal.resume(names)
        for record in journal.records():
            summary.count(record)
        if say is not None:
            say(f"{journal.done} of {len(names)} images were done before")

    def item(name: str) -> Item:
        refused = None
        if name not in ids.images:
            refused = "not among the images of the --coco-images file"
        elif known is not None and name not in known:
            refused = "no label was given for it"
        return Item(name, listing.path(name), known.get(name) if known else None, refused)

    results = predictor.stream(map(item, names[journal.done :]), partial(write_image_files, folders))
    with progress(len(names), journal.done) as step:
        for record in journal.keep(map(to_record, results)):
            summary.count(record)
            step()
    if on_records is not None:
        on_records(journal.records())
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

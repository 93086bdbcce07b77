"""``fam predict``: parses, calls :func:`famcli.inference.job.predict_files` and prints what it did."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from famcli.cli import options
from famcli.cli.console import console
from famcli.outputs import FORMATS, IMAGE_FILES, choose_format
from famcli_models.checkpoint import DEFAULT_MODEL
from famcli_models.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    from famcli.inference.job import Summary
    from famcli.outputs.prediction import Record

SHOWN_FAILURES = 20
FORMS = ", ".join(f"{name} ({row.summary.replace('`', '')})" for name, row in FORMATS.items())
INPUT = "Images, folders (searched recursively), globs, or - for a list on stdin."
LABELS = "Known classes: 'folder', a file of lines IMAGE,CLASS, or one class for all images."
IDS = "COCO file to take image and category ids from, by file name and name."
RESUME = "Go on with an interrupted run of the same command."
ALL = "List the categories that do not occur too (coco, yolo, labelstudio, cvat)."
MASKS = f"rle or polygons in the results, or a folder for {IMAGE_FILES['masks'].summary}."
SEGMENTATIONS = ("rle", "polygons")
PARTS = "Print how much each part counts; overlays and maps of the parts too."


def _folder_of(kind: str) -> Any:
    return Option(help=f"Folder for {IMAGE_FILES[kind].summary}.")


def predict(
    inputs: Annotated[list[str], Argument(metavar="INPUT", help=INPUT)],
    out: Annotated[Path | None, Option("--out", "-o", help="Results file; stdout if not given.")] = None,
    model: options.ModelOption = DEFAULT_MODEL,
    method: options.MethodOption = None,
    format: Annotated[  # noqa: A002
        str | None, Option(metavar="NAME", help=f"Form of the results: {FORMS}.", autocompletion=lambda: list(FORMATS))
    ] = None,
    threshold: options.ThresholdOption = None,
    max_boxes: Annotated[int, Option(min=1, help="Boxes per image, largest region first.")] = 1,
    topk: Annotated[int, Option(min=1, help="Classes per box, most probable first.")] = 1,
    labels: Annotated[str | None, Option(help=LABELS)] = None,
    coco_images: Annotated[Path | None, Option(help=IDS)] = None,
    all_categories: Annotated[bool, Option("--all-categories", help=ALL)] = False,
    overlays: Annotated[Path | None, _folder_of("overlays")] = None,
    maps: Annotated[Path | None, _folder_of("maps")] = None,
    masks: Annotated[str | None, Option(metavar="FORM|FOLDER", help=MASKS)] = None,
    parts: Annotated[bool, Option("--parts", help=PARTS)] = False,
    scales: Annotated[str, Option(help="Average over these multiples of the input size, e.g. 1,1.5.")] = "1",
    flip: Annotated[bool, Option("--flip", help="Average over the mirrored image too.")] = False,
    resume: Annotated[bool, Option("--resume", help=RESUME)] = False,
    device: options.DeviceOption = "auto",
    batch_size: options.BatchSizeOption = 16,
    workers: options.WorkersOption = 2,
    amp: options.AmpOption = False,
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Find the main object in images and write its box.

    Boxes are in the pixels of the original image, EXIF orientation applied. An image that cannot be read
    is reported and the others go on (exit code 1); an image in which nothing is found has no box.

    Example: fam predict photos/ --out boxes.json --overlays overlays/
    """
    try:
        format = choose_format(format, out)  # noqa: A001
        folder = FORMATS[format].folder
    except (ConfigError, UnknownNameError) as error:
        raise typer.BadParameter(str(error), param_hint="--format") from error
    if out is None and (resume or as_json or folder):
        raise typer.BadParameter("--resume, --json and a --format that is a folder need --out")
    segmentation = masks if masks in SEGMENTATIONS else None
    pictures = Path(masks) if masks and not segmentation else None
    multiples, folders = _numbers(scales), {"overlays": overlays, "maps": maps, "masks": pictures}
    from famcli.inference.job import predict_files
    from famcli.inference.journal import SUFFIX
    from famcli.inference.predictor import Settings

    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        target = out or Path(scratch) / "stdout"
        try:
            summary = predict_files(
                inputs,
                target,
                model=model,
                method=method,
                device=device,
                settings=Settings(threshold, max_boxes, topk, multiples, flip, batch_size, workers, amp, parts=parts),
                format=format,
                image_files={name: folder for name, folder in folders.items() if folder is not None},
                labels=labels,
                coco_images=coco_images,
                segmentation=segmentation,
                all_categories=all_categories,
                resume=resume,
                say=None if console.quiet else console.say,  # a first use says what it downloads
                progress=partial(console.progress, "images"),
                on_records=_say_parts if parts else None,
            )
        except KeyboardInterrupt:
            if out and (journal := out.with_name(out.name + SUFFIX)).is_file():
                console.say(f"finished images are kept in '{journal}'; the same command with --resume goes on")
            raise
        if out is None:
            console.result_file(target)
    _report(summary, out, time.monotonic() - started, as_json)
    if summary.failures:
        raise typer.Exit(1)


def _say_parts(records: Iterator[Record]) -> None:
    """A table of the parts' weights, a line an image: names come last, so that no line waits for the longest."""
    columns: list[str] = []
    for parts, name in ((record["parts"], record["file_name"]) for record in records if "parts" in record):
        if not columns:
            columns = [*(f"part {k}" for k in range(1, len(parts["weights"]) + 1)), "mean cosine"]
            console.say(f"| {' | '.join(columns)} | image |")
            console.say(f"| {' | '.join('-' * len(column) for column in columns)} | ----- |")
        cells = ["" if value is None else f"{value:.3f}" for value in (*parts["weights"], parts["mean_cosine"])]
        aligned = " | ".join(cell.rjust(len(column)) for cell, column in zip(cells, columns, strict=True))
        console.say(f"| {aligned} | {name} |")


def _report(summary: Summary, out: Path | None, seconds: float, as_json: bool) -> None:
    failed = summary.failures
    for failure in failed[:SHOWN_FAILURES]:
        console.warn(f"{failure.name}: {failure.reason}")
    if len(failed) > SHOWN_FAILURES:
        console.warn(f"... and {len(failed) - SHOWN_FAILURES} more")
    others = {" without a box": summary.empty, " failed": len(failed)}
    more = "".join(f", {number}{what}" for what, number in others.items() if number)
    rate, where = summary.images / (seconds or 1), f" -> {out}" if out else ""
    console.say(f"{summary.images} images, {summary.boxes} boxes{more} ({rate:.1f} images/s){where}")
    if as_json:
        numbers = {"images": summary.images, "boxes": summary.boxes, "empty": summary.empty}
        listed = [{"file_name": failure.name, "reason": failure.reason} for failure in failed]
        console.result_json({"out": str(out), **numbers, "failed": listed, "seconds": round(seconds, 3)})


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        msg = f"'{text}' is not a list of numbers such as 1,1.5"
        raise typer.BadParameter(msg, param_hint="--scales") from error

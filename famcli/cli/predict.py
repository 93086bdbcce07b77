"""``fam predict``: parses, calls :func:`famcli.inference.job.predict_files` and prints what it did."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from famcli.cli import options
from famcli.cli.console import console, visible
from famcli.outputs import FORMATS, IMAGE_FILES, choose_format
from famcli_models.checkpoint import DEFAULT_MODEL
from famcli_models.errors import ConfigError, UnknownNameError
from famcli_models.files import STDOUT, is_stdout, is_stream

if TYPE_CHECKING:
    from famcli.inference.job import Summary
    from famcli.inference.ranks import Rank
    from famcli.outputs.prediction import Record

SHOWN_FAILURES = 20
SHOWN_NAME = 300  # characters of each end of a long one
FORMS = ", ".join(f"{name} ({row.summary.replace('`', '')})" for name, row in FORMATS.items())
INPUT = "Images, folders (searched recursively), tars, globs, each also as a URL, or - for a list on stdin."
LABEL = "What is in all images: a class of the model, a WordNet id, or a name of your own."
LABELS = "Likewise for each image: 'folder', or a file of lines IMAGE,CLASS."
OUT = "Results file, - for stdout; the suffix picks the format. Without it a line a box is printed."
IDS = "COCO file to take image and category ids from, by file name and name."
RESUME = "Go on with an interrupted run of the same command."
SHARD = "Predict this part of the images, from 0/N to (N-1)/N, and keep it for --join; launchers need no such option."
JOIN = "Write the results from the shards of the same command."
ALL = "List the categories that do not occur too (coco, yolo, labelstudio, cvat)."
MASKS = f"rle or polygons in the results, or a folder for {IMAGE_FILES['masks'].summary}."
SEGMENTATIONS = {form for row in FORMATS.values() for form in row.segmentations}
PARTS = "Print how much each part counts; overlays and maps of the parts too."


def _folder_of(kind: str) -> Any:
    return Option(help=f"Folder for {IMAGE_FILES[kind].summary}.", callback=options.folder)


def predict(
    inputs: Annotated[list[str], Argument(metavar="INPUT", help=INPUT)],
    out: Annotated[Path | None, Option("--out", "-o", help=OUT)] = None,
    model: options.ModelOption = DEFAULT_MODEL,
    method: options.MethodOption = None,
    format: Annotated[  # noqa: A002
        str | None, Option(metavar="NAME", help=f"Form of the results: {FORMS}.", autocompletion=lambda: list(FORMATS))
    ] = None,
    threshold: options.ThresholdOption = None,
    max_boxes: Annotated[int, Option(min=1, help="Boxes per image, largest region first.")] = 1,
    topk: Annotated[int, Option(min=1, help="Classes per box, most probable first.")] = 1,
    label: Annotated[str | None, Option(metavar="NAME", help=LABEL)] = None,
    labels: Annotated[str | None, Option(help=LABELS)] = None,
    coco_images: Annotated[Path | None, Option(help=IDS)] = None,
    all_categories: Annotated[bool, Option("--all-categories", help=ALL)] = False,
    overlays: Annotated[Path | None, _folder_of("overlays")] = None,
    maps: Annotated[Path | None, _folder_of("maps")] = None,
    masks: Annotated[str | None, Option(metavar="FORM|FOLDER", help=MASKS)] = None,
    parts: Annotated[bool, Option("--parts", help=PARTS)] = False,
    quality: options.QualityOption = "fast",
    scales: options.ScalesOption = None,
    flip: options.FlipOption = None,
    looks: options.LooksOption = None,
    resume: Annotated[bool, Option("--resume", help=RESUME)] = False,
    shard: Annotated[str | None, Option(metavar="I/N", help=SHARD)] = None,
    join: Annotated[bool, Option("--join", help=JOIN)] = False,
    device: options.DeviceOption = "auto",
    engine: options.EngineOption = "auto",
    batch_size: options.AutoBatchSizeOption = None,
    workers: options.AutoWorkersOption = None,
    amp: options.AmpOption = False,
    value_range: options.RangeOption = "auto",
    memory: options.MemoryOption = "1GiB",  # noqa: ARG001  (handled by its callback)
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Find the main object in images: a line a box, or results in a file.

    Boxes are in the pixels of the original image, EXIF orientation applied. An image that cannot be read
    is reported and the others go on (exit code 1); an image in which nothing is found has no box.

    Examples: fam predict photos/ (prints NAME  CLASS SCORE  box X0,Y0,X1,Y1), fam predict photos/ --out boxes.json
    """
    file = None if out is None or is_stream(out) else out
    rank = options.this_rank(shard)
    for wanted, option in ((resume, "--resume"), (shard, "--shard"), (join, "--join"), (rank.count > 1, str(rank))):
        if file is None and wanted:
            raise typer.BadParameter(f"{option} needs --out FILE, beside which finished images are kept")
    options.check_stdout(out or (STDOUT if format not in (None, "jsonl") else None), as_json)
    if as_json and out is None:
        format = "jsonl"  # noqa: A001
    printed = out is None and format is None
    chosen = _chosen_format(format, out, folder=file is not None)
    segmentation = masks if masks in SEGMENTATIONS else None
    pictures = Path(masks) if masks and not segmentation else None
    if printed and (all_categories or coco_images):
        what = "--all-categories and --coco-images are for results in a format"
        raise typer.BadParameter(f"{what}: give --out, or --format for standard output")
    shown_values = options.value_range(value_range)
    views = options.views(quality, scales, flip, looks)
    folders = {"overlays": overlays, "maps": maps, "masks": pictures}
    from famcli.inference.job import predict_files
    from famcli.inference.journal import journal_path
    from famcli.inference.predictor import Settings

    follows = bool(rank.launcher) and rank.index > 0  # rank 0 speaks for all
    started = time.monotonic()
    try:
        summary = predict_files(
            inputs,
            out or (None if printed else STDOUT),
            model=model,
            method=method,
            device=device,
            engine=engine,
            settings=Settings(
                threshold,
                max_boxes,
                topk,
                batch_size,
                workers,
                amp,
                parts=parts,
                value_range=shown_values,
                processes=None,
                **views,
            ),
            format=chosen,
            image_files={name: folder for name, folder in folders.items() if folder is not None},
            label=label,
            labels=labels,
            coco_images=coco_images,
            segmentation=segmentation,
            all_categories=all_categories,
            resume=resume,
            rank=rank,
            join=join,
            say=(lambda _: None) if follows else console.say,  # a first use says what it downloads
            progress=partial(console.progress, "images", hidden=follows or (printed and sys.stdout.isatty())),
            on_record=partial(_print_record, lines=printed, table=_PartsTable() if parts else None),
        )
    except KeyboardInterrupt:
        if file and (journal := journal_path(file, rank)).is_file():
            console.say(f"finished images are kept in '{journal}'; the same command with --resume goes on")
        raise
    part = rank if rank.count > 1 and not rank.joins else None
    shown = None if out is None or is_stdout(out) else out
    _report(summary, shown, time.monotonic() - started, as_json and not follows, part)
    # Launchers end all ranks when one ends with an error, and a shard of which every image was tried is done.
    if (summary.failures or summary.warnings) and part is None:
        raise typer.Exit(1)


def _print_record(record: Record, lines: bool, table: _PartsTable | None) -> None:
    """What is said of an image as soon as it is done."""
    from famcli.outputs.prediction import readable_lines

    if lines:
        for line in readable_lines(record):
            console.result(visible(line))
    if table is not None:
        table.add(record)


class _PartsTable:
    """A table of the parts' weights, a line an image: names come last, so that no line waits for the longest."""

    def __init__(self) -> None:
        self.columns: list[str] = []

    def add(self, record: Record) -> None:
        """Print the line of an image, after the head if it is the first."""
        if "parts" not in record:
            return
        parts = record["parts"]
        if not self.columns:
            self.columns = [*(f"part {k}" for k in range(1, len(parts["weights"]) + 1)), "mean cosine"]
            console.say(f"| {' | '.join(self.columns)} | image |")
            console.say(f"| {' | '.join('-' * len(column) for column in self.columns)} | ----- |")
        cells = ["" if value is None else f"{value:.3f}" for value in (*parts["weights"], parts["mean_cosine"])]
        aligned = " | ".join(cell.rjust(len(column)) for cell, column in zip(cells, self.columns, strict=True))
        console.say(f"| {aligned} | {record['file_name']} |")


def _report(summary: Summary, out: Path | None, seconds: float, as_json: bool, part: Rank | None) -> None:
    """What was done, by one of several processes or by all; rank 0 names the failures of all ranks."""
    if summary.finished_before:
        return
    failed = summary.failures
    if not (part and part.launcher):
        _report_failures(summary, None if part else out)
    remarks = [*summary.remarks, *summary.odd_files()]
    for remark in remarks if not (part and part.launcher) else ():
        console.say(remark)
    others = {
        " without a box": summary.empty,
        " failed": len(failed),
        " without all of their files": len(summary.warnings),
    }
    more = "".join(f", {number}{what}" for what, number in others.items() if number)
    who, where = f"{part}: " if part else "", f" -> {out}" if out and not part else ""
    rate = summary.images / (seconds or 1)
    console.say(
        f"{who}{summary.images} images, {summary.boxes} boxes{more} ({rate:.1f} images/s, {summary.runs_on}){where}"
    )
    if as_json and out:
        numbers = {"images": summary.images, "boxes": summary.boxes, "empty": summary.empty}
        failures, warnings = (
            [{"file_name": failure.name, "reason": failure.reason} for failure in listed]
            for listed in (failed, summary.warnings)
        )
        told = {"failed": failures, "warnings": warnings, "remarks": remarks}
        run = {"engine": summary.runs_on, **({"shard": f"{part.index}/{part.count}"} if part else {})}
        console.result_json({"out": str(out), **run, **numbers, **told, "seconds": round(seconds, 3)})


def _report_failures(summary: Summary, out: Path | None) -> None:
    """Name the first failures; if there are more, all are in a file beside the results, if these are in one."""
    from famcli.inference.job import failures_path, write_failures

    more = []
    for failures, what in ((summary.failures, "failed"), (summary.warnings, "without all of their files")):
        for failure in failures[:SHOWN_FAILURES]:
            name = visible(summary.as_typed(failure.name))
            short_name = name if len(name) <= 2 * SHOWN_NAME else f"{name[:SHOWN_NAME]}...{name[-SHOWN_NAME:]}"
            console.warn(f"{short_name}: {failure.reason}")
        if len(failures) > SHOWN_FAILURES:
            more.append(f"{len(failures) - SHOWN_FAILURES} more {what}")
    in_file = out is not None and not is_stream(out) and out.exists()
    if more and out and in_file:
        more.append(f"all are listed in '{write_failures(summary, out)}'")
    elif more:
        more.append("with --out FILE all are listed beside it")
    elif out and in_file:
        failures_path(out).unlink(missing_ok=True)  # of an earlier run
    if more:
        console.warn(f"... and {'; '.join(more)}")


def _chosen_format(name: str | None, out: Path | None, *, folder: bool) -> str:
    try:
        chosen = choose_format(name, out)
    except (ConfigError, UnknownNameError) as error:
        raise typer.BadParameter(str(error), param_hint="--format") from error
    if FORMATS[chosen].folder and not folder:
        raise typer.BadParameter(f"--format {chosen} is a folder of files and needs --out FOLDER")
    return chosen

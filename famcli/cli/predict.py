"""``fam predict``."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from famcli.cli.console import console
from famcli.cli.options import (
    AmpOption,
    BatchSizeOption,
    DeviceOption,
    JsonOption,
    MethodOption,
    ModelOption,
    QuietOption,
    ThresholdOption,
    WorkersOption,
)
from famcli.names import Format
from famcli_models.checkpoint import DEFAULT_MODEL

if TYPE_CHECKING:
    from famcli.inference.job import Job, Summary

SHOWN_FAILURES = 20


def predict(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT", help="Images, folders (searched recursively), globs, or - for a list on stdin."
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Results file; stdout if not given.")] = None,
    model: ModelOption = DEFAULT_MODEL,
    method: MethodOption = None,
    format: Annotated[Format, typer.Option(help="Form of the results.")] = Format.coco,  # noqa: A002
    threshold: ThresholdOption = None,
    max_boxes: Annotated[int, typer.Option(min=1, help="Boxes per image, largest region first.")] = 1,
    topk: Annotated[int, typer.Option(min=1, help="Classes per box, most probable first.")] = 1,
    labels: Annotated[
        str | None,
        typer.Option(help="Known classes: 'folder', a file of lines IMAGE,CLASS, or one class for all images."),
    ] = None,
    coco_images: Annotated[
        Path | None, typer.Option(help="COCO file to take image and category ids from, by file name and name.")
    ] = None,
    overlays: Annotated[Path | None, typer.Option(help="Folder for photographs with heat map, box and label.")] = None,
    maps: Annotated[Path | None, typer.Option(help="Folder for the maps (.npy, float32).")] = None,
    masks: Annotated[Path | None, typer.Option(help="Folder for masks of the boxed regions (.png).")] = None,
    parts: Annotated[
        bool, typer.Option("--parts", help="Print how much each part counts; overlays and maps of the parts too.")
    ] = False,
    scales: Annotated[str, typer.Option(help="Average over these multiples of the input size, e.g. 1,1.5.")] = "1",
    flip: Annotated[bool, typer.Option("--flip", help="Average over the mirrored image too.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run of the same command.")
    ] = False,
    device: DeviceOption = "auto",
    batch_size: BatchSizeOption = 16,
    workers: WorkersOption = 2,
    amp: AmpOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Find the main object in images and write its box.

    Boxes are in the pixels of the original image, EXIF orientation applied. An image that cannot be read
    is reported and the others go on (exit code 1); an image in which nothing is found has no box.

    Example: fam predict photos/ --out boxes.json --overlays overlays/
    """
    if out is None and (resume or as_json):
        raise typer.BadParameter("--resume and --json need --out")  # noqa: EM101, TRY003
    from famcli.data.listing import STDIN, list_images
    from famcli.hub import find_model
    from famcli.inference.job import PARTIAL, SideFiles, prepare, refuse_output
    from famcli.inference.predictor import Settings

    side = SideFiles(overlays, maps, masks)
    listing = list_images(inputs, sys.stdin if STDIN in inputs else (), side.folders())
    if out is not None:
        refuse_output(out, listing)
    settings = Settings(
        threshold, max_boxes, topk, _numbers(scales), flip, batch_size, workers, amp, masks is not None, parts
    )
    folder = find_model(model, None if console.quiet else console.say)  # a first use says what it downloads
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        spool_path = out.with_name(out.name + PARTIAL) if out else Path(scratch) / "stdout"
        job = prepare(listing, spool_path, model, device, settings, side, labels, coco_images, method, folder)
        if resume:
            job.spool.resume(listing.names)
            console.say(f"{job.spool.done} of {len(listing.names)} images were done before")
        try:
            with console.progress("images", len(listing.names), job.spool.done) as step:
                summary = job.run(step)
        except KeyboardInterrupt:
            if out:
                console.say(f"finished images are kept in '{spool_path}'; the same command with --resume goes on")
            raise
        if parts:
            _say_parts(job)
        if out is None:
            console.pieces(job.output(format))
        else:
            job.write(out, format)
    _report(summary, out, time.monotonic() - started, as_json)
    if summary.failures:
        raise typer.Exit(1)


def _say_parts(job: Job) -> None:
    """A table of the parts' weights, a line an image: names come last, so that no line waits for the longest."""
    columns = [*(f"part {k}" for k in range(1, job.num_parts + 1)), "mean cosine"]
    console.say(f"| {' | '.join(columns)} | image |")
    console.say(f"| {' | '.join('-' * len(column) for column in columns)} | ----- |")
    for record in job.spool.records():
        if "parts" in record:
            cosine = record["parts"]["mean_cosine"]
            cells = [f"{weight:.3f}" for weight in record["parts"]["weights"]] + [
                "" if cosine is None else f"{cosine:.3f}"
            ]
            aligned = " | ".join(cell.rjust(len(column)) for cell, column in zip(cells, columns, strict=True))
            console.say(f"| {aligned} | {record['file_name']} |")


def _report(summary: Summary, out: Path | None, seconds: float, as_json: bool) -> None:
    failures = summary.failures
    for failure in failures[:SHOWN_FAILURES]:
        console.warn(f"{failure.name}: {failure.reason}")
    if len(failures) > SHOWN_FAILURES:
        console.warn(f"... and {len(failures) - SHOWN_FAILURES} more")
    rate = summary.images / seconds if seconds else 0.0
    empty = f", {summary.empty} without a box" if summary.empty else ""
    failed = f", {len(failures)} failed" if failures else ""
    where = f" -> {out}" if out else ""
    console.say(f"{summary.images} images, {summary.boxes} boxes{empty}{failed} ({rate:.1f} images/s){where}")
    if as_json:
        console.result_json(
            {
                "out": str(out),
                "images": summary.images,
                "boxes": summary.boxes,
                "empty": summary.empty,
                "failed": [{"file_name": f.name, "reason": f.reason} for f in failures],
                "seconds": round(seconds, 3),
            }
        )


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        msg = f"'{text}' is not a list of numbers such as 1,1.5"
        raise typer.BadParameter(msg, param_hint="--scales") from error

"""``fam report``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from famcli.cli import completion
from famcli.cli.compare import BaselineOption, GroupOption, folders_by_name
from famcli.cli.console import console
from famcli.cli.options import MOST_WORKERS, DeviceOption, QuietOption
from famcli_models.files import is_stdout, is_stream
from famcli_models.locks import only_writer

if TYPE_CHECKING:
    from famcli.report.page import Written

REPORT, COMPARISON = "report.html", "compare.html"

_RESULTS = "Folders that fam eval --out wrote; several of the same images are compared on one page."
_OUT = f"HTML file, {REPORT} in the results folder or {COMPARISON} here if not given; an existing one is replaced."
_IMAGES = "Where the photos are now, by name, if they have moved since."
_GALLERY = "Show at most N images: the best, the worst and random ones of 5000, or the 48 that several differ on most."
_MODEL = "Where the model is now, for its parts, if not where it was."


def report(
    results: Annotated[list[Path], typer.Argument(metavar="RESULTS_DIR...", help=_RESULTS)],
    out: Annotated[Path | None, Option("--out", "-o", metavar="FILE", help=_OUT)] = None,
    images: Annotated[Path | None, Option(metavar="DIR", help=_IMAGES)] = None,
    gallery: Annotated[int | None, Option(min=1, metavar="N", help=_GALLERY)] = None,
    group: GroupOption = None,
    baseline: BaselineOption = None,
    seed: Annotated[int, Option(min=0, help="Of the random images.")] = 0,
    no_parts: Annotated[bool, Option("--no-parts", help="Do not run the model for maps of its parts.")] = False,
    model: Annotated[
        str | None, Option("--model", "-m", metavar="MODEL", help=_MODEL, autocompletion=completion.models)
    ] = None,
    device: DeviceOption = "auto",
    workers: Annotated[int, Option(min=1, max=MOST_WORKERS, help="Threads that read photos.")] = 2,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Show an evaluation as one HTML file that needs no network: images, curves, errors, classes.

    Several folders give one page: their table and differences as fam compare has them, their curves together, and the
    images on which they differ most, with every method's box.

    Examples: fam report results/, fam report cam/ fam/ mine/ --baseline CAM
    """
    from famcli.report.page import GALLERY, write_report
    from famcli.results.io import read_results

    if no_parts and model is not None:
        raise typer.BadParameter("--model is for the parts, which --no-parts leaves out: give one of them")
    groups = folders_by_name(group or ())
    if len(results) > 1 or groups:
        if model is not None:
            raise typer.BadParameter("--model is for the parts of one model: give one folder")
        _report_several(results, out or Path(COMPARISON), groups, baseline, gallery, images)
        return
    if baseline is not None:
        raise typer.BadParameter("--baseline compares several folders, and there is one")
    card, folder = read_results(results[0]), results[0] if results[0].is_dir() else results[0].parent
    file, gallery = out or folder / REPORT, gallery or GALLERY
    _check(file, folder)
    with only_writer(file), console.progress("images", min(gallery, card.data["images"])) as step:
        written = write_report(
            card,
            folder,
            file,
            gallery=gallery,
            images=images,
            seed=seed,
            parts=not no_parts,
            model=model,
            device=device,
            workers=workers,
            on_image=step,
        )
    _say(written, file)


def _report_several(
    folders: Sequence[Path],
    file: Path,
    groups: Mapping[str, Sequence[Path]],
    baseline: str | None,
    gallery: int | None,
    images: Path | None,
) -> None:
    from famcli.report.comparison import GALLERY, write_comparison_report

    for folder in (*folders, *(folder for of in groups.values() for folder in of)):
        _check(file, folder if folder.is_dir() else folder.parent)
    most = gallery or GALLERY
    with only_writer(file), console.progress("images", most) as step:
        written = write_comparison_report(
            folders, file, groups=groups, baseline=baseline, gallery=most, images=images, on_image=step
        )
    _say(written, file)


def _say(written: Written, file: Path) -> None:
    for photo, reason in written.missing[:5]:
        console.warn(f"{photo}: {reason}")
    if written.missing:
        console.warn(f"{len(written.missing)} of {written.shown} photos cannot be read and are blank in the report")
    size = "" if is_stream(file) else f", {file.stat().st_size / 1e6:.1f} MB"
    console.say(f"{written.shown} of {written.scored} images{size}")
    if not is_stdout(file):
        console.result(str(file))


def _check(file: Path, folder: Path) -> None:
    """Refuse a target that is none, or that the report is made of, before any work is done."""
    from famcli.results.io import IMAGES_NAME, JSON_NAME, MARKDOWN_NAME
    from famcli_models.errors import DataError

    if is_stream(file):
        return
    if file.exists() and not file.is_file():
        raise DataError(f"'{file}' is not a file that can be written; choose another --out, such as {folder / REPORT}")
    for name in (JSON_NAME, MARKDOWN_NAME, IMAGES_NAME):
        if file.exists() and (folder / name).exists() and file.samefile(folder / name):
            raise DataError(f"'{file}' is part of the results; choose another --out, such as {folder / REPORT}")
    if not file.parent.is_dir():
        raise DataError(
            f"there is no folder '{file.parent}' to write '{file.name}' to; make it or choose another --out"
        )

"""``fam report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from famcli.cli.console import console
from famcli.cli.options import DeviceOption, QuietOption

REPORT = "report.html"

_OUT = f"HTML file to write, {REPORT} in the results folder if not given; an existing one is replaced."
_IMAGES = "Where the photos are now, by name, if they have moved since."
_GALLERY = "Show at most N images; of more, the best, the worst and random ones."
_MODEL = "Where the model is now, for its parts, if not where it was."


def report(
    results: Annotated[Path, typer.Argument(metavar="RESULTS_DIR", help="Folder that fam eval --out wrote.")],
    out: Annotated[Path | None, Option("--out", "-o", metavar="FILE", help=_OUT)] = None,
    images: Annotated[Path | None, Option(metavar="DIR", help=_IMAGES)] = None,
    gallery: Annotated[int, Option(min=1, metavar="N", help=_GALLERY)] = 5000,  # so many stay below 25 MB
    seed: Annotated[int, Option(min=0, help="Of the random images.")] = 0,
    no_parts: Annotated[bool, Option("--no-parts", help="Do not run the model for maps of its parts.")] = False,
    model: Annotated[str | None, Option("--model", "-m", metavar="MODEL", help=_MODEL)] = None,
    device: DeviceOption = "auto",
    workers: Annotated[int, Option(min=1, help="Threads that read photos.")] = 2,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Show an evaluation as one HTML file that needs no network: images, curves, errors, classes.

    Example: fam report results/
    """
    from famcli.report.page import write_report
    from famcli.results.io import read_results

    if no_parts and model is not None:
        raise typer.BadParameter("--model is for the parts, which --no-parts leaves out: give one of them")
    card, folder = read_results(results), results if results.is_dir() else results.parent
    file = out or folder / REPORT
    _check(file, folder)
    with console.progress("images", min(gallery, card.data["images"])) as step:
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
    for photo, reason in written.missing[:5]:
        console.warn(f"{photo}: {reason}")
    if written.missing:
        console.warn(f"{len(written.missing)} of {written.shown} photos cannot be read and are blank in the report")
    console.say(f"{written.shown} of {written.scored} images, {file.stat().st_size / 1e6:.1f} MB")
    console.result(str(file))


def _check(file: Path, folder: Path) -> None:
    """Refuse a target that is none, or that the report is made of, before any work is done."""
    from famcli.results.io import IMAGES_NAME, JSON_NAME, MARKDOWN_NAME
    from famcli_models.errors import DataError

    if file.exists() and not file.is_file():
        raise DataError(f"'{file}' is not a file that can be written; choose another --out, such as {folder / REPORT}")
    for name in (JSON_NAME, MARKDOWN_NAME, IMAGES_NAME):
        if file.exists() and (folder / name).exists() and file.samefile(folder / name):
            raise DataError(f"'{file}' is part of the results; choose another --out, such as {folder / REPORT}")
    if not file.parent.is_dir():
        raise DataError(
            f"there is no folder '{file.parent}' to write '{file.name}' to; make it or choose another --out"
        )

"""``fam data check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from famcli.cli.console import console
from famcli.cli.options import JsonOption, QuietOption

COLUMNS = ("", "problem", "split", "count", "first examples")


def check(
    data: Annotated[str, typer.Argument(metavar="NAME|PATH", help="Prepared dataset, or own data in any form.")],
    split: Annotated[list[str] | None, typer.Option(help="Split to look at; repeatable. All if not given.")] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder that the image names of own data are relative to.")
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Read the headers of images alone, and do not compare their bytes.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Threads that read images.")] = 2,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Look for whatever is wrong with a dataset; exit code 1 if anything is.

    Images that are missing or unreadable or listed twice, boxes outside them, labels out of range, sizes and numbers
    that disagree, splits that share pictures, tested classes that are never trained.

    Example: fam data check cub
    """
    from dataclasses import asdict

    from famcli.data.check import check as run
    from famcli.data.dataset import open_dataset

    dataset = open_dataset(data, images)
    for remark in dataset.remarks:
        console.say(remark)
    looked = 0

    with console.progress("images", dataset.count(split or ())) as step:

        def on_image() -> None:
            nonlocal looked
            looked += 1
            step()

        findings = run(dataset, split or (), fast=fast, workers=workers, on_image=on_image)
    wrong = [finding for finding in findings if finding.wrong]
    if as_json:
        result = {"dataset": dataset.name, "images": looked, "ok": not wrong}
        console.result_json({**result, "findings": [asdict(finding) for finding in findings]})
    elif findings:
        console.table(
            COLUMNS,
            [
                ["wrong" if f.wrong else "note", f.problem, f.split, f"{f.count:,}", _cell("; ".join(f.examples))]
                for f in findings
            ],
        )
    kinds = f"{len(wrong)} {'problem' if len(wrong) == 1 else 'problems'}" if wrong else "nothing is wrong"
    console.say(f"{dataset.name}: {looked:,} images, {kinds}")
    if wrong:
        raise typer.Exit(1)


def _cell(text: str) -> str:
    """A file name may hold a line break or a bar; neither may break the table."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text).replace("|", "\\|")

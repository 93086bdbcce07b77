"""``fam data convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from famcli.cli.console import console
from famcli.cli.options import JsonOption, QuietOption


def convert(
    source: Annotated[str, typer.Argument(metavar="NAME|PATH", help="Prepared dataset, or own data in any form.")],
    to: Annotated[Literal["coco", "wsol"], typer.Option(help="COCO files, or wsolevaluation metadata.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to; for one split, a .json file too.")],
    split: Annotated[list[str] | None, typer.Option(help="Split to write; repeatable. All if not given.")] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder that the image names of own data are relative to.")
    ] = None,
    rounded: Annotated[
        bool, typer.Option("--round", help="Round boxes to the whole pixels that wsolevaluation metadata holds.")
    ] = False,
    exist_ok: Annotated[bool, typer.Option("--exist-ok", help="Replace files that exist.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Write a dataset's labels and boxes as COCO or as wsolevaluation metadata; images stay where they are.

    Example: fam data convert birds --to coco --out birds/annotations
    """
    from famcli.data.convert import to_coco, to_wsol
    from famcli.data.dataset import open_dataset

    dataset = open_dataset(source, images)
    for remark in dataset.remarks:
        console.say(remark)
    if to == "coco":
        written = to_coco(dataset, out, split or (), exist_ok=exist_ok)
    else:
        written = to_wsol(dataset, out, split or (), rounded=rounded, exist_ok=exist_ok)
    if as_json:
        console.result_json({"dataset": dataset.name, "written": [str(path) for path in written]})
        return
    for path in written:
        console.result(str(path))

"""``fam data info``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from famcli.cli.console import console
from famcli.cli.options import JsonOption, QuietOption

COLUMNS = ("split", "images", "classes", "images a class", "boxes", "without box", "several boxes", "width x height")


def info(
    data: Annotated[str, typer.Argument(metavar="NAME|PATH", help="Prepared dataset, or own data in any form.")],
    images: Annotated[
        Path | None, typer.Option(help="Folder that the image names of own data are relative to.")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Say what a dataset holds: splits, images, classes, boxes, sizes, terms, and where it is.

    Example: fam data info cub
    """
    from dataclasses import asdict

    from famcli.data.dataset import open_dataset
    from famcli.data.summary import Summary

    dataset = open_dataset(data, images)
    summaries = [
        Summary.of(split, dataset.samples(split, with_boxes=True, boxes_optional=True)) for split in dataset.splits()
    ]
    about: dict[str, Any] = {
        "name": dataset.name,
        "where": str(dataset.root),
        "images": str(dataset.images),
        "classes": len(dataset.class_names),
        "train-fullsup from": dataset.fullsup,
        **{key: value for key, value in dataset.facts.items() if key != "counts"},
    }
    if as_json:
        console.result_json({**about, "splits": [asdict(summary) for summary in summaries]})
        return
    about["classes"] = len(dataset.class_names) or "without names"
    for key, value in about.items():
        if value and not isinstance(value, (dict, list)):
            console.result(f"{key + ':':20}{value}")
    for remark in dataset.remarks:
        console.say(remark)
    console.result("")
    console.table(COLUMNS, [_row(summary) for summary in summaries])


def _row(summary: Any) -> list[str]:
    fewest, most = summary.fewest[1], summary.most[1]
    sizes = [hw for hw in (summary.smallest_hw, summary.median_hw, summary.largest_hw) if hw]
    unique = list(dict.fromkeys(f"{w}x{h}" for h, w in sizes))
    return [
        summary.split,
        f"{summary.images:,}",
        f"{summary.classes:,}",
        f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}",
        f"{summary.boxes:,}",
        f"{summary.without_boxes:,}",
        f"{summary.several_boxes:g} %",
        ", ".join(unique) or "not stated",
    ]

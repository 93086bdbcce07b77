"""``fam data check``, ``info`` and ``convert``: commands on a dataset that is there."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from famcli.cli import completion
from famcli.cli.console import console
from famcli.cli.options import MOST_WORKERS, JsonOption, QuietOption, check_stdout, folder

if TYPE_CHECKING:
    from famcli.data.dataset import Dataset

_DATA = "Prepared dataset, or own data in any form."
DataArgument = Annotated[str, typer.Argument(metavar="NAME|PATH", help=_DATA, autocompletion=completion.datasets)]
ImagesOption = Annotated[Path | None, typer.Option(help="Folder that the image names of own data are relative to.")]
FINDING_COLUMNS = ("", "problem", "split", "count", "first examples")
SUMMARY = "split, images, classes, images a class, boxes, without box, several boxes, width x height"


def _opened(data: str, images: Path | None) -> Dataset:
    """A dataset, and on stderr what was left out when it was opened."""
    from famcli.data.dataset import open_dataset

    dataset = open_dataset(data, images)
    for remark in dataset.remarks:
        console.say(remark)
    return dataset


def check(
    data: DataArgument,
    split: Annotated[list[str] | None, typer.Option(help="Split to look at; repeatable. All if not given.")] = None,
    images: ImagesOption = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Read the headers of images alone, and do not compare their bytes.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, max=MOST_WORKERS, help="Threads that read images.")] = 2,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Look for whatever is wrong with a dataset; exit code 1 if anything is.

    Images that are missing or unreadable or listed twice, boxes outside them, labels out of range, sizes and numbers
    that disagree, splits that share pictures, tested classes that are never trained.

    Example: fam data check cub
    """
    from famcli.data.check import check as run
    from famcli_models.errors import short

    dataset = _opened(data, images)
    checked = 0

    def on_image() -> None:
        nonlocal checked
        checked += 1
        step()

    with console.progress("images", dataset.count(split or ())) as step:
        findings = run(dataset, split or (), fast=fast, workers=workers, on_image=on_image)
    wrong = sum(finding.wrong for finding in findings)
    if as_json:
        result = {"dataset": dataset.name, "images": checked, "ok": not wrong}
        console.result_json({**result, "findings": [asdict(finding) for finding in findings]})
    elif findings:
        rows = []
        for f in findings:
            examples = "; ".join(f.examples)  # a file name may hold a line break or a bar; neither may break the table
            cell = short(examples, len(examples)).replace("|", "\\|")
            rows.append(["wrong" if f.wrong else "note", f.problem, f.split, f"{f.count:,}", cell])
        console.table(FINDING_COLUMNS, rows)
    kinds = f"{wrong} {'problem' if wrong == 1 else 'problems'}" if wrong else "nothing is wrong"
    (console.warn if wrong else console.say)(f"{dataset.name}: {checked:,} images, {kinds}")
    if wrong:
        raise typer.Exit(1)


def info(
    data: DataArgument,
    images: ImagesOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Say what a dataset holds: splits, images, classes, boxes, sizes, terms, and where it is.

    Example: fam data info cub
    """
    from famcli.data.check import summary

    dataset = _opened(data, images)
    read = partial(dataset.samples, with_boxes=True, boxes_optional=True, checked=False)
    summaries = [summary(split, read(split)) for split in dataset.splits()]
    about: dict[str, Any] = {
        "name": dataset.name,
        "where": str(dataset.root),
        "images": str(dataset.images),
        "classes": len(dataset.class_names),
        "train-fullsup from": dataset.fullsup,
        **{key: value for key, value in dataset.facts.items() if key != "counts"},
    }
    if as_json:
        console.result_json({**about, "splits": summaries})
        return
    about["classes"] = len(dataset.class_names) or "without names"
    for key, value in about.items():
        if value and not isinstance(value, (dict, list)):
            console.result(f"{key + ':':20}{value}")
    console.result("")
    rows = []
    for row in summaries:
        a_class = " to ".join(dict.fromkeys(f"{row[key][1]:,}" for key in ("fewest", "most")))
        hws = (row["smallest_hw"], row["median_hw"], row["largest_hw"])
        sizes = ", ".join(dict.fromkeys(f"{hw[1]}x{hw[0]}" for hw in hws if hw)) or "not stated"
        several = f"{row['several_boxes']:g} %"
        images_, classes, boxes, without = (f"{row[k]:,}" for k in ("images", "classes", "boxes", "without_boxes"))
        rows.append([row["split"], images_, classes, a_class, boxes, without, several, sizes])
    console.table(SUMMARY.split(", "), rows)


def convert(
    source: DataArgument,
    to: Annotated[Literal["coco", "wsol"], typer.Option(help="COCO files, or wsolevaluation metadata.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to; for one split a .json file or - too.")],
    split: Annotated[list[str] | None, typer.Option(help="Split to write; repeatable. All if not given.")] = None,
    images: ImagesOption = None,
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
    from famcli.data.dataset import DATASET_FILE
    from famcli_models.files import is_stdout, is_stream
    from famcli_models.locks import only_writer

    check_stdout(out, as_json)
    if to == "wsol":
        folder(out)
    dataset = _opened(source, images)
    write = to_coco if to == "coco" else partial(to_wsol, rounded=rounded)
    with only_writer(out if out.suffix.lower() == ".json" or is_stream(out) else out / DATASET_FILE):
        written = write(dataset, out, split or (), exist_ok=exist_ok)
    if as_json:
        console.result_json({"dataset": dataset.name, "written": [str(path) for path in written]})
        return
    for path in written:
        if not is_stdout(path):
            console.result(str(path))

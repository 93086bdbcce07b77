"""``fam eval``."""

from __future__ import annotations

from typing import Annotated

import typer

from famcli.cli.console import console
from famcli.cli.options import BatchSizeOption, DeviceOption, JsonOption, ModelOption, QuietOption, WorkersOption
from famcli.names import DEFAULT_MODEL

COLUMNS = (
    "method",
    "τ",
    "GT-known",
    "Top-1 Loc",
    "Top-5 Loc",
    "Top-1 Cls",
    "Top-5 Cls",
    "mean IoU",
    "no box",
)


def evaluate(
    data: Annotated[
        str, typer.Option("--data", metavar="NAME|PATH", help="Prepared dataset, or own data in any form.")
    ],
    split: Annotated[str, typer.Option(help="Split to evaluate.")] = "test",
    model: ModelOption = DEFAULT_MODEL,
    other_classes: Annotated[
        bool, typer.Option("--other-classes", help="The labels are not the model's classes: score boxes alone.")
    ] = False,
    device: DeviceOption = "auto",
    batch_size: BatchSizeOption = 32,
    workers: WorkersOption = 2,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Measure localization beside CAM, a centre box and the whole image.

    Example: fam eval --data ilsvrc-val-mini --split test
    """
    from dataclasses import asdict

    from famcli.data.dataset import open_dataset
    from famcli.evaluate import evaluate as run
    from famcli.hub import find_model
    from famcli_models.fam import FAM

    dataset = open_dataset(data)
    for remark in dataset.remarks:
        console.say(remark)
    samples = dataset.samples(split, with_boxes=True)
    fam = FAM.from_pretrained(find_model(model))
    with console.progress("images", len(samples)) as step:
        rows = run(fam, samples, device, batch_size, workers, step, not other_classes)
    if as_json:
        result = {"model": model, "data": dataset.name, "split": split, "images": len(samples)}
        console.result_json({**result, "rows": [asdict(row) for row in rows]})
        return
    cells = [
        [
            row.method,
            "" if row.tau is None else f"{row.tau:g} ({row.tau_from})",
            *("" if v is None else f"{v:.1f}" for v in (row.gt_known, row.top1_loc, row.top5_loc)),
            *("" if v is None else f"{v:.1f}" for v in (row.top1_cls, row.top5_cls, row.mean_iou, row.empty)),
        ]
        for row in rows
    ]
    console.say(f"{model} on {dataset.name}/{split}, {len(samples)} images, percent")
    console.table(COLUMNS, cells)
    if any(row.tau_from == "oracle" for row in rows):
        console.say("oracle: the threshold was chosen on these very images, which flatters the row")

"""``fam eval``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from famcli.cli.console import console
from famcli.cli.options import BatchSizeOption, DeviceOption, JsonOption, ModelOption, QuietOption
from famcli.names import DEFAULT_MODEL

if TYPE_CHECKING:
    from famcli.boxaccuracy import BoxAccuracy
    from famcli.data.dataset import Dataset
    from famcli.data.sample import Sample

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
VERSIONS = {"wsoleval-v1": 1, "wsoleval-v2": 2}  # protocols over maps
OVER_MAPS = " or ".join(VERSIONS)


def evaluate(
    context: typer.Context,
    data: Annotated[
        str, typer.Option("--data", metavar="NAME|PATH", help="Prepared dataset, or own data in any form.")
    ],
    split: Annotated[str, typer.Option(help="Split to evaluate.")] = "test",
    model: ModelOption = DEFAULT_MODEL,
    maps: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Score maps of another tool instead of a model: <image id>.npy, as wsolevaluation's."
        ),
    ] = None,
    protocol: Annotated[str, typer.Option(metavar="NAME", help=f"Rules of the numbers: fam, {OVER_MAPS}.")] = "fam",
    interval: Annotated[
        float, typer.Option(help="From one threshold to the next, of protocols that try many.")
    ] = 0.001,
    other_classes: Annotated[
        bool, typer.Option("--other-classes", help="The labels are not the model's classes: score boxes alone.")
    ] = False,
    device: DeviceOption = "auto",
    batch_size: BatchSizeOption = 32,
    workers: Annotated[int, typer.Option(min=1, help="Threads that decode images.")] = 2,
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that try thresholds; all cores if not given.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Measure localization beside CAM, a centre box and the whole image, or by another protocol.

    Example: fam eval --data ilsvrc-val-mini --split test
    """
    from famcli.data.dataset import open_dataset
    from famcli.protocols import find_protocol

    find_protocol(protocol)
    if maps and protocol not in VERSIONS:
        msg = f"maps are scored at many thresholds: --maps needs --protocol {OVER_MAPS}"
        raise typer.BadParameter(msg)
    if maps and _given(context, "model"):
        msg = "give a model or maps, not both"
        raise typer.BadParameter(msg)
    dataset = open_dataset(data)
    for remark in dataset.remarks:
        console.say(remark)
    samples = dataset.samples(split, with_boxes=True)
    if protocol not in VERSIONS:
        _fam(dataset, split, samples, model, not other_classes, device, batch_size, workers, as_json)
        return

    from famcli.boxaccuracy import SIDE
    from famcli.mapscores import count, from_folder

    if maps:
        images = from_folder(maps, samples)
    else:
        from famcli.evaluate import foreground_maps
        from famcli.hub import find_model
        from famcli_models.fam import FAM

        fam = FAM.from_pretrained(find_model(model, None if console.quiet else console.say))
        if fam.config.size != SIDE:
            console.say(
                f"the model's input is {fam.config.size} pixels, the protocol's is {SIDE}: say so with the number"
            )
        images = foreground_maps(fam, samples, device, batch_size, workers)
    with console.progress("images", len(samples)) as step:
        accuracy = count(images, interval, processes, step).accuracy(VERSIONS[protocol])
    of = {"maps": str(maps)} if maps else {"model": model}
    _print_maps(of, dataset.name, split, protocol, interval, accuracy, as_json)


def _given(context: typer.Context, parameter: str) -> bool:
    source = context.get_parameter_source(parameter)
    return source is not None and source.name == "COMMANDLINE"


def _fam(
    dataset: Dataset,
    split: str,
    samples: list[Sample],
    model: str,
    same_classes: bool,
    device: str,
    batch_size: int,
    workers: int,
    as_json: bool,
) -> None:
    """The paper's protocol, with its rivals."""
    from dataclasses import asdict

    from famcli.evaluate import evaluate as run
    from famcli.hub import find_model
    from famcli_models.fam import FAM

    fam = FAM.from_pretrained(find_model(model, None if console.quiet else console.say))
    with console.progress("images", len(samples)) as step:
        rows = run(fam, samples, device, batch_size, workers, step, same_classes)
    if as_json:
        result = {"model": model, "protocol": "fam", "data": dataset.name, "split": split, "images": len(samples)}
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


def _print_maps(
    of: dict[str, str], data: str, split: str, protocol: str, interval: float, accuracy: BoxAccuracy, as_json: bool
) -> None:
    """MaxBoxAcc or MaxBoxAccV2, with all that a reader needs to compare it."""
    from dataclasses import asdict
    from importlib.metadata import version

    from famcli.boxaccuracy import V1_DELTA
    from famcli.protocols import PROTOCOLS

    rules = PROTOCOLS[protocol]
    if as_json:
        scores = asdict(accuracy)
        del scores["version"], scores["images"]
        programs = {name: version(name) for name in ("famcli", "numpy", "opencv-python-headless")}
        result: dict[str, Any] = {**of, "data": data, "split": split, "images": accuracy.images, "protocol": protocol}
        result |= {"metric": rules.title, "interval": interval, "tau_from": "oracle", **scores}
        console.result_json({**result, "rules": asdict(rules), "versions": programs})
        return
    deltas = [V1_DELTA] if accuracy.version == 1 else list(accuracy.tau)
    columns = [next(iter(of)), "data", "protocol", rules.title]
    cells = [next(iter(of.values())), f"{data}/{split}", protocol, f"{accuracy.value:.2f}"]
    for delta in deltas:
        if accuracy.version == 2:
            columns.append(f"δ = {delta:g}")
            cells.append(f"{accuracy.at_delta[delta]:.2f}")
        columns.append("τ (oracle)" if accuracy.version == 1 else f"τ at {delta:g} (oracle)")
        cells.append(f"{accuracy.tau[delta]:.4g}")
    console.table(
        [*columns, "interval", "images", "zero maps"],
        [[*cells, f"{interval:g}", f"{accuracy.images}", f"{accuracy.empty}"]],
    )
    console.say("oracle: the threshold was chosen on these very images, which flatters the row")
    if accuracy.as_is:
        console.say(f"{accuracy.as_is:,} maps are 224x224 with values in [0, 1] and were scored as they are")

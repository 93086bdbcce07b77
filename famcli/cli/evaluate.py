"""``fam eval``."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from famcli.cli.console import console
from famcli.cli.options import BatchSizeOption, DeviceOption, JsonOption, ModelOption, QuietOption
from famcli_models.checkpoint import DEFAULT_MODEL

if TYPE_CHECKING:
    from famcli.data.dataset import Dataset
    from famcli.evaluation.run import Assessment

OVER_MAPS = "wsoleval-v1 or wsoleval-v2"
SMOKE = "smoke check: small drawings of our own. These numbers say that the program works, and nothing about a method"


def evaluate(
    context: typer.Context,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="NAME|PATH",
            help="Prepared dataset, or own data in any form; a small drawn set to check the program if not given.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Split to evaluate.")] = "test",
    model: ModelOption = DEFAULT_MODEL,
    method: Annotated[
        str | None,
        typer.Option(metavar="fam|cam", help="Measure the model's CAM instead; the model's own method if not given."),
    ] = None,
    cam: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="CAM to compare with, made by fam train --method cam."),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Boxes found elsewhere instead of a model: COCO JSON with scores."),
    ] = None,
    maps: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Score maps of another tool instead of a model: <image id>.npy, as wsolevaluation's."
        ),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Masks for PxAP and pIoU; those of the dataset if not given."),
    ] = None,
    protocol: Annotated[
        str, typer.Option(metavar="NAME", help="Rules of the numbers: fam, wsoleval-v1, wsoleval-v2, psol, first-box.")
    ] = "fam",
    crops: Annotated[int, typer.Option(help="Views that class scores are taken from: 1 or 10.")] = 1,
    interval: Annotated[
        float, typer.Option(help="From one threshold to the next, of protocols that try many.")
    ] = 0.001,
    other_classes: Annotated[
        bool, typer.Option("--other-classes", help="The labels are not the model's classes: score boxes alone.")
    ] = False,
    allow_missing: Annotated[
        bool,
        typer.Option("--allow-missing", help="Leave out images without a map, prediction or readable file; says so."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Folder for results.json, results.md and images.jsonl."),
    ] = None,
    device: DeviceOption = "auto",
    batch_size: BatchSizeOption = 32,
    workers: Annotated[int, typer.Option(min=1, help="Threads that decode images and find boxes.")] = 2,
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that try thresholds; all cores if not given.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Measure localization beside CAM, a centre box and the whole image, by a named protocol.

    Without --data it evaluates a small set that it draws itself: a check that the program works.

    Example: fam eval --data cub --split test --out results/
    """
    from famcli.evaluation.models import Contender
    from famcli.evaluation.protocols import find_protocol
    from famcli.evaluation.run import VERSIONS, Request, assess

    find_protocol(protocol)
    _check(context, maps, predictions, masks, protocol in VERSIONS, data, crops)
    if out is not None:
        _make(out)
    with ExitStack() as stack:
        dataset = _dataset(data, split, out, stack)
        contender = None
        if maps is None and predictions is None:
            say = None if console.quiet else console.say
            contender = Contender.find(model, method, cam, not other_classes, say)
            if contender.remark:
                console.say(contender.remark)
        with console.progress("images", dataset.count([split])) as step:
            request = Request(
                dataset=dataset,
                split=split,
                protocol=protocol,
                contender=contender,
                maps=maps,
                predictions=predictions,
                masks=masks,
                crops=crops,
                interval=interval,
                same_classes=not other_classes,
                allow_missing=allow_missing,
                smoke=data is None,
                device=device,
                batch_size=batch_size,
                workers=workers,
                processes=processes,
                say=console.say,
                on_images=step,
            )
            found = assess(request)
        _report(found, out, as_json)


def _check(
    context: typer.Context,
    maps: Path | None,
    predictions: Path | None,
    masks: Path | None,
    over_maps: bool,
    data: str | None,
    crops: int,
) -> None:
    """Options that do not go together."""
    source = {name: context.get_parameter_source(name) for name in ("model", "method", "cam")}
    given = [name for name, of in source.items() if of is not None and of.name == "COMMANDLINE"]
    elsewhere = "--maps" if maps else "--predictions" if predictions else ""
    messages = {
        f"maps are scored at many thresholds: --maps needs --protocol {OVER_MAPS}": bool(maps) and not over_maps,
        "give maps or predictions, not both": bool(maps and predictions),
        f"give a model or {elsewhere}, not both: leave out {', '.join(f'--{name}' for name in given)}": bool(
            given and elsewhere
        ),
        f"{elsewhere} are of images that --data names: give it": bool(elsewhere) and data is None,
        f"predictions are boxes, and these protocols threshold maps: leave out --protocol {OVER_MAPS}": bool(
            predictions and over_maps
        ),
        "predictions are boxes, and masks are compared with maps: leave out --masks": bool(predictions and masks),
        f"--crops is {crops}; it must be 1 or 10": crops not in {1, 10},
    }
    for message, wrong in messages.items():
        if wrong:
            raise typer.BadParameter(message)


def _make(out: Path) -> None:
    """The folder of the results, before any work is done."""
    from famcli_models.errors import DataError

    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        msg = f"cannot write to '{out}': {error.strerror or error}; choose another --out"
        raise DataError(msg) from error


def _dataset(data: str | None, split: str, out: Path | None, stack: ExitStack) -> Dataset:
    """The data, or drawings in the folder of the results."""
    from famcli.data.dataset import Dataset, open_dataset
    from famcli.evaluation.smokeset import NAME, draw

    if data is not None:
        dataset = open_dataset(data)
        for remark in dataset.remarks:
            console.say(remark)
        return dataset
    console.say(SMOKE)
    folder = out / "images" if out else Path(stack.enter_context(tempfile.TemporaryDirectory()))
    folder.mkdir(parents=True, exist_ok=True)
    return Dataset(NAME, folder, folder, held={split: draw(folder)})


def _report(found: Assessment, out: Path | None, as_json: bool) -> None:
    from famcli.results import tables
    from famcli.results.io import IMAGES_NAME, JSON_NAME, to_json, write_images, write_results

    results = found.results
    if out is not None:
        (out / JSON_NAME).unlink(missing_ok=True)  # an older result must not stand beside new images
        write_images(out / IMAGES_NAME, found.records())
        write_results(out, results)
    if as_json:
        console.result_json(to_json(results))
        return
    data, source = results.data, results.source
    of = f" of {data['images_of_split']:,}, partial" if data["partial"] else ""
    how = f"protocol {results.protocol['name']}, percent, 95 % intervals over images"
    console.say(f"{source['name']} on {data['name']}/{data['split']}, {data['images']:,} images{of}; {how}")
    for table in (tables.scores(results), tables.deltas(results), tables.differences(results)):
        if table.rows:
            console.table(table.columns, table.lines())
            console.result("")
    if any(row.tau_from == "oracle" for row in results.rows):
        console.say("oracle: the threshold was chosen on these very images, which flatters the row")
    if out is not None:
        console.say(f"-> {out}; look at it: fam report {out}")

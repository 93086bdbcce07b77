"""``fam eval``."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from famcli.cli import completion, options
from famcli.cli.console import console
from famcli_models.checkpoint import DEFAULT_MODEL

if TYPE_CHECKING:
    from famcli.evaluation.run import Evaluation

_DATA = "Prepared dataset, or own data in any form; four photographs to check the program if not given."
_BASELINE = "Model to compare with, of any method; the CAM of the model's own features if not given."
_PREDICTIONS = "Boxes found elsewhere instead of a model: COCO JSON with scores."
_MAPS = "Score maps of another tool instead of a model: <image id>.npy, as wsolevaluation's."
_MASKS = "Masks for PxAP and pIoU; those of the dataset if not given."
_PROTOCOL = "Rules of the numbers: fam, wsoleval-v1, wsoleval-v2, psol, first-box."
_OTHER_CLASSES = "The labels are not the model's classes: score boxes alone."
_ALLOW_MISSING = "Leave out images without a map, prediction or readable file; says so."
_OUT = "Folder for results.json, results.md and images.jsonl."
_RESUME = "Take up the share of this process if it was finished before."
_SHARD = "Measure this part of the images, from 0/N to (N-1)/N, and keep it for --join; launchers need no such option."
_JOIN = "Write the results from the shards of the same command."
_PROCESSES = "Processes that try thresholds; all cores if not given."


def evaluate(
    context: typer.Context,
    data: Annotated[str | None, Option(metavar="NAME|PATH", help=_DATA, autocompletion=completion.datasets)] = None,
    split: Annotated[str, Option(help="Split to evaluate.")] = "test",
    model: options.ModelOption = DEFAULT_MODEL,
    method: options.MethodOption = None,
    baseline: Annotated[
        str | None, Option("--baseline", "--cam", metavar="MODEL", help=_BASELINE, autocompletion=completion.models)
    ] = None,
    predictions: Annotated[Path | None, Option(metavar="FILE", help=_PREDICTIONS)] = None,
    maps: Annotated[Path | None, Option(metavar="DIR", help=_MAPS)] = None,
    masks: Annotated[Path | None, Option(metavar="DIR", help=_MASKS)] = None,
    protocol: Annotated[str, Option(metavar="NAME", help=_PROTOCOL, autocompletion=completion.protocols)] = "fam",
    crops: Annotated[int, Option(help="Views that class scores are taken from: 1 or 10.")] = 1,
    quality: options.QualityOption = "fast",
    scales: options.ScalesOption = None,
    flip: options.FlipOption = None,
    looks: options.LooksOption = None,
    interval: Annotated[float, Option(help="From one threshold to the next, if many are tried.")] = 0.001,
    other_classes: Annotated[bool, Option("--other-classes", help=_OTHER_CLASSES)] = False,
    allow_missing: Annotated[bool, Option("--allow-missing", help=_ALLOW_MISSING)] = False,
    out: Annotated[Path | None, Option("--out", "-o", metavar="DIR", help=_OUT, callback=options.folder)] = None,
    resume: Annotated[bool, Option("--resume", help=_RESUME)] = False,
    shard: Annotated[str | None, Option(metavar="I/N", help=_SHARD)] = None,
    join: Annotated[bool, Option("--join", help=_JOIN)] = False,
    device: options.DeviceOption = "auto",
    engine: options.EngineOption = "auto",
    batch_size: options.BatchSizeOption = 32,
    workers: options.WorkersOption = 2,
    value_range: options.RangeOption = "auto",
    memory: options.MemoryOption = "1GiB",  # noqa: ARG001  (handled by its callback)
    processes: Annotated[int | None, Option(min=1, max=options.MOST_WORKERS, help=_PROCESSES)] = None,
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Measure localization beside a baseline, a centre box and the whole image, by a named protocol.

    Without --data it evaluates four photographs: a check that the program works.

    Example: fam eval --data cub --split test --out results/
    """
    from famcli.data.dataset import open_dataset
    from famcli.demo import demo_dataset
    from famcli.evaluation import run
    from famcli.evaluation.parts import evaluate_shares, remove_parts
    from famcli.evaluation.perimage import EvaluationSettings
    from famcli.inference.journal import find_shards
    from famcli.inference.ranks import alone
    from famcli.results.io import JSON_NAME

    sources = {name: context.get_parameter_source(name) for name in ("model", "method", "baseline")}
    given = [f"--{name}" for name, source in sources.items() if source and source.name == "COMMANDLINE"]
    problem = run.conflict(protocol, crops, data is not None, maps, predictions, masks, ", ".join(given))
    if problem:
        raise typer.BadParameter(problem)
    views = options.views(quality, scales, flip, looks)
    rank = options.this_rank(shard)
    for wanted, option in ((resume, "--resume"), (join, "--join"), (rank.count > 1, str(rank))):
        if wanted and out is None:
            raise typer.BadParameter(f"{option} needs --out DIR, where finished shares are kept")
    if join and rank.count > 1:
        raise typer.BadParameter("--join measures nothing and is one process: leave out --shard and the launcher")
    file = (out or Path()) / JSON_NAME
    follows = bool(rank.launcher) and rank.index > 0  # rank 0 speaks for all
    with alone(file, rank) if out else nullcontext():
        if join:
            rank = find_shards(file)
        dataset = open_dataset(data) if data is not None else None
        share = rank.share((dataset or demo_dataset()).count([split]), batch_size)
        with console.progress("images", share.stop - share.start, hidden=follows or join) as step:
            prepared = run.EvaluationRun.prepare(
                dataset,
                model,
                EvaluationSettings(
                    split=split,
                    protocol=protocol,
                    crops=crops,
                    interval=interval,
                    same_classes=not other_classes,
                    allow_missing=allow_missing,
                    device=device,
                    engine=engine,
                    batch_size=batch_size,
                    workers=workers,
                    value_range=options.value_range(value_range),
                    processes=processes,
                    **views,
                ),
                method=method,
                baseline=baseline,
                maps=maps,
                predictions=predictions,
                masks=masks,
                say=None if console.quiet or follows else console.say,
                on_images=step,
            )
            found = evaluate_shares(prepared, file, rank, resume=resume, join=join)
        if found is not None:
            _show(found, out, as_json)
    if found is not None and rank.count > 1:
        remove_parts(file, rank)
    elif found is None:
        console.say(f"{rank}: {share.stop - share.start} images")


def _show(found: Evaluation, out: Path | None, as_json: bool) -> None:
    from famcli.results import tables
    from famcli.results.io import to_json, write_evaluation

    results = found.results
    if out is not None:
        write_evaluation(out, results, found.images())
    if as_json:
        console.result_json(to_json(results))
        return
    for word, sentence in tables.warnings(results):
        console.say(f"{word}: {sentence}")
    views = f"{results.source['views']}; " if results.source.get("views") else ""
    how = f"{views}protocol {results.protocol['name']}, percent, 95 % intervals over images"
    console.say(f"{tables.title(results)}, {results.data['images']:,} images; {how}")
    for table in (tables.scores(results), tables.deltas(results), tables.differences(results), tables.sizes(results)):
        if table.rows:
            console.table(table.columns, table.lines())
            console.result("")
    if any(row.sizes for row in results.rows):
        console.say(tables.SIZE_NOTE)
    if any(row.tau_from == "oracle" for row in results.rows):
        console.say("oracle: the threshold was chosen on these very images, which flatters the row")
    if out is not None:
        console.say(f"-> {out}; look at it: fam report {out}")

"""``fam train``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from famcli.cli import completion
from famcli.cli.console import console
from famcli.cli.options import MOST_WORKERS, DeviceOption, MemoryOption, QuietOption, folder
from famcli_models.errors import short

if TYPE_CHECKING:
    from famcli.training.estimate import Estimate
    from famcli.training.recipe import Recipe

INIT = (
    "What to start from: a model by name or folder, ImageNet weights, nothing, or a safetensors file of the backbone."
)

MOST_SEEDS = 1000
SEED = re.compile("[0-9]{1,9}")
DATA = "Prepared dataset, folder or file; several are joined."
RECIPE = "Name of a recipe, or a TOML file."
BACKBONE = f"{', '.join(completion.BACKBONES)}, or a timm model."
METHOD = "fam, cam or another method; the recipe's if not given."
OUT = "Run folder; runs/BACKBONE-DATA if not given."
SEEDS = "Train with each seed in turn, evaluate each, and compare them; the same command again goes on."


def train(
    data: Annotated[
        list[str] | None,
        Option("--data", metavar="NAME|PATH", help=DATA, autocompletion=completion.datasets),
    ] = None,
    out: Annotated[Path | None, Option("--out", "-o", help=OUT, callback=folder)] = None,
    recipe: Annotated[str | None, Option(help=RECIPE, metavar="NAME|FILE", autocompletion=completion.recipes)] = None,
    init: Annotated[
        str | None, Option(metavar="MODEL|imagenet|none|FILE", help=INIT, autocompletion=completion.weights)
    ] = None,
    backbone: Annotated[str | None, Option(help=BACKBONE, autocompletion=lambda: list(completion.BACKBONES))] = None,
    method: Annotated[str | None, Option(metavar="NAME", help=METHOD, autocompletion=completion.methods)] = None,
    settings: Annotated[
        list[str] | None, Option("--set", metavar="KEY=VALUE", help="Override a field of the recipe; repeatable.")
    ] = None,
    seeds: Annotated[str | None, Option(metavar="0-2|0,3", help=SEEDS)] = None,
    resume: Annotated[
        Path | None, Option(metavar="RUN", help="Go on with an interrupted run, or seeds, exactly where it was saved.")
    ] = None,
    dry: Annotated[bool, Option("--dry-run", help="Print settings, images, time and memory, and stop.")] = False,
    exist_ok: Annotated[bool, Option("--exist-ok", help="Start anew in a run folder that exists.")] = False,
    workers: Annotated[int, Option(min=0, max=MOST_WORKERS, help="Processes that decode images.")] = 2,
    memory: MemoryOption = "1GiB",  # noqa: ARG001  (handled by its callback)
    device: DeviceOption = "auto",
    i_know_this_is_test: Annotated[
        bool, Option("--i-know-this-is-test", help="Allow the test split; marks the run.")
    ] = False,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Train a model from images and their labels.

    Boxes are never learnt from. The run folder is a checkpoint after each epoch: fam predict --model takes it.
    Without other options the model starts from a packaged one, offline, by the recipe own-data; another
    --backbone starts from ImageNet weights. --backbone B --data D takes the recipe B-D where there is one, and with
    --method M the recipe M-B-D.
    Start it with torchrun or accelerate launch to train on several GPUs or machines.

    Examples: fam train --data birds/, fam train --backbone inceptionv3 --data ilsvrc, fam train --data cub --seeds 0-2
    """
    from famcli.training.catalog import OWN_DATA, recipes
    from famcli.training.resume import finished_run, is_sweep
    from famcli_models.errors import ConfigError, FamError

    numbers = None if seeds is None else _numbers(seeds, settings or [])
    chosen = result = None
    if resume is None:
        from famcli.training.recipe import load_recipe

        if recipe is None:  # the paper's cells have their own settings
            cell = "-".join([backbone or "", *(data or ())])
            recipe = next((name for name in (f"{method}-{cell}", cell) if name in recipes()), OWN_DATA)
        run = {"data": data, "backbone_weights": init, "i_know_this_is_test": i_know_this_is_test}
        model = {"backbone": backbone, "method": method}
        given = ({name: value for name, value in table.items() if value} for table in (run, model))
        chosen = load_recipe(recipe, settings or (), *given)
    elif any((data, out, recipe, init, backbone, method, settings, seeds, dry, exist_ok, i_know_this_is_test)):
        raise ConfigError(
            "--resume goes on with the run's own recipe; besides it only --workers, --device and --quiet are "
            f"allowed. For other settings start a new run with --recipe {resume / 'recipe.toml'} --set KEY=VALUE"
        )
    elif not is_sweep(resume):
        result = finished_run(resume, console.say)  # before torch is imported, which takes seconds
    if chosen is not None and dry:
        from famcli.training.estimate import dry_run

        show(dry_run(chosen, out, exist_ok=exist_ok, workers=workers, device=device))
        return
    if numbers is not None or (resume is not None and is_sweep(resume)):
        _train_seeds(chosen, numbers or [], resume or out, exist_ok=exist_ok, workers=workers, device=device)
        return
    if result is None:
        from famcli.training.run import train

        result = train(
            chosen,
            resume or out,
            resume=resume is not None,
            exist_ok=exist_ok,
            workers=workers,
            device=device,
            say=console.say,
            progress=console.progress,
        )
    if result.main:
        console.result(str(result.folder))
    if result.collapsed:
        better = f"; the model of epoch {result.best_epoch} is better: {result.best}" if result.best else ""
        raise FamError(f"the training has failed: {result.collapsed}. '{result.folder}' is kept and marked{better}")


def _numbers(seeds: str, settings: Sequence[str]) -> list[int]:
    """Seeds from ``0-2`` or ``0,3,5``, each once."""
    if any(setting.partition("=")[0] in {"seed", "train.seed"} for setting in settings):
        raise typer.BadParameter("they set the seed: leave out --set seed", param_hint="--seeds")
    found: list[int] = []
    for part in seeds.split(","):
        first, _, last = part.partition("-")
        if not (SEED.fullmatch(first) and SEED.fullmatch(last or first)) or part.endswith("-"):
            raise typer.BadParameter(f"'{short(seeds)}' is no list of seeds such as 0-2 or 0,3,5", param_hint="--seeds")
        found += range(int(first), min(int(last or first), int(first) + MOST_SEEDS) + 1)
    if len(found) > MOST_SEEDS:
        raise typer.BadParameter(f"more than {MOST_SEEDS} seeds; give fewer", param_hint="--seeds")
    if not found or len(set(found)) < len(found):
        raise typer.BadParameter(f"'{short(seeds)}' names no seed, or one twice", param_hint="--seeds")
    return found


def _train_seeds(
    recipe: Recipe | None, seeds: Sequence[int], out: Path | None, *, exist_ok: bool, workers: int, device: str
) -> None:
    """Train with each seed, or go on with the sweep in a folder, and print the table."""
    from famcli.cli.compare import show_comparison
    from famcli.evaluation.compare import compare
    from famcli.results.comparison import write_comparison
    from famcli.training.sweep import default_folder, of_seeds, read_sweep, sweep
    from famcli_models.errors import FamError

    runs = of_seeds(recipe, seeds) if recipe else read_sweep(out or Path())
    folder = out or default_folder(next(iter(runs.values())))
    found = sweep(
        runs,
        folder,
        exist_ok=exist_ok,
        workers=workers,
        device=device,
        say=console.say,
        progress=console.progress,
    )
    if results := [run.results[0] for run in found if run.results]:
        comparison = compare(results)
        write_comparison(folder, comparison)
        show_comparison(comparison)
    console.say(f"-> {folder}")
    if failed := [f"{run.name} ({run.failed})" for run in found if run.failed]:
        raise FamError(f"{len(failed)} of {len(found)} runs failed: {'; '.join(failed)}")


def show(estimate: Estimate) -> None:
    """Print what a run would take."""
    from famcli.data.public.catalog import human

    if not estimate.main:
        return
    console.result(estimate.recipe.to_toml())
    whole = ("all", sum(n for _, n, _ in estimate.classes), sum(n for _, _, n in estimate.classes))
    counts = ((name, str(images), str(validation)) for name, images, validation in [*estimate.classes, whole])
    console.table(("class", "training images", "validation images"), counts)
    if estimate.unlabelled:
        console.result(f"\n{estimate.unlabelled} unlabelled images may join them.")
    console.result("\nEstimated from one batch on this machine:\n")
    takes = [(part, f"{seconds / 60:.1f} min") for part, seconds in estimate.seconds.items()]
    takes.append((f"all, {estimate.steps} steps", f"{sum(estimate.seconds.values()) / 60:.1f} min"))
    takes += [(f"memory, {place}", human(peak)) for place, peak in estimate.memory.items()]
    console.table(("part", "takes"), takes)

"""``fam train``."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from famcli.cli.console import console
from famcli.cli.options import DeviceOption, QuietOption

if TYPE_CHECKING:
    from famcli.training.recipe import Recipe


def train(
    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="NAME|PATH", help="Prepared dataset, folder or file; several are joined."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Run folder; runs/BACKBONE-DATA if not given.")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Name of a recipe, or a TOML file.", metavar="NAME|FILE")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="vgg16, resnet50, inceptionv3, mobilenetv1, or a timm model.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(metavar="NAME", help="fam, cam or another method; the recipe's if not given.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a field of the recipe; repeatable.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with an interrupted run, exactly where it was saved.")
    ] = None,
    exist_ok: Annotated[bool, typer.Option("--exist-ok", help="Start anew in a run folder that exists.")] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode images.")] = 2,
    device: DeviceOption = "auto",
    i_know_this_is_test: Annotated[
        bool, typer.Option("--i-know-this-is-test", help="Allow the test split; marks the run.")
    ] = False,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Train a model from images and their labels.

    Boxes are never learnt from. The run folder is a checkpoint after each epoch: fam predict --model takes it.
    --backbone B --data D takes the recipe B-D where there is one. The backbone starts from ImageNet weights,
    or from --set backbone_weights=FILE, or =none. Start it with torchrun or accelerate launch to train
    on several GPUs or machines.

    Example: fam train --backbone inceptionv3 --data ilsvrc
    """
    from famcli.training.accelerator import leave, make_accelerator
    from famcli.training.data import anchored, gather
    from famcli.training.recipe import load_recipe, recipes
    from famcli.training.run import Run
    from famcli.training.runfolder import RunFolder
    from famcli_models.errors import ConfigError

    if resume is not None:
        if any((data, out, recipe, backbone, method, settings, exist_ok, i_know_this_is_test)):
            msg = (
                "--resume goes on with the run's own recipe; besides it only --workers, --device and --quiet are "
                f"allowed. For other settings start a new run with --recipe {resume / 'recipe.toml'} --set KEY=VALUE"
            )
            raise ConfigError(msg)
        folder = RunFolder(resume)
        chosen = folder.read_recipe()
    else:
        run_fields = _given(data=data, i_know_this_is_test=i_know_this_is_test)
        model_fields = _given(backbone=backbone, method=method)
        if recipe is None and backbone and data:  # the paper's cells have their own settings
            recipe = next((name for name in recipes() if name == "-".join([backbone, *data])), None)
        chosen = load_recipe(recipe, settings or (), run_fields, model_fields)
        chosen = replace(chosen, run=anchored(chosen.run))
        folder = RunFolder(out) if out else RunFolder.fresh(_stem(chosen))
        folder.check(exist_ok)
    material = gather(chosen.run)
    chosen = chosen.with_classes(material.num_classes, bool(material.class_names))
    # Torch's remark on 1x1 filters in channels-last memory: nothing is wrong and nothing can be done.
    warnings.filterwarnings("ignore", message="Grad strides do not match")
    accelerator = make_accelerator(device, chosen.train.precision)
    console.quiet |= not accelerator.is_main_process
    count = len(material.samples)
    console.say(f"{count} images from {', '.join(material.names)} into {folder.path}; recipe: {chosen.name}")
    console.say("\n".join([*material.remarks, chosen.to_toml()]))
    run = Run(folder, chosen, material, accelerator, console.say)
    total = None if material.unlabelled else count * chosen.train.epochs  # how many of them join is not known yet
    with console.progress("images", total) as step:
        run.train(workers, resume is not None, step)
    if accelerator.is_main_process:
        if run.best_epoch:
            console.say(f"best epoch {run.best_epoch}, by {run.provenance['selected_by']}: {folder.best}")
        console.result(str(folder.path))
    leave(accelerator)


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value}


def _stem(recipe: Recipe) -> str:
    """BACKBONE-DATA for the default method, or BACKBONE-METHOD-DATA."""
    from famcli_models.methods import METHODS

    method = [recipe.model.method] if recipe.model.method != next(iter(METHODS)) else []
    return "-".join([recipe.model.backbone, *method, *(Path(name).stem for name in recipe.run.data)])

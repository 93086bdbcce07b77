"""``fam train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from famcli.cli.console import console
from famcli.cli.options import DeviceOption, QuietOption


def train(
    data: Annotated[
        list[Path], typer.Option("--data", help="Dataset folder with metadata/SPLIT/; several are joined.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder: the checkpoint, recipe.toml, metrics.csv.")],
    recipe: Annotated[str | None, typer.Option(help="Name of a recipe, or a TOML file.")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="vgg16, resnet50, inceptionv3, mobilenetv1, or a timm model.")
    ] = None,
    backbone_weights: Annotated[
        str, typer.Option(metavar="imagenet|none|FILE", help="Where the backbone starts from.")
    ] = "imagenet",
    class_names: Annotated[Path | None, typer.Option(help="File with a class name on each line.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a field of the recipe; repeatable.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split to train on.")] = "train",
    half: Annotated[bool, typer.Option("--half", help="Store the checkpoint in float16.")] = False,
    exist_ok: Annotated[bool, typer.Option("--exist-ok", help="Write into a run folder that exists.")] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode images.")] = 2,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Train a model from images and their labels.

    Boxes are never read. The checkpoint is saved after each epoch and can be given to predict --model.

    Example: fam train --data birds --backbone resnet50 --class-names birds/classes.txt --out runs/birds
    """
    from famcli.data.readers import read_class_names, read_samples
    from famcli.recipe import load_recipe
    from famcli.run import Run
    from famcli_models.errors import ConfigError

    if out.exists() and not exist_ok and any(out.iterdir()):
        msg = f"'{out}' exists and is not empty; choose another --out, or add --exist-ok"
        raise ConfigError(msg)
    samples = [sample for folder in data for sample in read_samples(folder, split)]
    names = read_class_names(class_names) if class_names else None
    given: dict[str, Any] = {}
    if names or recipe is None:  # a recipe knows its number of classes
        given["num_classes"] = len(names) if names else 1 + max(sample.label for sample in samples)
    if backbone is not None:
        given |= {"backbone": backbone}
    chosen = load_recipe(recipe, settings or (), given)
    run = Run(out, chosen, backbone_weights, names, [str(folder) for folder in data], half)
    console.say(f"{len(samples)} images from {len(data)} folders\n{chosen.to_toml()}")
    with console.progress("epochs", len(samples) * chosen.train.epochs) as step:
        run.train(samples, device, workers, console.say, step)
    console.result(str(out))

"""``fam data prepare``: extracts and indexes a public dataset, or gives a user's own images a name."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from famcli.cli import completion
from famcli.cli.console import console
from famcli.cli.options import JsonOption, QuietOption

if TYPE_CHECKING:
    from famcli.data.public.catalog import DatasetFacts
    from famcli.data.public.prepare import Outcome

_ROOT = "Folder of the prepared dataset; NAME in the data home if not given."
RootOption = Annotated[Path | None, typer.Option("--out", "-o", help=_ROOT)]
_NAME = "A dataset of 'fam data list', or a name for your own data."
_FROM = "Archives, extracted images, or your own data; NAME/downloads in the data home if not given."
_WITHOUT = "ilsvrc: the test split alone, without the training images."
_FORMAT = "Own data: auto, wsol, coco, voc, csv or folder."


def prepare(
    name: Annotated[str, typer.Argument(metavar="NAME", help=_NAME, autocompletion=completion.catalog_datasets)],
    source: Annotated[Path | None, typer.Option("--from", help=_FROM)] = None,
    out: RootOption = None,
    without_train: Annotated[bool, typer.Option("--without-train", help=_WITHOUT)] = False,
    format: Annotated[  # noqa: A002  (the word that users type)
        str, typer.Option("--format", help=_FORMAT, autocompletion=completion.data_formats)
    ] = "auto",
    images: Annotated[Path | None, typer.Option(help="Own data: the folder that image names are relative to.")] = None,
    split: Annotated[str | None, typer.Option(help="Own data: the split of images of which nothing tells it.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Extract and index a dataset, so that its name can be given to --data.

    Archives are verified first. Images that are extracted already, and your own, stay where they are. An interrupted
    preparation is continued by the same command, and one with nothing to do changes nothing.

    Example: fam data prepare ilsvrc --from ~/imagenet
    """
    from famcli.data.dataset import data_home
    from famcli.data.public.catalog import CATALOG
    from famcli.data.public.download import DOWNLOADS
    from famcli.data.public.prepare import prepare_own
    from famcli_models.errors import UnknownNameError

    root = out or data_home() / name
    if name in CATALOG:
        own = [o for o, v in (("--format", format != "auto"), ("--images", images), ("--split", split)) if v]
        if own:
            why = "is for your own data; the datasets of 'fam data list' have one form each"
            raise typer.BadParameter(f"{' and '.join(own)} {why}")
        if without_train and name != "ilsvrc":
            raise typer.BadParameter("--without-train is for ilsvrc alone")
        again = typed("prepare", name, {"--from": source, "--out": out, "--without-train": without_train})
        folder = source or data_home() / name / DOWNLOADS
        result = prepare_known(CATALOG[name], folder, root, without_train=without_train, again=again)
    elif source is None:
        raise UnknownNameError("dataset", name, CATALOG, "for your own data add --from and its folder or file")
    else:
        result = _report(name, prepare_own(name, source, format, root, images, split))
    if as_json:
        console.result_json(result)
    else:
        console.result(str(root))


def typed(command: str, name: str, options: dict[str, Any]) -> str:
    """A command with the options that were given, to be typed again."""
    words = ["fam", "data", command, name]
    for option, value in options.items():
        for each in value if isinstance(value, list) else [value] if value else []:
            words += [option] if each is True else [option, str(each)]
    return shlex.join(words)


def prepare_known(facts: DatasetFacts, folder: Path, root: Path, *, without_train: bool, again: str) -> dict[str, Any]:
    """Prepare a dataset of the catalogue and say how it went; ``again`` is the command that goes on."""
    from famcli.data.public.prepare import prepare as run

    try:
        outcome = run(facts, folder, root, console, without_train=without_train)
    except KeyboardInterrupt:
        console.say(f"what was extracted so far is kept; to go on: {again}")
        raise
    return _report(facts.name, outcome, facts.fullsup)


def _report(name: str, outcome: Outcome, fullsup: str | None = None) -> dict[str, Any]:
    for remark in outcome.remarks:
        console.warn(remark)
    splits = ", ".join(
        f"{split} {n['images']:,} images" + (f" with {n['boxes']:,} boxes" if n["boxes"] else "")
        for split, n in outcome.splits.items()
    )
    verdict = "is prepared" if outcome.changed else "was prepared already and nothing has changed"
    console.say(f"{name} {verdict}: {splits}")
    if fullsup and not (outcome.root.parent / fullsup / "dataset.json").is_file():
        console.say(f"train-fullsup is {fullsup}, a dataset of its own: fam data download {fullsup}")
    return {"name": name, **asdict(outcome), "root": str(outcome.root)}

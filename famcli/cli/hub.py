"""``fam models``, ``fam pull`` and ``fam push``: models by name, and the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from typer import Argument, BadParameter, Option

from famcli.cli import completion
from famcli.cli.console import console
from famcli.cli.options import JsonOption, OrgOption, QuietOption

COLUMNS = ("name", "where", "for", "backbone", "input", "classes", "data", "size", "revision", "measured", "terms")


def models(
    name: Annotated[
        str | None,
        Argument(metavar="[NAME]", help="Print the card of this model instead.", autocompletion=completion.all_models),
    ] = None,
    org: OrgOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """List models: packaged, in the local cache, and those the catalogue knows.

    The list never asks the network. Numbers were measured with the weights they stand beside, of packaged models on
    photographs that were kept apart if there are any; those of a model from the Hub are what its card says.

    Example: fam models fam-mobilenetv1-ilsvrc
    """
    from famcli.data.public.catalog import human
    from famcli.hub.listing import all_models, card_of

    if name is not None:
        card = card_of(name, org)
        if as_json:
            console.result_json({"name": name, "card": card})
        else:
            console.result(card.rstrip("\n"))
        return
    found = all_models(console.say)
    if as_json:
        console.result_json([model.to_dict() for model in found])
        return
    rows = []
    for model in found:
        row = (
            *(model.name, model.where, model.purpose, model.backbone),
            "" if model.input_size is None else f"{model.input_size} px",
            "" if model.classes is None else f"{model.classes:,}",
            *(model.data, "" if model.size is None else human(model.size), model.revision),
            *(model.measured[0].sentence() if model.measured else "", model.terms),
        )
        rows.append([cell.replace("|", "\\|") for cell in row])
    console.table(COLUMNS, rows)


def pull(
    name: Annotated[
        str,
        Argument(
            metavar="NAME",
            help="Name in the catalogue, ORG/NAME of the Hub, either with @REVISION.",
            autocompletion=completion.catalog_models,
        ),
    ],
    org: OrgOption = None,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Download a model into the local cache, or a newer revision of it, and print its folder.

    Config, weights and card are fetched and nothing else. They are checked before any command uses them.

    Example: fam pull ORG/NAME@v1.0
    """
    from famcli.hub.names import find_model, look_up
    from famcli.hub.pull import pull as fetch

    say = None if console.quiet else console.say
    found = look_up(name, org)
    console.result(str(find_model(name) if isinstance(found, Path) else fetch(found, say)))


def push(
    source: Annotated[
        str, Argument(metavar="FOLDER", help="Run folder or checkpoint folder; with --space that of a Space.")
    ],
    repo: Annotated[
        str | None, Option(help="Repository of a model on the Hub, made if it is not there.", metavar="ORG/NAME")
    ] = None,
    space: Annotated[
        str | None,
        Option(
            help="Space on the Hub, made if it is not there; sends what 'fam app --space' wrote.", metavar="ORG/NAME"
        ),
    ] = None,
    private: Annotated[bool, Option("--private", help="Only for repositories that are private.")] = False,
    revision: Annotated[
        str | None, Option(help="Branch to commit to, made if it is not there; the default branch if not given.")
    ] = None,
    create_pr: Annotated[bool, Option("--create-pr", help="Open a pull request instead of committing.")] = False,
    results: Annotated[
        list[Path] | None,
        Option(help="results.json of 'fam eval --out' with numbers of these weights; may be repeated."),
    ] = None,
    license: Annotated[  # noqa: A002  (the Hub's word)
        str | None, Option(help="License of the weights, as the Hub writes it: cc-by-nc-4.0, apache-2.0, ...")
    ] = None,
    terms: Annotated[
        str | None, Option(help="A sentence for the card on the terms of the data it was trained on.")
    ] = None,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Print the card and the files; the network is not asked.")
    ] = False,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Upload a checkpoint with a generated card, or a Space, to the Hugging Face Hub, and print where it is.

    Numbers come from results.json of the folder, or --results, and must be of exactly these weights. A checkpoint that
    fails 'fam verify', or that was tuned on test images, is refused. Log in with 'hf auth login' first, or set
    HF_TOKEN.

    Example: fam push runs/birds --repo ORG/fam-birds --license cc-by-nc-4.0
    """
    from famcli.data.public.catalog import human
    from famcli.hub.pull import CARD_FILE, FILES
    from famcli.hub.push import prepared, space_files, upload

    say = None if console.quiet else console.say
    commit: dict[str, Any] = {"private": private, "revision": revision, "create_pr": create_pr, "say": say}
    if space is not None and repo is None:
        if results or license or terms:
            raise BadParameter("--results, --license and --terms are of a model's card; edit README.md of the Space")
        if dry_run:
            console.result("\n".join(space_files(Path(source), space)))
        else:
            console.result(upload(Path(source), space, space=True, **commit))
        return
    if repo is None or space is not None:
        raise BadParameter("give either --repo, for a model, or --space")
    with prepared(source, repo, _verify, results or (), license, terms) as folder:
        if dry_run:
            console.result((folder / CARD_FILE).read_text(encoding="utf-8").rstrip("\n"))
            for name in (name for name in FILES if (folder / name).is_file()):
                console.say(f"would upload {name}, {human((folder / name).stat().st_size)}, to {repo}")
            return
        console.result(upload(folder, repo, **commit))


def _verify(folder: Path) -> list[str]:
    """Give a checkpoint its reference outputs if it has none, and verify it."""
    from famcli.checkpoints.reference import record, stored
    from famcli.checkpoints.verify import verify_checkpoint
    from famcli_models.checkpoint import read_config

    if stored(read_config(folder)["provenance"]) is None:
        record(folder)
    return verify_checkpoint(folder)

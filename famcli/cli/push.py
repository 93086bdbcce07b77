"""``fam push``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from famcli.cli.console import console
from famcli.cli.options import QuietOption


def push(
    source: Annotated[str, typer.Argument(metavar="RUN", help="Run folder or checkpoint folder.")],
    repo: Annotated[str, typer.Option(help="Repository on the Hub, made if it is not there.", metavar="ORG/NAME")],
    private: Annotated[bool, typer.Option("--private", help="Only for repositories that are private.")] = False,
    revision: Annotated[
        str | None, typer.Option(help="Branch to commit to, made if it is not there; the default branch if not given.")
    ] = None,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request instead of committing.")] = False,
    results: Annotated[
        list[Path] | None,
        typer.Option(help="results.json of 'fam eval --out' with numbers of these weights; may be repeated."),
    ] = None,
    license: Annotated[  # noqa: A002  (the Hub's word)
        str | None, typer.Option(help="License of the weights, as the Hub writes it: cc-by-nc-4.0, apache-2.0, ...")
    ] = None,
    terms: Annotated[
        str | None, typer.Option(help="A sentence for the card on the terms of the data it was trained on.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the card and the files; the network is not asked.")
    ] = False,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Upload a checkpoint with a generated card to the Hugging Face Hub, and print where it is.

    Numbers come from results.json of the folder, or --results, and must be of exactly these weights. A checkpoint that
    fails 'fam verify', or that was tuned on test images, is refused. Log in with 'hf auth login' first, or set
    HF_TOKEN.

    Example: fam push runs/birds --repo ORG/fam-birds --license cc-by-nc-4.0
    """
    from famcli.data.public.catalog import human
    from famcli.hub.pull import CARD_FILE, FILES
    from famcli.hub.push import prepared, upload

    with prepared(source, repo, _verify, results or (), license, terms) as folder:
        if dry_run:
            console.result((folder / CARD_FILE).read_text(encoding="utf-8").rstrip("\n"))
            for name in FILES:
                console.say(f"would upload {name}, {human((folder / name).stat().st_size)}, to {repo}")
            return
        say = None if console.quiet else console.say
        console.result(upload(folder, repo, private=private, revision=revision, create_pr=create_pr, say=say))


def _verify(folder: Path) -> list[str]:
    """Give a checkpoint its reference outputs if it has none, and verify it."""
    from famcli.checkpoints.reference import record, stored
    from famcli.checkpoints.verify import verify_checkpoint
    from famcli_models.checkpoint import read_config

    if stored(read_config(folder)["provenance"]) is None:
        record(folder)
    return verify_checkpoint(folder)

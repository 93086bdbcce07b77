"""``fam pull``."""

from __future__ import annotations

from typing import Annotated

import typer

from famcli.cli.console import console
from famcli.cli.options import OrgOption, QuietOption


def pull(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name in the catalogue, ORG/NAME of the Hub, either with @REVISION.")
    ],
    org: OrgOption = None,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Download a model into the local cache, or a newer revision of it, and print its folder.

    Config, weights and card are fetched and nothing else. They are checked before any command uses them.

    Example: fam pull ORG/NAME@v1.0
    """
    from pathlib import Path

    from famcli.hub.load import find_model
    from famcli.hub.names import look_up
    from famcli.hub.pull import pull as fetch

    say = None if console.quiet else console.say
    found = look_up(name, org)
    console.result(str(find_model(name) if isinstance(found, Path) else fetch(found, say)))

"""``fam models``."""

from __future__ import annotations

from typing import Annotated

import typer

from famcli.cli.console import console
from famcli.cli.options import JsonOption, OrgOption, QuietOption

COLUMNS = ("name", "where", "backbone", "data", "size", "revision", "measured", "terms")


def models(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Print the card of this model instead.")] = None,
    org: OrgOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """List models: packaged, in the local cache, and those the catalogue knows.

    The list never asks the network. Numbers were measured with the weights they stand beside; those of a model from
    the Hub are what its card says.

    Example: fam models fam-mobilenetv1-ilsvrc
    """
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

    from famcli.data.public.catalog import human

    rows = [
        (
            model.name,
            model.where,
            model.backbone,
            model.data,
            "" if model.size is None else human(model.size),
            model.revision,
            model.measured[0].sentence() if model.measured else "",
            model.terms,
        )
        for model in found
    ]
    console.table(COLUMNS, [[cell.replace("|", "\\|") for cell in row] for row in rows])

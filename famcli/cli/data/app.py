"""``fam data``: this file only registers."""

from __future__ import annotations

import typer

from famcli.cli.data import check, convert, download, info, prepare
from famcli.cli.data import list as listing

app = typer.Typer(name="data", no_args_is_help=True, help="Get, make, look through and convert datasets.")

app.command("list")(listing.list_datasets)
app.command("download")(download.download)
app.command("prepare")(prepare.prepare)
app.command("check")(check.check)
app.command("info")(info.info)
app.command("convert")(convert.convert)

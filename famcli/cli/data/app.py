"""``fam data``: this file only registers."""

from __future__ import annotations

import typer

from famcli.cli.data import dataset, download, prepare

app = typer.Typer(name="data", no_args_is_help=True, help="Get, make, look through and convert datasets.")

app.command("list")(download.list_datasets)
app.command("download")(download.download)
app.command("prepare")(prepare.prepare)
app.command("check")(dataset.check)
app.command("info")(dataset.info)
app.command("convert")(dataset.convert)

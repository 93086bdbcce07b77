"""``fam compare``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from famcli.cli.console import console
from famcli.cli.options import JsonOption, QuietOption, folder

if TYPE_CHECKING:
    from famcli.results.comparison import Comparison

_GROUP = "Row that a folder belongs to, for a name of your own or for seeds that results do not tell; repeatable."
GroupOption = Annotated[list[str] | None, Option("--group", metavar="NAME=RESULTS_DIR", help=_GROUP)]
_BASELINE = "Row, or a folder of it, that all others are compared with; every pair if not given."
BaselineOption = Annotated[str | None, Option("--baseline", metavar="NAME|RESULTS_DIR", help=_BASELINE)]
_OUT = "Folder for compare.json and compare.md."


def compare(
    results: Annotated[
        list[Path] | None, typer.Argument(metavar="RESULTS_DIR...", help="Folders that fam eval --out wrote.")
    ] = None,
    group: GroupOption = None,
    baseline: BaselineOption = None,
    out: Annotated[Path | None, Option("--out", "-o", metavar="DIR", help=_OUT, callback=folder)] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """Lay evaluations of the same images side by side: one table, and paired differences with intervals.

    Results of one method that differ in the training seed alone become one row, mean ± standard deviation.

    Example: fam compare runs/*/results mine/ --baseline CAM
    """
    from famcli.evaluation.compare import compare
    from famcli.results.comparison import JSON_NAME, to_json, write_comparison
    from famcli_models.locks import only_writer

    groups = folders_by_name(group or ())
    if not (results or groups):
        raise typer.BadParameter("give folders that fam eval --out wrote")
    found = compare(results or (), groups=groups, baseline=baseline)
    if out is not None:
        with only_writer(out / JSON_NAME):
            write_comparison(out, found)
    if as_json:
        console.result_json(to_json(found))
    else:
        show_comparison(found)
    if out is not None:
        console.say(f"-> {out}")


def folders_by_name(pairs: Sequence[str]) -> dict[str, list[Path]]:
    """What ``--group`` says."""
    groups: dict[str, list[Path]] = {}
    for pair in pairs:
        name, _, folder = pair.partition("=")
        if not (name and folder):
            raise typer.BadParameter(f"'{pair}' is not NAME=RESULTS_DIR", param_hint="--group")
        groups.setdefault(name, []).append(Path(folder))
    return groups


def show_comparison(found: Comparison) -> None:
    """Print the tables; how to read them is said beside them."""
    from famcli.results import comparison

    for warning in found.warnings:
        console.say(f"warning: {warning}")
    console.say(comparison.title(found))
    for table in (comparison.scores(found), comparison.differences(found), comparison.sizes(found)):
        if table.rows:
            console.table(table.columns, table.lines())
            console.result("")
    for note in comparison.notes(found):
        console.say(note)

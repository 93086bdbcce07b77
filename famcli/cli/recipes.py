"""``fam recipes``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from typer import Argument

from famcli.cli import completion
from famcli.cli.console import console
from famcli.cli.options import JsonOption, QuietOption

COLUMNS = ("name", "backbone", "data", "score", "time", "command")


def recipes(
    name: Annotated[
        str | None,
        Argument(metavar="[NAME]", help="Print this recipe, a TOML file, instead.", autocompletion=completion.recipes),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001  (handled by its callback)
) -> None:
    """List the recipes that fam train --recipe takes by name.

    Scores were measured by this project with the recipe, or it says "not run"; none is the paper's.

    Example: fam recipes vgg16-cub
    """
    from famcli.training.catalog import RecipeNote, recipes as packaged
    from famcli_models.errors import UnknownNameError

    files = packaged()
    if name is not None and name not in files:
        raise UnknownNameError("recipe", name, files)
    if name is not None and not as_json:
        console.result_file(files[name])
        return
    notes = [RecipeNote.from_file(path) for path in files.values() if name in (None, path.stem)]
    if name is not None:
        console.result_json({**asdict(notes[0]), "toml": files[name].read_text(encoding="utf-8")})
    elif as_json:
        console.result_json([asdict(note) for note in notes])
    else:
        rows = ((n.name, n.backbone, ", ".join(n.data), n.score, n.time, n.command) for n in notes)
        console.table(COLUMNS, ([cell.replace("|", "\\|") for cell in row] for row in rows))

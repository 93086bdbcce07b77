"""The command line: this file only registers."""

from __future__ import annotations

import errno
import warnings
from typing import Annotated, Any

import typer
from typer import Option
from typer.core import TyperGroup

from famcli.cli import checkpoints, compare, demo, evaluate, hub, predict, recipes, report, train
from famcli.cli.console import console
from famcli.cli.data.app import app as data
from famcli_models.errors import FamError


class FamGroup(TyperGroup):
    """One exit for errors: a ``FamError`` or the disk's is one line on stderr and exit 1, Ctrl-C is exit 130."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command, as if it were the first of the process."""
        console.quiet = console.as_json = False
        try:
            return super().invoke(ctx)
        except FamError as error:
            console.error(str(error))
            raise typer.Exit(1) from error
        except OSError as error:  # a full disk, a folder that may not be written to
            if error.errno == errno.EPIPE:  # the reader of a pipe has gone: Typer knows what to do
                raise
            console.error(f"{error.strerror or error}{f': {error.filename!r}' if error.filename else ''}")
            raise typer.Exit(1) from error
        except KeyboardInterrupt as interrupt:
            console.error("interrupted")
            raise typer.Exit(130) from interrupt


app = typer.Typer(
    cls=FamGroup,
    name="fam",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        console.result(f"fam {version('famcli')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[  # noqa: ARG001  (handled by its callback)
        bool, Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Find the object in images with Foreground Activation Maps, trained on image labels alone.

    Exit codes: 0 done, 1 an error or some inputs failed, 2 wrong usage, 130 interrupted.
    """
    # Pillow's remarks on odd files, such as a corrupt EXIF tag, would break into the progress bar.
    warnings.filterwarnings("ignore", module="PIL")


app.command("predict")(predict.predict)
app.command("demo")(demo.demo)
app.command("eval")(evaluate.evaluate)
app.command("compare")(compare.compare)
app.command("report")(report.report)
app.command("train")(train.train)
app.command("recipes")(recipes.recipes)
app.command("export")(checkpoints.export)
app.command("verify")(checkpoints.verify)
app.command("doctor")(checkpoints.doctor)
app.command("models")(hub.models)
app.command("pull")(hub.pull)
app.command("push")(hub.push)
app.add_typer(data)

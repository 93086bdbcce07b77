"""The command line: this file only registers."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any

import typer
from typer import Option
from typer.core import TyperGroup

from famcli.cli import checkpoints, compare, demo, evaluate, hub, predict, recipes, report, train, web
from famcli.cli.console import console
from famcli.cli.data.app import app as data
from famcli.data import quiet_decoders
from famcli_models.errors import FamError, short


class FamGroup(TyperGroup):
    """The outermost guard: what ends a command is one line on stderr, and exit 1, or 130 for Ctrl-C."""

    def main(self, *args: Any, **settings: Any) -> Any:
        """Run the command line as if it were the first of the process; never a traceback unless ``--debug`` asks."""
        console.quiet = console.as_json = console.debug = False
        console.open_closed()
        try:
            return super().main(*args, **settings)
        except Exception as error:
            if console.debug:
                raise
            with suppress(OSError):  # standard error may be what is full
                console.error(_sentence(error))
            raise SystemExit(1) from error
        finally:
            console.drop_unwritten()

    def invoke(self, ctx: Any) -> Any:
        """Run the command; Typer would end without a word at Ctrl-C."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            console.error("interrupted")
            raise typer.Exit(130) from interrupt


def _sentence(error: Exception) -> str:
    """What went wrong, for a user; what nobody foresaw is named by its type."""
    if isinstance(error, FamError):
        return str(error)
    if isinstance(error, OSError):  # a full disk, a folder that may not be written to
        return f"{error.strerror or error}{f': {error.filename!r}' if error.filename else ''}"
    if isinstance(error, ModuleNotFoundError):
        from famcli.version import PYTORCH

        package = (error.name or "").partition(".")[0]
        if package in PYTORCH:
            name = "PyTorch" if package == "torch" else package
            return f"this needs {name}, which is not installed: pip install {' '.join(PYTORCH)}"
    kind = type(error).__name__
    said = f"{kind}: {short(str(error))}" if str(error) else kind
    if isinstance(error, MemoryError):
        return f"memory ran out ({said}); try a smaller --batch-size, fewer --workers or smaller images"
    return f"{said}; this is a fault of fam, 'fam --debug ...' shows where it is: please report it"


app = typer.Typer(
    cls=FamGroup,
    name="fam",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from famcli.version import __version__

        console.result(f"fam {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[  # noqa: ARG001  (handled by its callback)
        bool, Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, Option("--debug", help="Show the whole traceback of an error.")] = False,
) -> None:
    """Find the object in images with Foreground Activation Maps, trained on image labels alone.

    Exit codes: 0 done, 1 an error or some inputs failed, 2 wrong usage, 130 interrupted.
    """
    console.debug = debug
    quiet_decoders()


app.command("predict")(predict.predict)
app.command("demo")(demo.demo)
app.command("app")(web.app)
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

"""``fam app``: a web page to drop photographs on."""

from __future__ import annotations

import webbrowser
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from typer import BadParameter, Option

from famcli.cli import completion
from famcli.cli.console import console
from famcli_models.checkpoint import packaged
from famcli_models.errors import ConfigError

MODELS = "Packaged name, checkpoint folder, or Hub id; again for several. By default all packaged models."
HOST = "Address to listen on; only this machine reaches the page unless another is given, 0.0.0.0 for example."
PORT = "By default the first free one from 7860 on."
BROWSER = "Open the page in the browser."
SPACE = "Make the page a Space of the Hugging Face Hub instead: write its folder and send it."


def app(
    model: Annotated[
        list[str] | None, Option("--model", "-m", help=MODELS, metavar="MODEL", autocompletion=completion.models)
    ] = None,
    host: Annotated[str, Option(help=HOST)] = "127.0.0.1",
    port: Annotated[int | None, Option(min=1, max=65_535, help=PORT)] = None,
    browser: Annotated[bool, Option(help=BROWSER)] = True,
    space: Annotated[str | None, Option(help=SPACE, metavar="ORG/NAME")] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Write the folder of the Space and do not send it.")] = False,
    out: Annotated[Path | None, Option("--out", "-o", help="That folder; NAME of ORG/NAME if not given.")] = None,
) -> None:
    """Open a local web page to drop photographs on; its address is printed, and Ctrl-C ends it.

    Shows heat map, boxes, parts and classes by any of the models, two beside each other if you like, at any threshold,
    and gives the boxes as COCO, YOLO, Pascal VOC or CSV. Needs the extra 'app'.

    Example: fam app --model runs/birds --model fam-lite0-ilsvrc
    """
    if find_spec("gradio") is None:
        raise ConfigError("the page is made with Gradio, which is not installed: pip install 'famcli[app]'")
    models = model or [*packaged()]
    if space is not None:
        _space(space, models, out, dry_run)
        return
    if dry_run or out is not None:
        raise BadParameter("--dry-run and --out are for --space")
    from famcli.web.server import LOOPBACK, serving, wait

    with serving(models, host=host, port=port) as url:
        if host not in LOOPBACK:
            console.warn(f"everybody who can reach this machine at {host} can use the page")
        console.result(url)
        if browser:
            webbrowser.open(url)
        wait()


def _space(repo: str, models: list[str], out: Path | None, dry_run: bool) -> None:
    """Write the folder of a Space, and list it or send it."""
    from famcli.hub.names import parse_repo
    from famcli.hub.push import space_files, upload
    from famcli.web.space import write_space

    folder = out or Path(parse_repo(repo).split("/")[1])
    write_space(folder, repo, models, console.say)
    if dry_run:
        console.result("\n".join(str(folder / file) for file in space_files(folder, repo)))
    else:
        console.result(upload(folder, repo, space=True, say=console.say))

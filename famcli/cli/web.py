"""``fam app``: a web page to drop photographs on."""

from __future__ import annotations

import threading
import webbrowser
from importlib.util import find_spec
from typing import Annotated

from typer import Option

from famcli.cli import completion
from famcli.cli.console import console
from famcli_models.checkpoint import packaged
from famcli_models.errors import ConfigError

MODELS = "Packaged name, checkpoint folder, or Hub id; again for several. By default all packaged models."
HOST = "Address to listen on; only this machine reaches the page unless another is given, 0.0.0.0 for example."
PORT = "By default the first free one from 7860 on."
BROWSER = "Open the page in the browser."


def app(
    model: Annotated[
        list[str] | None, Option("--model", "-m", help=MODELS, metavar="MODEL", autocompletion=completion.models)
    ] = None,
    host: Annotated[str, Option(help=HOST)] = "127.0.0.1",
    port: Annotated[int | None, Option(min=1, max=65_535, help=PORT)] = None,
    browser: Annotated[bool, Option(help=BROWSER)] = True,
) -> None:
    """Open a local web page to drop photographs on; its address is printed, and Ctrl-C ends it.

    Shows heat map, boxes, parts and classes by any of the models, two beside each other if you like, at any threshold,
    and gives the boxes as COCO, YOLO, Pascal VOC or CSV. Needs the extra 'app'.

    Example: fam app --model runs/birds --model fam-lite0-ilsvrc
    """
    if find_spec("gradio") is None:
        raise ConfigError("the page is made with Gradio, which is not installed: pip install 'famcli[app]'")
    from famcli.web.page import LOOPBACK, serving

    with serving(model or [*packaged()], host=host, port=port) as url:
        if host not in LOOPBACK:
            console.warn(f"everybody who can reach this machine at {host} can use the page")
        console.result(url)
        if browser:
            webbrowser.open(url)
        threading.Event().wait()
